/* SPDX-License-Identifier: MIT */
/*
 * The first registration of a clean, cached file mapping against the least that it could be, a
 * copy by sendfile() into a fresh memfd and the native registration of that; and later ones
 * against anonymous memory. Milliseconds, of the processor for later ones. Needs the library
 * preloaded.
 *
 *   register FILE NAME KIB
 *   register FILE NAME KIB staged   measures what is staged before what it is compared with
 *   register FILE NAME KIB alone    the first one only, milliseconds for each GiB: there may be
 * no room for what it is compared with
 */
#include <stdbool.h>
#include <sys/sendfile.h>

#include "bench.h"

static double registration(struct io_uring *ring, void *p, size_t len)
{
	double begun = now_ms(), took;

	pin(ring, p, len);
	took = now_ms() - begun;
	unpin(ring);
	return took;
}

static double least(struct io_uring *ring, int fd, size_t len)
{
	double begun = now_ms(), took;
	off_t off = 0;
	int memfd = memfd_create("bench", MFD_CLOEXEC);
	void *p;

	if (memfd < 0 || ftruncate(memfd, (off_t)len) < 0)
		die("memfd");
	while ((size_t)off < len)
		if (sendfile(memfd, fd, &off, len - (size_t)off) <= 0)
			die("sendfile");
	p = map_shared(memfd, len);
	pin(ring, p, len);
	took = now_ms() - begun;
	unpin(ring);
	munmap(p, len);
	close(memfd);
	return took;
}

/* Registers and unregisters, many times for small ranges: processor time, for it is all the
 * kernel's work in this thread. */
static double both_ways(struct io_uring *ring, void *p, size_t len)
{
	const unsigned n = len < (1UL << 20) ? 1000 : len < (1UL << 28) ? 20 : 3;
	double begun = cpu_ms();

	for (unsigned i = 0; i < n; i++) {
		pin(ring, p, len);
		unpin(ring);
	}
	return (cpu_ms() - begun) / n;
}

/* The host of a virtual machine gives it memory when that is first touched: not while time is
 * taken. */
static void warm_up(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("memory");
	memset(p, 1, len);
	munmap(p, len);
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	const char *how;
	size_t len;
	char *anon, *map, *other, name[4096];
	bool first;
	int fd, twin;

	if (argc < 4)
		return 2;
	len = strtoul(argv[3], NULL, 10) * 1024;
	how = argc > 4 ? argv[4] : "";
	ring_open(&ring);
	/* The keeper's start is not what is asked for. */
	snprintf(name, sizeof(name), "%s.other", argv[1]);
	other = map_shared(make_file(name, 4096, 4096), 4096);
	(void)registration(&ring, other, 4096);
	fd = make_file(argv[1], len, 4096);
	map = map_shared(fd, len);
	if (!strcmp(how, "alone")) {
		warm_up(len);
		printf("%s %s %.4f\n", argv[2], argv[3],
		       registration(&ring, map, len) * (1UL << 30) / len);
		return 0;
	}
	/* A file of its own, for staging takes the other one from the page cache. */
	snprintf(name, sizeof(name), "%s.twin", argv[1]);
	twin = make_file(name, len, 4096);
	anon = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (anon == MAP_FAILED)
		die("mmap");
	memset(anon, 1, len);
	warm_up(2 * len);
	first = !strcmp(how, "staged");
	for (int i = 0; i < 2; i++)
		if (first == (i == 0))
			printf("first-%s staged %.4f\n", argv[2],
			       registration(&ring, map, len));
		else
			printf("first-%s least %.4f\n", argv[2], least(&ring, twin, len));
	for (int i = 0; i < 2; i++)
		if (first == (i == 0))
			printf("later-%s staged %.4f\n", argv[2], both_ways(&ring, map, len));
		else
			printf("later-%s anonymous %.4f\n", argv[2],
			       both_ways(&ring, anon, len));
	return 0;
}
