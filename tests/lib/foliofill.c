// SPDX-License-Identifier: MIT
/*
 * foliofill FILE
 *
 * What ext4 and xfs do without pinstage (Linux 6.18): who stores to one page of a hole through
 * a mapping gets blocks for the whole folio that the page lies in, and reading ahead makes
 * folios of many pages. FILE is made, a hole of 16 MiB; nine pages of it are stored to, before
 * and after it was read. Says how many pages are no hole any more.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096L
#define SIZE (4096 * PAGE)
#define STEP (64 * 1024)

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void read_all(int fd)
{
	static char buf[STEP];

	for (off_t at = 0; at < SIZE; at += STEP)
		if (pread(fd, buf, STEP, at) != STEP)
			die("pread");
}

static long pages_of_data(int fd)
{
	off_t data, hole = 0;
	long pages = 0;

	while ((data = lseek(fd, hole, SEEK_DATA)) >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		pages += (hole - data) / PAGE;
	}
	return pages;
}

static long store_to_nine(const char *path, int read_first)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	volatile char *map;
	long pages;

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		die(path);
	if (read_first)
		read_all(fd);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	for (long p = 40; p < SIZE / PAGE; p += 500)
		map[p * PAGE] = 1;
	if (fsync(fd) < 0)
		die("fsync");
	pages = pages_of_data(fd);
	munmap((void *)(size_t)map, SIZE);
	close(fd);
	return pages;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	printf("9 pages stored to: %ld are no hole, ", store_to_nine(argv[1], 0));
	printf("and %ld where it was read before\n", store_to_nine(argv[1], 1));
	unlink(argv[1]);
	return 0;
}
