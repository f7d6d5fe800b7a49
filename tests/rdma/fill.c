/* SPDX-License-Identifier: MIT */
/*
 * Preloaded under perftest, which fills its buffers from rand(), seeded with the time: with one
 * byte instead, another one where it is told whom to connect to, so that what it transfers is
 * known.
 */
#include <stdlib.h>
#include <string.h>

static int byte;

__attribute__((constructor)) static void begin(int argc, char **argv)
{
	byte = argc > 1 && !strcmp(argv[argc - 1], "127.0.0.1") ? 'C' : 'S';
}

__attribute__((visibility("default"))) int rand(void)
{
	return byte;
}
