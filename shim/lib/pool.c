/* SPDX-License-Identifier: MIT */
#include "lib/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/real.h"

#define CHUNK (64UL * 1024)

static int grow(struct pool *p)
{
	char *chunk, *node;

	chunk = real.mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	if (chunk == MAP_FAILED)
		return -ENOMEM;
	for (node = chunk; node + p->size <= chunk + CHUNK; node += p->size) {
		*(void **)(void *)node = p->free;
		p->free = node;
	}
	return 0;
}

void *pool_get(struct pool *p)
{
	void *node;

	if (!p->free && grow(p) < 0)
		return NULL;
	node = p->free;
	p->free = *(void **)node;
	return memset(node, 0, p->size);
}

void pool_put(struct pool *p, void *node)
{
	*(void **)node = p->free;
	p->free = node;
}

int pool_reserve(struct pool *p, size_t n)
{
	void *node = p->free;
	size_t have;

	for (have = 0; node && have < n; have++)
		node = *(void **)node;
	for (; have < n; have += CHUNK / p->size)
		if (grow(p) < 0)
			return -ENOMEM;
	return 0;
}
