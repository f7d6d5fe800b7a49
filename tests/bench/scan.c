/* SPDX-License-Identifier: MIT */
/*
 * How long it takes to find that nothing has changed: msync() of a staged range, and the digest
 * of its pages by one thread alone. Milliseconds. Needs the library preloaded.
 *
 *   scan FILE MIB
 */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

#include "bench.h"

int main(int argc, char **argv)
{
	struct io_uring ring;
	uint64_t sum = 0;
	double begun;
	size_t len;
	char *p;

	if (argc != 3)
		return 2;
	len = strtoul(argv[2], NULL, 10) << 20;
	p = map_shared(make_file(argv[1], len, 1UL << 20), len);
	ring_open(&ring);
	pin(&ring, p, len);
	if (msync(p, len, MS_SYNC) < 0)
		die("msync");
	for (int i = 0; i < 5; i++) {
		begun = now_ms();
		for (size_t at = 0; at < len; at += 4096)
			sum += XXH3_128bits_withSeed(p + at, 4096, 1).low64;
		printf("scan digest %.4f\n", now_ms() - begun);
		begun = now_ms();
		if (msync(p, len, MS_SYNC) < 0)
			die("msync");
		printf("scan staged %.4f\n", now_ms() - begun);
	}
	return sum == 0; /* so that it is computed */
}
