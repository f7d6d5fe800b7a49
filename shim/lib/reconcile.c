/* SPDX-License-Identifier: MIT */
#include "lib/reconcile.h"

#include <stdbool.h>
#include <stdint.h>

#include "lib/log.h"
#include "lib/scratch.h"
#include "lib/space.h"
#include "lib/stage.h"

#define SCAN_BUFFER (64UL * 1024)
#define GONE_MOST   4096

struct range {
	uintptr_t start, end;
};

/* A walk over areas and mappings, both in order of address. */
struct walk {
	struct area *a; /* the first one not wholly looked at */
	uintptr_t at;	/* and from where on */
	uintptr_t end;	/* of the last one */
	struct range *gone;
	size_t n;
};

static void mark_gone(struct walk *w, uintptr_t start, uintptr_t end)
{
	if (w->n && w->gone[w->n - 1].end == start)
		w->gone[w->n - 1].end = end;
	else if (w->n < GONE_MOST)
		w->gone[w->n++] = (struct range){ start, end };
}

static void next_area(struct walk *w)
{
	w->a = areas_next(w->a, w->end);
	w->at = w->a ? w->a->start : 0;
}

/* maps and fstat() differ in what they call a file's device on some file systems, so that of an
 * unstaged mapping no more can be said than that it is one of a file, at that offset. */
static bool stands(const struct area *a, const struct vma *v)
{
	const uint64_t from = a->off - (a->seg ? a->seg->off : 0);

	return (a->seg ? vma_is_of(v, a->seg->mem_id) : v->ino != 0 && v->flags & VMA_SHARED) &&
	       v->off - v->start == from - a->start;
}

static int walk_each(const struct vma *v, const char *path, void *arg)
{
	struct walk *w = arg;

	(void)path;
	while (w->a && w->a->end <= v->start) {
		mark_gone(w, w->at, w->a->end);
		next_area(w);
	}
	while (w->a && w->a->start < v->end) {
		const uintptr_t lo = MAX(w->at, v->start), hi = MIN(w->a->end, v->end);

		if (w->at < lo)
			mark_gone(w, w->at, lo);
		if (!stands(w->a, v))
			mark_gone(w, lo, hi);
		w->at = hi;
		if (hi < w->a->end)
			break;
		next_area(w);
	}
	return 0;
}

/* Where all areas are looked at, maps has them in fewer calls. */
static int look(struct walk *w, char *buf, bool all)
{
	return all ? vmas_scan(VMAS_MAPS, buf, SCAN_BUFFER, walk_each, w, NULL)
		   : vmas_between(w->at, w->end, buf, SCAN_BUFFER, walk_each, w);
}

static void compare(uintptr_t start, uintptr_t end, bool all)
{
	struct walk w = { .a = areas_first(&space.areas, start, end) };
	struct segment *orphans = NULL;
	struct scratch scratch;
	struct area *a;
	char *buf;

	if (!w.a || scratch_open(&scratch) < 0)
		return;
	w.at = w.a->start;
	for (a = w.a; a; a = areas_next(a, end))
		w.end = a->end;
	buf = scratch_get(&scratch, SCAN_BUFFER);
	w.gone = scratch_get(&scratch, GONE_MOST * sizeof(*w.gone));
	if (look(&w, buf, all) < 0)
		w.n = 0;
	else
		for (; w.a; next_area(&w))
			mark_gone(&w, w.at, w.a->end);
	for (size_t i = 0; i < w.n; i++) {
		if (pool_reserve(&space.areas.pool, 4))
			break;
		(void)space_set(w.gone[i].start, w.gone[i].end, NULL, 0, &orphans);
		log_event(EV_INFO,
			  "addr=%#lx len=%zu reason=\"the mapping was changed unseen\"",
			  w.gone[i].start, w.gone[i].end - w.gone[i].start);
	}
	scratch_close(&scratch);
	stage_release(orphans);
}

void reconcile(void)
{
	compare(0, UINTPTR_MAX, true);
}

void reconcile_between(uintptr_t start, uintptr_t end)
{
	compare(start, end, false);
}

void reconcile_inherited(void)
{
	if (!space.inherited)
		return;
	space.inherited = false;
	reconcile();
}
