/* SPDX-License-Identifier: MIT */
/* How segments end: given back to the file, or let go of when nobody shows them any more. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "keeper/guarded.h"
#include "keeper/outsiders.h"
#include "keeper/requests.h"

#define RETRY_MOST_MS 5000
#define AT_REST_MS    15000

/* Whoever waits for the end may unmount the file system then: nothing of it is open any more.
 * To close what is large, and open nowhere else, takes its time: nobody is to wait for that.
 * But nothing that bears the file's number is mapped when that may become another file's. */
void segment_let_go(struct segment *g)
{
	struct stage *s = g->stage;

	if (g->state != SEGMENT_FILLING)
		guarded_drop(g);
	segment_unmap(g);
	if (LIST_FIRST(&s->segments) == g && !LIST_NEXT(g, link))
		stage_close(s);
	pthread_mutex_lock(&keeper.lock);
	segment_unlink(g);
	pthread_mutex_unlock(&keeper.lock);
	segment_free(g);
	(void)eventfd_write(keeper.event, 1);
}

/* Nothing can change any more once this returns 0. -EBUSY: somebody maps or pins the memory. */
static int seal(struct segment *g)
{
	int seals;

	if (g->state == SEGMENT_SEALED)
		return 0;
	if (fcntl(g->memfd, F_ADD_SEALS, F_SEAL_WRITE) < 0) {
		seals = fcntl(g->memfd, F_GET_SEALS);
		if (errno != EPERM || seals < 0 || !(seals & F_SEAL_WRITE))
			return -errno;
	}
	g->state = SEGMENT_SEALED;
	g->ledger->state = SEGMENT_SEALED;
	return 0;
}

/* A segment whose last word was said, but not written: it goes on in memory that can be mapped
 * for writing. Before anybody has that the guardian does, or the next worker would take what
 * was sealed for newer than the file. What was superseded has nothing that the file has not,
 * which may have more: that is taken along first; and looked for once more in any case. */
int segment_reopen(struct segment *g)
{
	const bool superseded = segment_is_superseded(g);
	const unsigned char *mem;
	int fd, err = segment_copy_memory(g, &fd, &mem);

	if (err)
		return err;
	err = segment_share_ledger(g);
	if (err) {
		munmap((void *)(uintptr_t)mem, g->len);
		close(fd);
		return err;
	}
	engine_mark_unwritten(g);
	pthread_mutex_lock(&keeper.lock);
	segment_take_memory(g, fd, mem);
	g->state = SEGMENT_LIVE;
	g->ledger->state = SEGMENT_LIVE;
	g->stage->touched = TOUCHED_ANYWHERE;
	pthread_mutex_unlock(&keeper.lock);
	guarded_keep_anyhow(g);
	segment_is_current(g);
	if (superseded)
		merge_outside(g->stage, TOUCHED_ANYWHERE, g->off, g->len);
	return 0;
}

/* Where it goes on, the client is told in which memory, if its own may have been sealed. */
static int refuse_to_retire(struct segment *g, struct job *j, int *ret_fd, enum reason why,
			    int err)
{
	while (g->state == SEGMENT_SEALED && segment_reopen(g) < 0)
		usleep(100 * 1000);
	if (g->replaced)
		*ret_fd = g->memfd;
	return refuse(&j->m, why, err);
}

int do_retire(struct segment *g, struct job *j, int *ret_fd)
{
	int err = 0;

	g->stage->unmapped_at = 0; /* the client is about to map the file itself */
	/* One that only writes the file, too: it may be between file and memory. */
	if (used_by_others(g, j->from->client))
		return refuse_to_retire(g, j, ret_fd, REASON_IN_USE, -EBUSY);
	if (g->state != SEGMENT_SEALED)
		err = engine_sync(g, g->off, g->len);
	if (err)
		return refuse_to_retire(g, j, ret_fd, REASON_WRITE_BACK, err);
	err = seal(g);
	if (err)
		return refuse_to_retire(g, j, ret_fd, REASON_IN_USE, -EBUSY);
	err = engine_sync(g, g->off, g->len);
	/* An msync() that looks for what is staged from now on finds nothing, and that is true.
	 */
	if (!err)
		err = stage_flush(g->stage);
	if (err)
		return refuse_to_retire(g, j, ret_fd, REASON_WRITE_BACK, err);
	segment_let_go(g);
	return 0;
}

/* In the file, and on the device where that has failed to take it. Whether it has may not have
 * been asked yet; on overlayfs only a flush would say. */
static int written(struct segment *g)
{
	int err;

	if (segment_has_unflushed(g) && !g->stage->overlay)
		stage_hear(g->stage);
	err = engine_sync(g, g->off, g->len);
	return !err && g->stage->unflushed ? stage_flush(g->stage) : err;
}

/* A client has sealed the seals: the kernel cannot be asked, ever, whether somebody maps or
 * pins the memory. That nobody shows it any more, maps it as far as we see, or has changed it
 * for long has to do. */
static bool is_at_rest(struct segment *g)
{
	const uint64_t now = now_ms();

	if (!g->rest_since || g->rest_changed != g->changed || memory_mapped_elsewhere(g)) {
		g->rest_since = now;
		g->rest_changed = g->changed;
	}
	return now - g->rest_since >= AT_REST_MS;
}

static bool has_ended(struct segment *g)
{
	const int err = seal(g);

	if (!err)
		return written(g) == 0;
	if (err != -EPERM || !is_at_rest(g) || written(g) < 0)
		return false;
	keeper_say(
		"%s: a client has seen to it that the memory cannot be sealed, so that nobody "
		"can say whether it is still used; it was at rest for %d s, and is let go of",
		g->stage->name, AT_REST_MS / 1000);
	return true;
}

/* The last word on segments that nobody shows any more. Where it was refused, not again before
 * it is time: the kernel waits for a pin to go, 150 ms each time. */
void let_go(struct stage *s)
{
	struct segment *g, *next;
	bool due;

	for (g = LIST_FIRST(&s->segments); g; g = next) {
		pthread_mutex_lock(&keeper.lock);
		next = LIST_NEXT(g, link);
		due = LIST_EMPTY(&g->users) && g->next_try <= now_ms();
		pthread_mutex_unlock(&keeper.lock);
		if (!due)
			continue;
		if (g->state == SEGMENT_FILLING || has_ended(g)) {
			segment_let_go(g);
			continue;
		}
		g->retry_ms = MIN(g->retry_ms * 2, (uint64_t)RETRY_MOST_MS);
		pthread_mutex_lock(&keeper.lock);
		g->refused_at = now_ms();
		g->next_try = g->refused_at + g->retry_ms;
		s->next_pass = MIN(s->next_pass, g->next_try);
		pthread_mutex_unlock(&keeper.lock);
	}
}

int do_release(struct stage *s, struct job *j, struct segment *g)
{
	const bool visit = j->m.flags & RELEASE_VISIT;
	int err = visit ? 0 : engine_sync(g, g->off, g->len);

	pthread_mutex_lock(&keeper.lock);
	segment_unuse(g, j->from->client);
	if (!visit)
		segment_try_soon(g); /* what used it may have held the pin, too */
	if (!visit && !err)
		hand_over_runs(s);
	pthread_mutex_unlock(&keeper.lock);
	let_go(s);
	pthread_mutex_lock(&keeper.lock);
	g = segment_by_id(j->m.id);
	pthread_mutex_unlock(&keeper.lock);
	return g ? refuse(&j->m, REASON_IN_USE, -EBUSY) : 0;
}
