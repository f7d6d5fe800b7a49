/* SPDX-License-Identifier: MIT */
/*
 * harmless FILE ROUNDS
 *
 * A program that offends nobody, and does much of what is looked at. Prints for each of what it
 * does the processor time of a round, in nanoseconds: "pread 123".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SIZE (64ul * 1024)

static char buffer[SIZE] __attribute__((aligned(4096)));
static struct io_uring ring;
static int fd;

static bool do_pread(void)
{
	char c;

	return pread(fd, &c, 1, 0) == 1;
}

/* Nothing there is touched: what the kernel does for each page would hide what is asked about.
 */
static bool map(int prot, int flags)
{
	void *p = mmap(NULL, SIZE, prot, flags, fd, 0);

	return p != MAP_FAILED && munmap(p, SIZE) == 0;
}

static bool do_private(void)
{
	return map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static bool do_shared(void)
{
	return map(PROT_READ, MAP_SHARED);
}

static bool do_writable(void)
{
	return map(PROT_READ | PROT_WRITE, MAP_SHARED);
}

static bool do_register(void)
{
	struct iovec range = { buffer, SIZE };

	return io_uring_register_buffers(&ring, &range, 1) == 0 &&
	       io_uring_unregister_buffers(&ring) == 0;
}

static long cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		bool (*call)(void);
	} test[] = { { "pread", do_pread },
		     { "private", do_private },
		     { "shared", do_shared },
		     { "writable", do_writable },
		     { "register", do_register } };
	int rounds = argc > 2 ? atoi(argv[2]) : 0;
	long begun;

	fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
	if (fd < 0 || ftruncate(fd, SIZE) < 0 || io_uring_queue_init(4, &ring, 0) < 0 ||
	    rounds < 1)
		return 2;
	for (size_t i = 0; i < sizeof(test) / sizeof(test[0]); i++) {
		begun = cpu_ns();
		for (int n = 0; n < rounds; n++)
			if (!test[i].call())
				return 1;
		printf("%s %ld\n", test[i].name, (cpu_ns() - begun) / rounds);
	}
	return 0;
}
