/* SPDX-License-Identifier: MIT */
/*
 * The first registration of a clean, cached file mapping, and a later one, against anonymous
 * memory of the same size: milliseconds, one line each. Needs the library preloaded.
 *
 *   register FILE KIB
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double registration(struct io_uring *ring, void *p, size_t len)
{
	struct iovec iov = { p, len };
	double begun = now_ms(), took;

	if (io_uring_register_buffers(ring, &iov, 1) < 0) {
		fprintf(stderr, "register: refused\n");
		exit(1);
	}
	took = now_ms() - begun;
	io_uring_unregister_buffers(ring);
	return took;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	size_t len, i;
	char *anon, *map;
	int fd;

	if (argc != 3)
		return 2;
	len = strtoul(argv[2], NULL, 10) * 1024;
	fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	anon = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || anon == MAP_FAILED || io_uring_queue_init(4, &ring, 0) < 0)
		return 1;
	memset(anon, 1, len);
	for (i = 0; i < len; i += 4096)
		if (write(fd, anon + i, 4096) != 4096)
			return 1;
	fsync(fd);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return 1;
	printf("anonymous %.3f\n", registration(&ring, anon, len));
	printf("first %.3f\n", registration(&ring, map, len));
	printf("later %.3f\n", registration(&ring, map, len));
	return 0;
}
