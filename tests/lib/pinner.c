// SPDX-License-Identifier: MIT
/*
 * pinner FILE SIZE [wait]
 *
 * The smallest program of the kind that the shim is for. Maps FILE, registers it as a fixed
 * buffer, lets the device write its first half, stores into the second, and returns. Prints
 * `registered` or `refused: ERROR`; exit status 0 or 3. Where it is refused it stores all of
 * it. With `wait` it then waits for the end of its standard input, and does what it reads
 * there:
 *
 *   s   stores into all of it again, and prints `stored`
 *   x   stores something else, and prints `cleared`
 *   m   calls msync(), and prints `synced` or its error
 *   f   calls fsync(), and prints `flushed` or its error
 *   y   calls syncfs() on the working directory, likewise
 *   k   closes its descriptor of FILE, and prints `closed`
 *   u   unmaps all of it, and prints `unmapped`
 *   c   goes on in a child, whose end is the program's, and prints `child`
 *   d   lets the device write all of it, and prints `received`
 *   b   stores something else into its first page by write(), in a thread that may have to
 *       wait, reads and writes `beside` in the working directory meanwhile, and prints `beside`
 *   t   stores into its first page and has it synced by many threads, each in a call of its
 * own, that have to wait; registers, stores into and syncs `beside` in the working directory
 *       meanwhile, and prints `beside`
 *   w   the same with a few threads; once they have ended, either again
 *   n   goes on as nobody, and prints `nobody`
 *   e   has no descriptors left but two, and prints `few`
 *   p   takes the buffer back, punches a hole into its second half, prints `punched` or
 *       the error, and stores into the first half
 */
#include "held.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define AGAIN 5 /* the seed of what is stored last */

static int make_pipe_source(size_t len, unsigned seed)
{
	unsigned char *content = malloc(len);
	int fd = memfd_create("source", MFD_CLOEXEC);

	if (!content || fd < 0)
		exit(2);
	fill(content, len, 0, seed);
	if (pwrite(fd, content, len, 0) != (ssize_t)len)
		exit(2);
	free(content);
	return fd;
}

static void *write_page(void *fd)
{
	unsigned char page[4096];

	fill(page, sizeof(page), 0, AGAIN);
	if (pwrite(*(int *)fd, page, sizeof(page), 0) != (ssize_t)sizeof(page))
		exit(2);
	return NULL;
}

static const char *go_on_beside(int fd)
{
	const int beside = open("beside", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	static pthread_t thread;
	static int file;
	char c = 'c';

	file = fd;
	if (beside < 0 || pthread_create(&thread, NULL, write_page, &file) != 0 ||
	    !poll_until(thread_sleeps_in, &(long){ SYS_pwrite64 }, 20000))
		return "the thread does not wait";
	if (pwrite(beside, &c, 1, 0) != 1 || pread(beside, &c, 1, 0) != 1)
		return strerror(errno);
	close(beside);
	return "beside";
}

#define THREADS 40

static void *sync_page(void *map)
{
	if (msync(map, 4096, MS_SYNC) < 0)
		exit(2);
	return NULL;
}

/* Of those that have to wait some have their question on the way, and the rest waits for that.
 */
static bool threads_wait(unsigned char *map, unsigned n, pthread_t *ret)
{
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&ret[i], NULL, sync_page, map) != 0)
			return false;
	return poll_until(threads_sleep_in, &(struct calls){ SYS_recvmsg, SYS_futex, n },
			  20000);
}

