/* SPDX-License-Identifier: MIT */
/*
 * Which file backs which address: an ordered map of disjoint address ranges. Plain data, no
 * system call but the pool's, no lock; space.h owns the one instance.
 */
#ifndef PINSTAGE_AREAS_H
#define PINSTAGE_AREAS_H

#include <bsd/sys/tree.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/pool.h"

struct file;
struct lot;
struct segment;

struct area {
	RB_ENTRY(area) node;
	uintptr_t start, end; /* [start, end), page-aligned */
	uint64_t off;	      /* of `start` in the file, bytes */
	int fd;		      /* the mapping was made from it; -1: closed since, or not known */
	struct lot *lot;      /* closed since, and parked there; or NULL */
	struct file *file;
	struct segment *seg; /* whose memfd stands here; NULL: the file's own mapping */
	unsigned made;	     /* the trace of the call that mapped it (trace.h); 0: not known */
	uintptr_t saved;     /* with seg: where the file's own mapping is kept; 0 without */
};

RB_HEAD(area_tree, area);

struct areas {
	struct area_tree tree;
	struct pool pool;
	atomic_uint seq; /* odd while the tree changes */
};

#define AREAS_INIT                             \
	{                                      \
		.pool = POOL_INIT(struct area) \
	}

/* The first area that overlaps [start, end), or NULL; and the next one after `a` that does. */
struct area *areas_first(struct areas *m, uintptr_t start, uintptr_t end);
struct area *areas_next(struct area *a, uintptr_t end);

/* Whether [start, end) overlaps any area; asked without the owner's lock, so that a thread
 * which holds a lock of its own (an allocator's) need not wait for ours. May say yes for no
 * reason. */
bool areas_touched(struct areas *m, uintptr_t start, uintptr_t end);

/* Adds a range that overlaps nothing. Joined to nothing, so that undoing is simple. NULL: no
 * memory. */
struct area *areas_add(struct areas *m, uintptr_t start, uintptr_t end, uint64_t off,
		       struct file *file);

/* Makes `at` a boundary between areas. *ret_new is the area that this made, the upper one, or
 * NULL if it was a boundary already. -ENOMEM. */
int areas_split(struct areas *m, uintptr_t at, struct area **ret_new);

/* Moves an area to where nothing is; what it says stays. */
void areas_shift(struct areas *m, struct area *a, uintptr_t by);

void areas_remove(struct areas *m, struct area *a);

#endif
