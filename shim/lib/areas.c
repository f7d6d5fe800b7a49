/* SPDX-License-Identifier: MIT */
#include "lib/areas.h"

#include <errno.h>
#include <sched.h>

static int area_cmp(const struct area *a, const struct area *b)
{
	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	return 0;
}

/* The header's functions come without prototypes and are not all used. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wnull-dereference"
#pragma GCC diagnostic ignored "-Wshadow"
RB_GENERATE_INTERNAL(area_tree, area, node, area_cmp, static)
#pragma GCC diagnostic pop

struct area *areas_first(struct areas *m, uintptr_t start, uintptr_t end)
{
	struct area *a = RB_ROOT(&m->tree), *found = NULL;

	while (a) { /* the leftmost area that ends behind `start` */
		if (a->end > start) {
			found = a;
			a = RB_LEFT(a, node);
		} else {
			a = RB_RIGHT(a, node);
		}
	}
	return found && found->start < end ? found : NULL;
}

/* Nodes are never unmapped, so a walk through a tree that changes meets odd values at worst,
 * and those are thrown away. */
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))

bool areas_touched(struct areas *m, uintptr_t start, uintptr_t end)
{
	const unsigned deepest = 128; /* more than any balanced tree has */
	unsigned before, steps, tries;
	const struct area *a;
	bool found;

	for (tries = 0; tries < 1000; tries++) {
		before = atomic_load_explicit(&m->seq, memory_order_acquire);
		if (before & 1) {
			sched_yield();
			continue;
		}
		found = false;
		a = READ_ONCE(m->tree.rbh_root);
		for (steps = 0; a && steps < deepest && !found; steps++) {
			if (READ_ONCE(a->end) <= start)
				a = READ_ONCE(a->node.rbe_right);
			else if (READ_ONCE(a->start) >= end)
				a = READ_ONCE(a->node.rbe_left);
			else
				found = true;
		}
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&m->seq, memory_order_relaxed) == before)
			return found || steps == deepest;
	}
	return true;
}

static void change_begins(struct areas *m)
{
	atomic_fetch_add(&m->seq, 1);
}

static void change_ends(struct areas *m)
{
	atomic_fetch_add(&m->seq, 1);
}

struct area *areas_next(struct area *a, uintptr_t end)
{
	a = area_tree_RB_NEXT(a);
	return a && a->start < end ? a : NULL;
}

struct area *areas_add(struct areas *m, uintptr_t start, uintptr_t end, uint64_t off,
		       struct file *file)
{
	struct area *a = pool_get(&m->pool);

	if (!a)
		return NULL;
	a->start = start;
	a->end = end;
	a->off = off;
	a->file = file;
	a->fd = -1;
	change_begins(m);
	area_tree_RB_INSERT(&m->tree, a);
	change_ends(m);
	return a;
}

int areas_split(struct areas *m, uintptr_t at, struct area **ret_new)
{
	struct area *a = areas_first(m, at, at + 1), *b;

	*ret_new = NULL;
	if (!a || a->start == at)
		return 0;
	b = areas_add(m, at, a->end, a->off + (at - a->start), a->file);
	if (!b)
		return -ENOMEM;
	b->seg = a->seg;
	b->fd = a->fd;
	b->lot = a->lot;
	b->made = a->made;
	b->saved = a->saved ? a->saved + (at - a->start) : 0;
	a->end = at;
	*ret_new = b;
	return 0;
}

void areas_shift(struct areas *m, struct area *a, uintptr_t by)
{
	change_begins(m);
	area_tree_RB_REMOVE(&m->tree, a);
	a->start += by;
	a->end += by;
	area_tree_RB_INSERT(&m->tree, a);
	change_ends(m);
}

void areas_remove(struct areas *m, struct area *a)
{
	change_begins(m);
	area_tree_RB_REMOVE(&m->tree, a);
	pool_put(&m->pool, a);
	change_ends(m);
}
