/* SPDX-License-Identifier: MIT */
#include "lib/scratch.h"

#include <errno.h>
#include <sys/mman.h>

#include "lib/real.h"

int scratch_open(struct scratch *s)
{
	s->used = 0;
	s->base = real.mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return s->base == MAP_FAILED ? -ENOMEM : 0;
}

void scratch_close(struct scratch *s)
{
	real.munmap(s->base, SCRATCH_SIZE);
}

void *scratch_get(struct scratch *s, size_t size)
{
	const size_t align = 16;
	char *p = s->base + s->used;

	if (size > SCRATCH_SIZE - align - s->used)
		return NULL;
	s->used += (size + align - 1) & ~(align - 1);
	return p;
}
