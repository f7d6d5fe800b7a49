/* SPDX-License-Identifier: MIT */
/* Registers a mapped file, syncs it, says "ready", and waits for the end of standard input:
 * somebody else looks meanwhile. For each character that comes there, it syncs all and prints
 * how many milliseconds that took.
 *
 *   hold FILE MIB [changing]
 *
 * changing: stores to every page meanwhile, again and again.
 */
#include <poll.h>

#include "bench.h"

static void change(char *p, size_t len)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };

	for (unsigned n = 1; poll(&in, 1, 10) == 0; n++)
		for (size_t at = 0; at < len; at += 4096)
			*(volatile unsigned *)(p + at) = n;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	double begun;
	size_t len;
	char *p, c;

	if (argc < 3)
		return 2;
	len = strtoul(argv[2], NULL, 10) << 20;
	p = map_shared(make_file(argv[1], len, 1UL << 20), len);
	ring_open(&ring);
	pin(&ring, p, len);
	if (msync(p, len, MS_SYNC) < 0)
		die("msync");
	puts("ready");
	fflush(stdout);
	if (argc > 3)
		change(p, len);
	while (read(STDIN_FILENO, &c, 1) > 0) {
		begun = now_ms();
		if (msync(p, len, MS_SYNC) < 0)
			die("msync");
		printf("%.4f\n", now_ms() - begun);
		fflush(stdout);
	}
	return 0;
}
