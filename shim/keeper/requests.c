/* SPDX-License-Identifier: MIT */
/* What clients ask for, done by the worker that has the stage. */
#include <errno.h>
#include <sys/socket.h>

#include "keeper/guarded.h"
#include "keeper/outsiders.h"
#include "keeper/requests.h"

#define SOON_MS 1000

/* A segment of this stage that is being filled by this client. */
static struct segment *filling(struct stage *s, struct job *j)
{
	struct segment *g;

	pthread_mutex_lock(&keeper.lock);
	g = segment_by_id(j->m.id);
	if (g && (g->stage != s || g->state != SEGMENT_FILLING ||
		  !segment_used_by(g, j->from->client)))
		g = NULL;
	pthread_mutex_unlock(&keeper.lock);
	return g;
}

static int window_of(struct segment *g, const struct msg *m, struct window *w)
{
	const uint64_t end = g->off + g->len;
	int err = within_file(g->stage, m->off, m->len);

	if (err || m->off > g->off || m->off + m->len < end ||
	    m->off < g->off - MIN(g->off, LARGEST_FOLIO) ||
	    m->off + m->len > end + LARGEST_FOLIO)
		return err ? err : -EINVAL;
	*w = (struct window){ m->off, m->len, MIN(m->arg[0], (uint64_t)10000) };
	return 0;
}

static int do_clean(struct segment *g, struct msg *m)
{
	struct window w;
	int err = window_of(g, m, &w);

	g->recorded = 0;
	if (!err)
		err = evict_clean(g, &w);
	return err ? refuse(m, REASON_WRITE_BACK, err) : 0;
}

/* Who waits has copied all of it: what is left is done in several threads. */
static bool commit_waits(struct stage *s, const struct segment *g)
{
	const struct job *j;
	bool waits = false;

	pthread_mutex_lock(&keeper.lock);
	STAILQ_FOREACH(j, &s->jobs, link)
		waits |= j->kind == JOB_REQUEST && j->m.type == MSG_COMMIT && j->m.id == g->id;
	pthread_mutex_unlock(&keeper.lock);
	return waits;
}

static void set_state(struct segment *g, enum segment_state state)
{
	pthread_mutex_lock(&keeper.lock);
	g->state = state;
	g->ledger->state = state;
	pthread_mutex_unlock(&keeper.lock);
}

/* What others did while it was filled. */
static void pass_for_outsiders(struct stage *s)
{
	pthread_mutex_lock(&keeper.lock);
	if (s->touched != UNTOUCHED || s->looks)
		outsiders_pass_soon(s);
	pthread_mutex_unlock(&keeper.lock);
}

static int do_commit(struct segment *g, struct msg *m)
{
	struct window w;
	int err = window_of(g, m, &w);

	if (!err)
		err = evict_commit(g, &w);
	if (err)
		return refuse(m, err == -EBUSY ? REASON_IN_USE : REASON_WRITE_BACK, err);
	set_state(g, SEGMENT_LIVE);
	err = guarded_keep(g);
	if (!err) {
		pass_for_outsiders(g->stage);
		return 0;
	}
	guarded_drop(g); /* another guardian may have been told of it meanwhile */
	set_state(g, SEGMENT_FILLING);
	g->ending = false; /* it is only not in force yet */
	return refuse(m, REASON_NO_FILES, err);
}

static int do_wrote(struct stage *s, const struct msg *m)
{
	bool all = true, differs = false;
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		if (g->state != SEGMENT_FILLING)
			all &= engine_forget_bases(g, m->off, m->len, &differs);
	pthread_mutex_lock(&keeper.lock);
	if (!all)
		outsiders_pass_soon(s);
	if (differs)
		s->next_pass = MIN(s->next_pass, now_ms() + SOON_MS);
	pthread_mutex_unlock(&keeper.lock);
	return 0;
}

/* For a client, or for anybody: a client may have its number from an earlier worker, a child
 * from its parent. */
static struct segment *in_force(struct stage *s, const struct msg *m, const struct client *c)
{
	struct segment *g;

	pthread_mutex_lock(&keeper.lock);
	g = segment_meant(m);
	if (g &&
	    (g->stage != s || g->state == SEGMENT_FILLING || (c && !segment_used_by(g, c))))
		g = NULL;
	pthread_mutex_unlock(&keeper.lock);
	return g;
}

void request_run(struct stage *s, struct job *j)
{
	int fds[PROTO_FDS], err = -ENOENT, memfd = -1;
	struct segment *g = NULL;
	struct msg *m = &j->m;
	size_t n = 0;

	m->reason = REASON_NONE;
	switch (m->type) {
	case MSG_STAGE:
		err = do_stage(s, j, &g);
		if (!err) {
			fds[n++] = g->memfd;
			fds[n++] = g->ledger_fd;
		}
		break;
	case MSG_JOIN:
		err = do_join(s, j, &g);
		if (!err) {
			fds[n++] = g->memfd;
			fds[n++] = g->ledger_fd;
		}
		break;
	case MSG_ATTACH:
		err = do_attach(s, j, &memfd);
		if (memfd >= 0)
			fds[n++] = memfd;
		break;
	case MSG_CLEAN:
		g = filling(s, j);
		err = g ? do_clean(g, m) : -ENOENT;
		break;
	case MSG_COPIED:
		g = filling(s, j);
		if (g && !commit_waits(s, g))
			evict_copied(g, m->off, m->len);
		return;
	case MSG_COMMIT:
		g = filling(s, j);
		err = g ? do_commit(g, m) : -ENOENT;
		break;
	case MSG_ABORT:
		g = filling(s, j);
		err = 0;
		if (g)
			segment_let_go(g);
		break;
	case MSG_SYNC:
		err = sync_stage(s, m->off, m->len ? m->len : UINT64_MAX,
				 m->flags & SYNC_DURABLE);
		break;
	case MSG_WROTE:
		err = do_wrote(s, m);
		break;
	case MSG_RETIRE:
		g = in_force(s, m, j->from->client);
		err = g ? do_retire(g, j, &memfd) : -ENOENT;
		if (memfd >= 0)
			fds[n++] = memfd;
		break;
	case MSG_RELEASE:
		g = in_force(s, m, NULL);
		err = g ? do_release(s, j, g) : -ENOENT;
		break;
	}
	if (m->type == MSG_STAGE && err == -ECONNRESET) { /* the end is the answer */
		shutdown(j->from->fd, SHUT_RDWR);
		return;
	}
	m->error = err;
	if (err && (m->type == MSG_STAGE || m->type == MSG_COMMIT)) {
		pthread_mutex_lock(&keeper.lock);
		keeper.refusals++;
		pthread_mutex_unlock(&keeper.lock);
	}
	answer(j->from, m, fds, n);
	if (m->type == MSG_COMMIT && g) /* for which nobody has to wait */
		segment_unpopulate(g);
}
