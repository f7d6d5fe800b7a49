// SPDX-License-Identifier: MIT
/*
 * slider FILE SIZE WINDOW ROUNDS [unmap]
 *
 * Goes over FILE with a window that it registers as a fixed buffer, lets a device write to, and
 * takes back, again and again. It maps the file once, or, with `unmap`, each window by itself.
 * Prints `done`, or where it was refused; exit status 0 or 3.
 */
#include "testlib.h"

static unsigned char *map_window(int fd, size_t len, size_t at)
{
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)at);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

/* The pattern of DEVICE, as a file without a name. */
static int make_pattern(size_t size)
{
	unsigned char *content = malloc(size);
	int fd = memfd_create("pattern", MFD_CLOEXEC);

	if (!content || fd < 0)
		exit(2);
	fill(content, size, 0, DEVICE);
	if (pwrite(fd, content, size, 0) != (ssize_t)size)
		exit(2);
	free(content);
	return fd;
}

int main(int argc, char **argv)
{
	const bool unmap = argc > 5;
	size_t size, window, at;
	unsigned char *whole = NULL, *map;
	struct io_uring ring;
	int fd, source, ret, rounds;

	if (argc < 5)
		return 2;
	size = strtoul(argv[2], NULL, 10);
	window = strtoul(argv[3], NULL, 10);
	rounds = atoi(argv[4]);
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || io_uring_queue_init(8, &ring, 0) < 0)
		return 2;
	source = make_pattern(size);
	if (!unmap)
		whole = map_window(fd, size, 0);
	for (; rounds; rounds--) {
		for (at = 0; at < size; at += window) {
			map = unmap ? map_window(fd, window, at) : whole + at;
			ret = register_one(&ring, map, window);
			if (ret) {
				printf("refused at %zu: %s\n", at, strerror(-ret));
				return 3;
			}
			read_fixed(&ring, source, map, window, (off_t)at, 0);
			io_uring_unregister_buffers(&ring);
			if (unmap)
				munmap(map, window);
		}
	}
	puts("done");
	return 0;
}
