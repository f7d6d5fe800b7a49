/* SPDX-License-Identifier: MIT */
/*
 * harmless FILE ROUNDS
 *
 * A program that offends nobody, and does much of what is looked at: maps a file privately and
 * shared, reads it, registers anonymous memory. Prints the processor time it took, in
 * microseconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SIZE (64ul * 1024)

static char buffer[SIZE] __attribute__((aligned(4096)));

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[2]) : 0, fd;
	struct io_uring ring;
	struct iovec range;
	struct timespec t;
	char *p, c;

	fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
	if (fd < 0 || ftruncate(fd, SIZE) < 0 || io_uring_queue_init(4, &ring, 0) < 0)
		return 2;
	range.iov_base = buffer;
	range.iov_len = SIZE;
	for (int i = 0; i < rounds; i++) {
		p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED || munmap(p, SIZE) < 0)
			return 1;
		p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED || pread(fd, &c, 1, i) != 1 || munmap(p, SIZE) < 0)
			return 1;
		if (io_uring_register_buffers(&ring, &range, 1) < 0)
			return 1;
		io_uring_unregister_buffers(&ring);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	printf("%ld\n", (long)(t.tv_sec * 1000000 + t.tv_nsec / 1000));
	return 0;
}
