/* SPDX-License-Identifier: MIT */
#include "lib/scratch.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/util.h"
#include "lib/real.h"

/* Under mlockall(MCL_FUTURE) what is mapped is locked, populated, and counts against the limit.
 * A page that is unlocked then does not become so again as it grows. */
int scratch_open(struct scratch *s)
{
	const size_t first = page_size();
	void *p;

	s->used = 0;
	p = real.mmap(NULL, first, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	(void)real.munlock(p, first);
	s->base = real.mremap(p, first, SCRATCH_SIZE, MREMAP_MAYMOVE, NULL);
	if (s->base != MAP_FAILED)
		return 0;
	real.munmap(p, first);
	return -ENOMEM;
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
