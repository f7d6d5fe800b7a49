/* SPDX-License-Identifier: MIT */
/*
 * Many registrations over many mappings of one file: milliseconds for one of the first, and for
 * one of the later ones (of the processor). Needs the library preloaded.
 *
 *   many FILE MAPPINGS REGISTRATIONS
 */
#include "bench.h"

#define PAGE 4096UL

int main(int argc, char **argv)
{
	unsigned mappings, registrations, i;
	struct io_uring ring;
	double begun;
	char **map;
	int fd;

	if (argc != 4)
		return 2;
	mappings = (unsigned)strtoul(argv[2], NULL, 10);
	registrations = (unsigned)strtoul(argv[3], NULL, 10);
	map = calloc(mappings, sizeof(*map));
	if (!map)
		die("memory");
	fd = make_file(argv[1], 2 * mappings * PAGE, 2 * PAGE);
	ring_open(&ring);
	/* Every second page, so that no two mappings are one. */
	for (i = 0; i < mappings; i++) {
		map[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			      (off_t)(2 * i * PAGE));
		if (map[i] == MAP_FAILED)
			die("mmap");
	}
	begun = now_ms();
	for (i = 0; i < mappings; i++) {
		pin(&ring, map[i], PAGE);
		unpin(&ring);
	}
	printf("many-first %u %.4f\n", mappings, (now_ms() - begun) / mappings);
	begun = cpu_ms();
	for (i = 0; i < registrations; i++) {
		pin(&ring, map[(i * 7919ULL) % mappings], PAGE);
		unpin(&ring);
	}
	printf("many-later %u %.4f\n", mappings, (cpu_ms() - begun) / registrations);
	return 0;
}
