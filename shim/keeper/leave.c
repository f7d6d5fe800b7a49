/* SPDX-License-Identifier: MIT */
/* Making way for a keeper that may do more. */
#include <stdlib.h>

#include "keeper/keeper.h"
#include "keeper/server.h"

#define LEAVE_MS 5000 /* within which what nobody uses is let go of, most likely */

static uint64_t leaving_since; /* ms */
static bool lasts;	       /* what is held was not let go of in that time */
static LIST_HEAD(, conversation) unanswered = LIST_HEAD_INITIALIZER(unanswered);

static void leave(void)
{
	if (!keeper.leaving)
		leaving_since = now_ms();
	keeper.leaving = true;
}

/* Used by somebody, or not to be written, or pinned, or on a file system that is frozen. */
static bool is_held_for_long(void)
{
	struct segment *g;
	struct stage *s;

	LIST_FOREACH(s, &keeper.stages, link) {
		if (lasts || s->error)
			return true;
		LIST_FOREACH(g, &s->segments, link)
			if (!LIST_EMPTY(&g->users))
				return true;
	}
	return lasts = false;
}

/* A program with a small hard limit on descriptors, or with a filter on system calls, made a
 * keeper that has it, too. It leaves for the first client that could start a better one, unless
 * somebody needs it now. */
static bool should_leave(const struct msg *m)
{
	const uint64_t plenty = 1024;
	const bool more_files = keeper.files < plenty && m->len > keeper.files;
	const bool unfiltered = keeper.filtered && m->flags & CLIENT_UNFILTERED;

	return more_files || unfiltered ? !is_held_for_long() : keeper.leaving;
}

bool leave_for(struct conversation *c, const struct msg *m)
{
	if (!should_leave(m))
		return false;
	leave();
	if (!c->hello) {
		c->hello = xcalloc(1, sizeof(*m));
		LIST_INSERT_HEAD(&unanswered, c, link);
	}
	*c->hello = *m;
	return true;
}

void leave_waits_not(struct conversation *c)
{
	if (!c->hello)
		return;
	LIST_REMOVE(c, link);
	free(c->hello);
	c->hello = NULL;
}

uint64_t leave_or_stay(void)
{
	const uint64_t until = leaving_since + LEAVE_MS;
	struct conversation *c;

	if (!keeper.leaving || LIST_EMPTY(&keeper.stages))
		return UINT64_MAX;
	lasts = now_ms() >= until;
	if (!is_held_for_long())
		return until;
	keeper.leaving = false;
	while ((c = LIST_FIRST(&unanswered))) {
		struct msg m = *c->hello;

		leave_waits_not(c);
		hello(c, &m);
	}
	return UINT64_MAX;
}

/* One that may not open what its clients may is no better; which nobody can tell before they
 * ask. Not while it holds anything, which might last: the client would wait for it. */
bool make_way(void)
{
	bool way;

	pthread_mutex_lock(&keeper.lock);
	way = keeper.staged == 0;
	if (way)
		leave();
	pthread_mutex_unlock(&keeper.lock);
	return way;
}
