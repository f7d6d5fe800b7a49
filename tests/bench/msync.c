/* SPDX-License-Identifier: MIT */
/*
 * Stores to some pages of a mapped file, then msync(MS_SYNC): milliseconds for both together.
 *
 *   msync FILE MIB STEP VARIANT [QUESTION]
 *
 * STEP: the file was written in pieces of so many bytes, which decides how large the folios of
 * the page cache are. VARIANT: native; staged (registered), idle (registered once, not now):
 * both need the library; bounce: an anonymous buffer, all of which is written back each time.
 */
#include <stdbool.h>

#include "bench.h"

#define PAGE 4096UL

static char *mem;
static size_t len;
static int fd;
static bool bounce;
static const char *only; /* this question; NULL: all */

/* Every how many pages one is stored to. */
static void store(size_t from, size_t to, size_t every)
{
	static unsigned count;

	count++;
	for (size_t at = from; at < to; at += every * PAGE)
		*(volatile unsigned *)(mem + at) = count;
}

static void sync_range(size_t from, size_t to)
{
	if (!bounce) {
		if (msync(mem + from, to - from, MS_SYNC) < 0)
			die("msync");
		return;
	}
	for (ssize_t n; from < to; from += (size_t)n) {
		n = pwrite(fd, mem + from, to - from, (off_t)from);
		if (n <= 0)
			die("pwrite");
	}
	if (fdatasync(fd) < 0)
		die("fdatasync");
}

static void measure(const char *question, const char *variant, size_t from, size_t to,
		    size_t every, bool all, int rounds)
{
	for (int i = 0; i < rounds && (!only || !strcmp(only, question)); i++) {
		double begun = now_ms();

		store(from, to, every);
		sync_range(all ? 0 : from, all ? len : to);
		printf("%s %s %.4f\n", question, variant, now_ms() - begun);
		fflush(stdout); /* what is there when time is up */
	}
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	const char *variant;

	if (argc < 5)
		return 2;
	only = argv[5];
	variant = argv[4];
	len = strtoul(argv[2], NULL, 10) << 20;
	fd = make_file(argv[1], len, strtoul(argv[3], NULL, 10));
	bounce = !strcmp(variant, "bounce");
	if (bounce) {
		mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);
		if (mem == MAP_FAILED || pread(fd, mem, len, 0) < 0)
			die("buffer");
	} else {
		mem = map_shared(fd, len);
	}
	if (!strcmp(variant, "staged") || !strcmp(variant, "idle")) {
		ring_open(&ring);
		pin(&ring, mem, len);
		if (!strcmp(variant, "idle"))
			unpin(&ring);
	}
	measure("msync-100%", variant, 0, len, 1, true, 3);
	measure("msync-33%", variant, 0, len, 3, true, 3);
	measure("msync-10%", variant, 0, len, 10, true, 3);
	measure("msync-1%", variant, 0, len, 100, true, 3);
	measure("msync-page", variant, len / 2, len / 2 + PAGE, 1, false, 20);
	measure("msync-one-of-all", variant, len / 2, len / 2 + PAGE, 1, true, bounce ? 3 : 10);
	return 0;
}
