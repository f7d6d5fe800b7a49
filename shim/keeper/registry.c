/* SPDX-License-Identifier: MIT */
/* Stages, segments and who uses them. All with the lock held. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"

#define RETRY_FIRST_MS 10
#define TRY_SOON_MS    1000

struct keeper keeper = { .lock = PTHREAD_MUTEX_INITIALIZER, .next_id = 1 };

static struct lane *lane_of(uint64_t dev)
{
	struct lane *l;

	LIST_FOREACH(l, &keeper.lanes, link)
		if (l->dev == dev)
			return l;
	l = xcalloc(1, sizeof(*l));
	l->dev = dev;
	TAILQ_INIT(&l->ready);
	pthread_cond_init(&l->wake, NULL);
	LIST_INSERT_HEAD(&keeper.lanes, l, link);
	return l;
}

struct stage *stage_find(struct inode_key key, bool create)
{
	struct stage *s;

	LIST_FOREACH(s, &keeper.stages, link)
		if (!inode_key_cmp(s->key, key))
			return s;
	if (!create)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->key = key;
	s->fd = s->ear = -1;
	pthread_mutex_init(&s->turn, NULL);
	s->lane = lane_of(key.dev);
	s->last_good = now_ms();
	s->next_pass = UINT64_MAX;
	STAILQ_INIT(&s->jobs);
	LIST_INSERT_HEAD(&keeper.stages, s, link);
	board_list(key);
	return s;
}

void stage_drop_if_unused(struct stage *s)
{
	if (!LIST_EMPTY(&s->segments) || !STAILQ_EMPTY(&s->jobs) || s->busy || s->queued)
		return;
	LIST_REMOVE(s, link);
	board_unlist(s->key);
	if (s->ear >= 0)
		close(s->ear);
	stage_close(s);
	pthread_mutex_destroy(&s->turn);
	free(s);
}

struct segment *segment_by_id(uint64_t id)
{
	struct segment *g;
	struct stage *s;

	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link)
			if (g->id == id)
				return g;
	return NULL;
}

/* The number may be from an earlier keeper, and mean something else here; old libraries say
 * nothing else. */
struct segment *segment_meant(const struct msg *m)
{
	struct segment *g = segment_by_id(m->id);

	if (g && m->len &&
	    (inode_key_cmp(g->stage->key, m->key) || g->off != m->off || g->len != m->len))
		g = NULL;
	return g;
}

struct segment *segment_overlapping(struct stage *s, uint64_t off, uint64_t len)
{
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		if (g->off < off + len && g->off + g->len > off)
			return g;
	return NULL;
}

bool segment_used_by(const struct segment *g, const struct client *c)
{
	const struct use *u;

	LIST_FOREACH(u, &g->users, link)
		if (u->client == c)
			return true;
	return false;
}

void segment_use(struct segment *g, struct client *c)
{
	struct stage *s = g->stage;
	struct use *u;

	if (segment_used_by(g, c))
		return;
	u = xcalloc(1, sizeof(*u));
	u->client = c;
	LIST_INSERT_HEAD(&g->users, u, link);
	g->rest_since = 0;
	s->next_pass = MIN(s->next_pass, MAX(now_ms() + c->interval_ms, s->not_before));
}

void segment_unuse(struct segment *g, const struct client *c)
{
	struct use *u;

	LIST_FOREACH(u, &g->users, link) {
		if (u->client == c) {
			LIST_REMOVE(u, link);
			free(u);
			return;
		}
	}
}

void segment_try_now(struct segment *g)
{
	g->next_try = 0;
	g->retry_ms = RETRY_FIRST_MS;
}

void segment_try_soon(struct segment *g)
{
	segment_try_now(g);
	if (!g->refused_at)
		return;
	g->next_try = g->refused_at + TRY_SOON_MS;
	g->stage->next_pass = MIN(g->stage->next_pass, g->next_try);
}

void segment_unlink(struct segment *g)
{
	struct use *u;

	while ((u = LIST_FIRST(&g->users))) {
		LIST_REMOVE(u, link);
		free(u);
	}
	LIST_REMOVE(g, link);
	keeper.staged -= g->len;
}
