/* SPDX-License-Identifier: MIT */
/* Registers a mapped file, syncs it, says "ready", and waits for the end of standard input:
 * somebody else looks meanwhile.
 *
 *   hold FILE MIB
 */
#include "bench.h"

int main(int argc, char **argv)
{
	struct io_uring ring;
	size_t len;
	char *p, c;

	if (argc != 3)
		return 2;
	len = strtoul(argv[2], NULL, 10) << 20;
	p = map_shared(make_file(argv[1], len, 1UL << 20), len);
	ring_open(&ring);
	pin(&ring, p, len);
	if (msync(p, len, MS_SYNC) < 0)
		die("msync");
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}