/* *page: of `beside`, NULL the first time. */
static const char *sync_beside(unsigned char *map, unsigned threads, unsigned char **page)
{
	static struct io_uring ring;
	static pthread_t thread[THREADS];
	int beside;

	fill(map, 4096, 0, threads < THREADS ? NEW : AGAIN);
	for (int i = 0; *page && thread[i]; i++) /* of the last time */
		pthread_join(thread[i], NULL);
	if (!threads_wait(map, threads, thread))
		return "the threads do not wait";
	if (!*page) {
		beside = open("beside", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (beside < 0 || ftruncate(beside, 4096) < 0)
			return strerror(errno);
		*page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, beside, 0);
		if (*page == MAP_FAILED || io_uring_queue_init(8, &ring, 0) < 0 ||
		    register_one(&ring, *page, 4096) != 0)
			return "not registered";
	}
	fill(*page, 4096, 0, AGAIN);
	if (msync(*page, 4096, MS_SYNC) < 0)
		return strerror(errno);
	return "beside";
}

/* The library wants its own among the upper half; two of the others are left for what looks at
 * the threads. */
static const char *use_up_descriptors(void)
{
	struct rlimit few = { 64, 64 };
	int fd, first = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (first < 0 || setrlimit(RLIMIT_NOFILE, &few) < 0)
		return strerror(errno);
	do
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (fd >= 0);
	close(first);
	close(first + 1);
	return "few";
}

static void go_on_in_a_child(void)
{
	const pid_t child = fork();
	int status;

	if (child == 0)
		return;
	if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
		exit(2);
	exit(WEXITSTATUS(status));
}

static void obey(char c, struct io_uring *ring, int fd, unsigned char *map, size_t size)
{
	static unsigned char *beside;
	const char *done = NULL;

	if (c == 's') {
		fill(map, size, 0, AGAIN);
		done = "stored";
	} else if (c == 'x') {
		memset(map, 0, size);
		done = "cleared";
	} else if (c == 'm') {
		done = msync(map, size, MS_SYNC) < 0 ? strerror(errno) : "synced";
	} else if (c == 'f') {
		done = fsync(fd) < 0 ? strerror(errno) : "flushed";
	} else if (c == 'y') {
		done = syncfs(open(".", O_RDONLY | O_CLOEXEC)) < 0 ? strerror(errno)
								   : "flushed";
	} else if (c == 'u') {
		done = munmap(map, size) < 0 ? strerror(errno) : "unmapped";
	} else if (c == 'k') {
		done = close(fd) < 0 ? strerror(errno) : "closed";
	} else if (c == 'c') {
		go_on_in_a_child();
		done = "child";
	} else if (c == 'd') {
		read_fixed(ring, make_pipe_source(size, AGAIN), map, size, 0, 0);
		done = "received";
	} else if (c == 'b') {
		done = go_on_beside(fd);
	} else if (c == 't') {
		done = sync_beside(map, THREADS, &beside);
	} else if (c == 'w') {
		done = sync_beside(map, 4, &beside);
	} else if (c == 'n') {
		done = seteuid(65534) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0 ? strerror(errno)
									   : "nobody";
	} else if (c == 'e') {
		done = use_up_descriptors();
	} else if (c == 'p') {
		io_uring_unregister_buffers(ring);
		done = madvise(map + size / 2, size / 2, MADV_REMOVE) < 0 ? strerror(errno)
									  : "punched";
		fill(map, size / 2, 0, DEVICE);
	}
	if (!done)
		return;
	puts(done);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	struct io_uring ring;
	unsigned char *map;
	int fd, ret;

	if (size == 0)
		return 2;
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
		perror(argv[1]);
		return 2;
	}
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || io_uring_queue_init(8, &ring, 0) < 0) {
		perror("mmap or io_uring_queue_init");
		return 2;
	}
	ret = register_one(&ring, map, size);
	if (ret == 0) {
		puts("registered");
		read_fixed(&ring, make_pipe_source(size / 2, DEVICE), map, size / 2, 0, 0);
		fill(map + size / 2, size / 2, size / 2, DEVICE);
	} else {
		printf("refused: %s\n", strerror(-ret));
		fill(map, size, 0, DEVICE);
	}
	fflush(stdout);
	if (argc > 3) {
		char c;

		while (read(0, &c, 1) > 0)
			obey(c, &ring, fd, map, size);
	}
	return ret == 0 ? 0 : 3;
}
