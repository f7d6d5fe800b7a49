/* SPDX-License-Identifier: MIT */
/* In place of the keeper's main(): what its parts need of it. One program includes this once.
 */
#ifndef KEEPER_PARTS_H
#define KEEPER_PARTS_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "keeper/keeper.h"

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned said; /* lines */

void keeper_say(const char *fmt, ...)
{
	va_list ap;

	if (said++ > 100)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		abort();
	return p;
}

#endif
