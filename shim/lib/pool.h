/* SPDX-License-Identifier: MIT */
/* Fixed-size nodes from mapped chunks. The library cannot use malloc(): its mmap() hook runs
 * inside allocators. Not locked; the owner's lock covers it. */
#ifndef PINSTAGE_POOL_H
#define PINSTAGE_POOL_H

#include <stddef.h>

struct pool {
	size_t size; /* bytes per node, at least a pointer's */
	void *free;  /* list through the nodes' first word */
};

#define POOL_INIT(type)              \
	{                            \
		.size = sizeof(type) \
	}

void *pool_get(struct pool *p); /* zeroed, or NULL */
void pool_put(struct pool *p, void *node);

/* Makes sure that the next n pool_get() succeed. 0 or -ENOMEM. */
int pool_reserve(struct pool *p, size_t n);

#endif
