/* SPDX-License-Identifier: MIT */
/* Carrying a stage's changes to its file, when asked and in the background. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "keeper/keeper.h"
#include "keeper/outsiders.h"
#include "keeper/requests.h"

#define RETRY_ERROR_MOST_MS 60000

#define SMALL_BYTES (64UL << 10)

/* What direct I/O has left dirty there is about to be cleaned. */
static void remember_filling(struct stage *s)
{
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		if (g->state == SEGMENT_FILLING)
			evict_before_flush(g);
}

/* Of this thread, from a moment that is the zero of both. */
static struct effort effort_now(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0) /* a filter may deny it */
		clock_gettime(CLOCK_MONOTONIC, &t);
	return (struct effort){ (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000,
				now_ms() };
}

static struct effort effort_since(struct effort begun)
{
	const struct effort now = effort_now();

	return (struct effort){ now.busy_us - begun.busy_us, now.took_ms - begun.took_ms };
}

/* First, because a page that both changed is overwritten. A client that waits has its own part
 * merged, and that, too, takes at most one part in a hundred of a processor; but a few pages
 * always, which the client is about to change in part. What is still filled is nothing that it
 * could be brought to: it is a hint until that is done. */
static void merge(struct stage *s, uint64_t off, uint64_t len)
{
	const bool everything = off == 0 && len == UINT64_MAX;
	const bool filling = stage_is_filling(s);
	const struct effort begun = effort_now();
	enum touched how;

	if (!s->gently && len > SMALL_BYTES && now_ms() < s->merge_next)
		return;
	pthread_mutex_lock(&keeper.lock);
	how = s->touched;
	if (everything && !filling) /* what comes from here on is another time's */
		s->touched = UNTOUCHED;
	pthread_mutex_unlock(&keeper.lock);
	if (how == UNTOUCHED)
		return;
	/* What is merged in a pass may be written out first. */
	if (filling && s->stored && s->gently)
		remember_filling(s);
	merge_outside(s, how, off, len);
	if (everything && s->gently && !filling)
		s->stored = false;
	s->merge_next = now_ms() + pace(0, effort_since(begun), false);
}

/* Who comes to map the file sees in it what others wrote before, and could not be seen to store
 * once more what memory still had. Where somebody uses the segment, that is as near as for any
 * client that waits: it may be large, and others may come all the time. */
void stage_catch_up(struct stage *s, const struct segment *g)
{
	outsiders_before(s);
	if (s->unflushed)
		stage_hear(s);
	if (LIST_EMPTY(&g->users))
		s->merge_next = 0;
	merge(s, g->off, g->len);
	outsiders_after(s);
}

static uint64_t interval_of(const struct stage *s)
{
	uint64_t ms = INTERVAL_MOST_MS;
	struct segment *g;
	struct use *u;

	LIST_FOREACH(g, &s->segments, link) {
		ms = MIN(ms, g->interval_ms);
		LIST_FOREACH(u, &g->users, link)
			ms = MIN(ms, u->client->interval_ms);
	}
	return ms;
}

/* The device gets all of the file. */
int stage_flush(struct stage *s)
{
	remember_filling(s);
	return engine_flush(s);
}

/* By a wait for what is far behind the end. It takes a moment: if we are killed in it, the next
 * one has to doubt what is pending, which others may have changed. */
static int hear(struct stage *s)
{
	int err;

	engine_flushing(s, true);
	err = sync_file_range(s->fd, (off_t)1 << 60, 1, SYNC_FILE_RANGE_WAIT_BEFORE) < 0
		      ? -errno
		      : 0;
	if (err && !wait_denied(err))
		engine_doubt(s);
	engine_flushing(s, false);
	return err;
}

void stage_hear(struct stage *s)
{
	const bool unflushed = s->unflushed;

	if (!s->overlay && !wait_denied(hear(s)))
		return;
	/* The errors are another inode's there. What is written after this has to be flushed
	 * all the same. */
	(void)stage_flush(s);
	s->unflushed |= unflushed;
}

static void try_again_within_a_minute(struct stage *s)
{
	const uint64_t ms = MIN(interval_of(s), (uint64_t)RETRY_ERROR_MOST_MS);

	s->next_pass = MIN(s->next_pass, now_ms() + ms);
}

int sync_stage(struct stage *s, uint64_t off, uint64_t len, bool durable)
{
	const uint64_t begun = now_ms();
	struct segment *g;
	int err = 0, now;

	if (s->fd < 0)
		return -ENOENT; /* what there was has been let go of */
	outsiders_before(s);
	if (s->unflushed) /* what the file reads may be what was there before */
		stage_hear(s);
	merge(s, off, len);
	s->to_flush = durable;
	LIST_FOREACH(g, &s->segments, link) {
		if (g->state == SEGMENT_FILLING)
			continue;
		now = engine_sync(g, off, len);
		g->ledger->error = now;
		err = err ? err : now;
	}
	/* Where the device has just failed, what the kernel took says nothing. */
	if (!err && (durable || s->unflushed))
		err = stage_flush(s);
	outsiders_after(s);
	s->to_flush = false;
	pthread_mutex_lock(&keeper.lock);
	if (err && err != s->error)
		keeper_say("%s: cannot write what is staged: %s; it is kept and tried again",
			   s->name, strerror(-err));
	if (!err && s->error && off == 0 && len == UINT64_MAX)
		keeper_say("%s: all that is staged is written now", s->name);
	keeper.failures += err != 0;
	if (err) /* a pass that this is of says when itself */
		try_again_within_a_minute(s);
	if (err || !s->error || (off == 0 && len == UINT64_MAX))
		s->error = err;
	else if (s->writes != s->writes_before)
		lane_post_pass(s); /* the rest may do now, too */
	if (!err && off == 0 && len == UINT64_MAX) {
		s->last_good = begun;
		hand_over_runs(s);
	}
	pthread_mutex_unlock(&keeper.lock);
	return err;
}

/* What cannot be written now most likely cannot in a moment. Whoever made room says so, by
 * msync() or `pinstage sync`, or waits this long. */
static uint64_t backed_off(struct stage *s, uint64_t ms)
{
	const unsigned most = 16;

	s->failed = s->error ? MIN(s->failed + 1, most) : 0;
	return s->failed ? MIN(ms << (s->failed - 1), (uint64_t)RETRY_ERROR_MOST_MS) : ms;
}

static uint64_t paced_after(struct stage *s, struct effort e, bool changed)
{
	if (!changed)
		e.busy_us = s->idle_us = pace_of_late(s->idle_us, e.busy_us);
	return pace(0, e, changed);
}

/* The background pass. */
void request_pass(struct stage *s)
{
	const struct effort begun = effort_now();
	const unsigned writes = s->writes;
	uint64_t paced, next;
	struct effort e;
	struct segment *g;

	s->gently = true;
	(void)sync_stage(s, 0, UINT64_MAX, keeper.durable_passes);
	s->gently = false;
	LIST_FOREACH(g, &s->segments, link)
		segment_unpopulate(g);
	let_go(s);
	e = effort_since(begun);
	pthread_mutex_lock(&keeper.lock);
	paced = paced_after(s, e, s->writes != writes);
	next = backed_off(s, MAX(interval_of(s), paced));
	s->next_pass = now_ms() + next;
	s->not_before = now_ms() + (s->error ? next : paced);
	outsiders_pass_done(s, e);
	LIST_FOREACH(g, &s->segments, link)
		if (LIST_EMPTY(&g->users) && !s->error)
			s->next_pass = MIN(s->next_pass, g->next_try);
	pthread_mutex_unlock(&keeper.lock);
}
