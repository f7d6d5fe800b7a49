/* SPDX-License-Identifier: MIT */
#include "lib/room.h"

#include "lib/reconcile.h"
#include "lib/stage.h"

#define REFUSED_MOST 8 /* each takes some tenths of a second */

static uint64_t call = 1;

void room_new_call(void)
{
	call++;
}

void room_needed_now(struct segment *s)
{
	s->call = call;
}

static struct segment *oldest(void)
{
	struct segment *s, *found = NULL;
	struct area *a;

	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX)) {
		s = a->seg;
		if (s && s->call != call && s->kept != call &&
		    (!found || s->call < found->call))
			found = s;
	}
	return found;
}

uint64_t room_make(uint64_t need)
{
	unsigned refused = 0;
	uint64_t freed = 0, len;
	struct segment *s;
	enum reason why;

	reconcile(); /* what shows nowhere any more is free without an exchange */
	while (freed < need && refused < REFUSED_MOST && (s = oldest())) {
		len = s->len;
		s->kept = call;
		if (stage_retire(s, &why) == 0)
			freed += len;
		else
			refused++;
	}
	return freed;
}
