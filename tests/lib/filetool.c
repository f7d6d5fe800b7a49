// SPDX-License-Identifier: MIT
/*
 * What tests let a process without the shim do to a file. Exit status 0 when it worked, 1 when
 * the answer is no, 2 when it could not be asked.
 *
 *   filetool write FILE OFFSET LEN SEED      writes the pattern of SEED
 *   filetool store FILE OFFSET LEN SEED      the same, through a mapping
 *   filetool store-evicted FD OFFSET LEN SEED  the same of a descriptor that is open already,
 * and lets go of the page cache filetool truncate FILE SIZE filetool punch FILE OFFSET LEN
 *   filetool hole FILE OFFSET LEN            is all of it a hole?
 *   filetool zero FILE OFFSET LEN            does all of it read as zeroes?
 *   filetool same FILE FILE                  are they of the same content?
 *   filetool seal FILE                       a memfd, against writing
 *   filetool lockable FILE                   can another process take a POSIX write lock?
 *   filetool flockable FILE                  can another process flock() it?
 *   filetool squat SOCKET UID                listens there as another user, in the background
 *   filetool resident FD LEN                 prints how many bytes of it the page cache holds;
 *                                            opens nothing, which the keeper would hear
 *   filetool holds FD OFFSET LEN SEED        does it read as the pattern of SEED? Opens nothing
 */
#include "testlib.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

static int write_pattern(int fd, off_t offset, size_t len, unsigned seed)
{
	unsigned char *buf = malloc(len + 1);

	if (!buf)
		return 2;
	fill(buf, len, (uint64_t)offset, seed);
	return pwrite(fd, buf, len, offset) == (ssize_t)len ? 0 : 2;
}

static int store_pattern(int fd, off_t offset, size_t len, unsigned seed)
{
	unsigned char *map =
		mmap(NULL, (size_t)offset + len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return 2;
	fill(map + offset, len, (uint64_t)offset, seed);
	return 0;
}

static int store_evicted(int fd, off_t offset, size_t len, unsigned seed)
{
	const size_t size = (size_t)offset + len;
	unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return 2;
	fill(map + offset, len, (uint64_t)offset, seed);
	if (msync(map, size, MS_SYNC) < 0 || munmap(map, size) < 0)
		return 2;
	return posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? 2 : 0;
}

static int is_hole(int fd, off_t offset, size_t len)
{
	off_t data = lseek(fd, offset, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? 0 : 2;
	return data >= offset + (off_t)len ? 0 : 1;
}

static int is_zero(int fd, off_t offset, size_t len)
{
	unsigned char *buf = malloc(len + 1);

	if (!buf || pread(fd, buf, len, offset) != (ssize_t)len)
		return 2;
	for (size_t i = 0; i < len; i++) {
		if (buf[i])
			return 1;
	}
	return 0;
}

static int is_same(int fd, const char *path)
{
	int other = open(path, O_RDONLY | O_CLOEXEC);
	char a[4096], b[4096];
	off_t at = 0;
	ssize_t n;

	if (other < 0)
		return 2;
	while ((n = pread(fd, a, sizeof(a), at)) > 0) {
		if (pread(other, b, sizeof(b), at) != n || memcmp(a, b, (size_t)n) != 0)
			return 1;
		at += n;
	}
	return n < 0 ? 2 : pread(other, b, 1, at) != 0;
}

static int is_lockable(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? 1 : 2;
}

static int is_flockable(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? 1 : 2;
}

/* Takes one connection and one message, and never answers. */
static int squat(const char *path, uid_t uid)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char buf[64];

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || setuid(uid) < 0 ||
	    listen(listener, 8) < 0)
		return 2;
	if (fork() > 0)
		return 0;
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	alarm(60);
	for (;;) {
		int conn = accept(listener, NULL, NULL);

		if (conn < 0 || recv(conn, buf, sizeof(buf), 0) < 0)
			return 0;
		close(conn);
	}
}

static int print_resident(int fd, size_t len)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (len + page - 1) / page;
	unsigned char *in = malloc(pages + 1);
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	size_t n = 0;

	if (!in || map == MAP_FAILED || mincore(map, len, in) < 0)
		return 2;
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	printf("%zu\n", n * page);
	return 0;
}

static int holds(int fd, off_t offset, size_t len, unsigned seed)
{
	unsigned char *buf = malloc(len + 1);

	if (!buf || pread(fd, buf, len, offset) != (ssize_t)len)
		return 2;
	return differs(buf, len, (uint64_t)offset, seed) >= 0;
}

int main(int argc, char **argv)
{
	long long n[3] = { 0 };
	int fd;

	if (argc < 3)
		return 2;
	for (int i = 0; i < 3 && i + 3 < argc; i++)
		n[i] = atoll(argv[i + 3]);
	if (!strcmp(argv[1], "squat"))
		return squat(argv[2], (uid_t)n[0]);
	if (!strcmp(argv[1], "store-evicted"))
		return store_evicted(atoi(argv[2]), n[0], (size_t)n[1], (unsigned)n[2]);
	if (!strcmp(argv[1], "resident"))
		return print_resident(atoi(argv[2]), (size_t)n[0]);
	if (!strcmp(argv[1], "holds"))
		return holds(atoi(argv[2]), n[0], (size_t)n[1], (unsigned)n[2]);
	fd = open(argv[2], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 2;
	if (!strcmp(argv[1], "write"))
		return write_pattern(fd, n[0], (size_t)n[1], (unsigned)n[2]);
	if (!strcmp(argv[1], "store"))
		return store_pattern(fd, n[0], (size_t)n[1], (unsigned)n[2]);
	if (!strcmp(argv[1], "truncate"))
		return ftruncate(fd, n[0]) == 0 ? 0 : 2;
	if (!strcmp(argv[1], "punch"))
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, n[0], n[1])
			       ? 2
			       : 0;
	if (!strcmp(argv[1], "hole"))
		return is_hole(fd, n[0], (size_t)n[1]);
	if (!strcmp(argv[1], "zero"))
		return is_zero(fd, n[0], (size_t)n[1]);
	if (!strcmp(argv[1], "same"))
		return argc > 3 ? is_same(fd, argv[3]) : 2;
	if (!strcmp(argv[1], "seal"))
		return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0 ? 0 : 1;
	if (!strcmp(argv[1], "lockable"))
		return is_lockable(fd);
	if (!strcmp(argv[1], "flockable"))
		return is_flockable(fd);
	return 2;
}
