// SPDX-License-Identifier: MIT
/*
 * holder FILE
 *
 * Maps all of FILE, registers it, and then does what it is told, a line of standard input at a
 * time, and says what came out, an error by its name:
 *
 *   store SEED    fills the memory with the pattern of SEED
 *   msync, fsync
 *   msync BYTES   of the first ones
 *   check SEED    does the memory hold the pattern of SEED?
 *   read SEED     do read(), pread() and preadv() give that pattern?
 *   remap         lets go of the memory and maps the file again
 *   exit
 */
#include "testlib.h"

static unsigned char *map;
static size_t size;
static int fd;

static void say(int ret)
{
	puts(ret ? strerrorname_np(errno) : "ok");
	fflush(stdout);
}

/* Pieces of no page's size, so that one call asks for parts of pages. */
static bool reads(unsigned seed)
{
	enum { PIECE = 300000 };
	static unsigned char buf[PIECE];
	struct iovec iov[2] = { { buf, 1000 }, { buf + 1000, PIECE - 1000 } };
	size_t at;
	ssize_t n = 0;

	for (unsigned how = 0; how < 3; how++) {
		if (lseek(fd, 0, SEEK_SET) < 0)
			return false;
		for (at = 0; at < size; at += (size_t)n) {
			memset(buf, 0, sizeof(buf));
			n = how == 0   ? read(fd, buf, PIECE)
			    : how == 1 ? pread(fd, buf, PIECE, (off_t)at)
				       : preadv(fd, iov, 2, (off_t)at);
			if (n <= 0 || differs(buf, (size_t)n, at, seed) >= 0)
				return false;
		}
	}
	return true;
}

static int remap(struct io_uring *ring)
{
	(void)io_uring_unregister_buffers(ring);
	if (munmap(map, size) < 0)
		return -1;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? -1 : 0;
}

static void obey(struct io_uring *ring, const char *line)
{
	unsigned seed = 0;
	size_t bytes;

	if (sscanf(line, "store %u", &seed) == 1) {
		fill(map, size, 0, seed);
		say(0);
	} else if (sscanf(line, "check %u", &seed) == 1) {
		errno = EILSEQ;
		say(differs(map, size, 0, seed) >= 0);
	} else if (sscanf(line, "read %u", &seed) == 1) {
		errno = EILSEQ;
		say(!reads(seed));
	} else if (sscanf(line, "msync %zu", &bytes) == 1) {
		say(msync(map, bytes, MS_SYNC));
	} else if (!strcmp(line, "msync\n")) {
		say(msync(map, size, MS_SYNC));
	} else if (!strcmp(line, "fsync\n")) {
		say(fsync(fd));
	} else if (!strcmp(line, "remap\n")) {
		say(remap(ring));
	} else {
		exit(strcmp(line, "exit\n") ? 2 : 0);
	}
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	struct stat st;
	char line[64];

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(argv[1]);
		return 2;
	}
	size = (size_t)st.st_size;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || io_uring_queue_init(8, &ring, 0) < 0)
		return 2;
	errno = -register_one(&ring, map, size);
	say(errno);
	while (fgets(line, sizeof(line), stdin))
		obey(&ring, line);
	return 0;
}
