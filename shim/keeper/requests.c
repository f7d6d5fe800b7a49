/* SPDX-License-Identifier: MIT */
/* What clients ask for, done by the worker that has the stage. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"

#define RETRY_FIRST_MS 10
#define RETRY_MOST_MS  5000

static int refuse(struct msg *m, enum reason why, int err)
{
	m->reason = why;
	return err;
}

/* Our own description of the file: its position, append mode and reported errors are ours. */
static int reopen(struct stage *s, int passed)
{
	cleanup_fd int fd = -1;
	struct statfs sfs;
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", passed);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &sfs) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_dev != s->key.dev || st.st_ino != s->key.ino)
		return -ESTALE;
	s->overlay = sfs.f_type == OVERLAYFS_SUPER_MAGIC;
	s->fd = steal_fd(&fd);
	return 0;
}

static int within_file(const struct stage *s, uint64_t off, uint64_t len)
{
	struct stat st;

	if (off % page_size() || len % page_size() || len == 0 || off + len < off)
		return -EINVAL;
	if (fstat(s->fd, &st) < 0)
		return -errno;
	return off + len > page_up((uint64_t)st.st_size) ? -EFAULT : 0;
}

static int do_stage(struct stage *s, struct job *j, struct segment **ret)
{
	struct client *c = j->from->client;
	struct msg *m = &j->m;
	struct segment *g;
	uint64_t budget;
	int err;

	err = s->fd >= 0 ? 0 : reopen(s, j->fd[0]);
	if (err)
		return refuse(m,
			      err == -ESTALE			 ? REASON_CHANGED
			      : err == -EMFILE || err == -ENFILE ? REASON_NO_FILES
								 : REASON_NO_DESCRIPTOR,
			      err);
	err = within_file(s, m->off, m->len);
	if (err)
		return refuse(m, err == -EFAULT ? REASON_PAST_EOF : REASON_BAD_RANGE, err);
	if (mapped_elsewhere(s, m->off, m->len, j->from->pid))
		return refuse(m, REASON_IN_USE, -EUSERS);
	pthread_mutex_lock(&keeper.lock);
	budget = c->budget ? c->budget : budget_default();
	if (segment_overlapping(s, m->off, m->len))
		err = refuse(m, REASON_STAGED_ELSEWHERE, -EBUSY);
	else if (keeper.staged + m->len > budget)
		err = refuse(m, REASON_BUDGET, -ENOMEM);
	else
		keeper.staged += m->len;
	pthread_mutex_unlock(&keeper.lock);
	if (err)
		return err;
	err = segment_create(s, m->off, m->len, &g);
	pthread_mutex_lock(&keeper.lock);
	if (err) {
		keeper.staged -= m->len;
	} else {
		if (m->text[0])
			memcpy(s->name, m->text, sizeof(s->name));
		g->id = m->id = keeper.next_id++;
		g->run = c->run;
		g->retry_ms = RETRY_FIRST_MS;
		LIST_INSERT_HEAD(&s->segments, g, link);
		segment_use(g, c);
		*ret = g;
	}
	pthread_mutex_unlock(&keeper.lock);
	if (err)
		refuse(m, err == -EMFILE || err == -ENFILE ? REASON_NO_FILES : REASON_NO_MEMORY,
		       err);
	return err;
}

/* A segment that outlived another keeper, or that came to this client by fork(). Its ledger
 * says what file and memory last agreed on. */
static int do_attach(struct stage *s, struct job *j)
{
	struct msg *m = &j->m;
	struct segment *g;
	int err;

	err = s->fd >= 0 ? 0 : reopen(s, j->fd[0]);
	if (err)
		return refuse(m, REASON_NO_DESCRIPTOR, err);
	pthread_mutex_lock(&keeper.lock);
	g = segment_overlapping(s, m->off, m->len);
	if (g && segment_same_memory(g, j->fd[1])) {
		segment_use(g, j->from->client);
		m->id = g->id;
	} else if (g) {
		err = refuse(m, REASON_STAGED_ELSEWHERE, -EBUSY);
	}
	pthread_mutex_unlock(&keeper.lock);
	if (g)
		return err;
	err = segment_adopt(s, m, j->fd[1], j->fd[2], &g);
	if (err)
		return refuse(m, REASON_PROTOCOL, err);
	pthread_mutex_lock(&keeper.lock);
	memcpy(s->name, m->text, sizeof(s->name));
	g->id = m->id = keeper.next_id++;
	g->run = j->from->client->run;
	g->retry_ms = RETRY_FIRST_MS;
	keeper.staged += g->len;
	LIST_INSERT_HEAD(&s->segments, g, link);
	segment_use(g, j->from->client);
	pthread_mutex_unlock(&keeper.lock);
	return 0;
}

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
	int err = within_file(g->stage, m->off, m->len);

	if (err || m->off > g->off || m->off + m->len < g->off + g->len)
		return err ? err : -EINVAL;
	*w = (struct window){ m->off, m->len, MIN(m->arg[0], (uint64_t)10000) };
	return 0;
}

static int do_clean(struct segment *g, struct msg *m)
{
	struct window w;
	int err = window_of(g, m, &w);

	if (!err)
		err = evict_clean(g, &w);
	return err ? refuse(m, REASON_WRITE_BACK, err) : 0;
}

static int do_commit(struct segment *g, struct msg *m)
{
	struct window w;
	int err = window_of(g, m, &w);

	if (!err)
		err = evict_commit(g, &w);
	if (err)
		return refuse(m, err == -EBUSY ? REASON_IN_USE : REASON_WRITE_BACK, err);
	engine_record_bases(g);
	pthread_mutex_lock(&keeper.lock);
	g->state = SEGMENT_LIVE;
	g->ledger->state = SEGMENT_LIVE;
	pthread_mutex_unlock(&keeper.lock);
	return 0;
}

static void destroy(struct segment *g)
{
	pthread_mutex_lock(&keeper.lock);
	segment_destroy(g);
	pthread_mutex_unlock(&keeper.lock);
	(void)eventfd_write(keeper.event, 1);
}

static int sync_stage(struct stage *s, uint64_t off, uint64_t len, bool durable)
{
	const uint64_t begun = now_ms();
	struct segment *g;
	int err = 0, now;

	LIST_FOREACH(g, &s->segments, link) {
		if (g->state == SEGMENT_FILLING)
			continue;
		now = engine_sync(g, off, len);
		g->ledger->error = now;
		err = err ? err : now;
	}
	if (!err && durable)
		err = engine_flush(s);
	pthread_mutex_lock(&keeper.lock);
	if (err && err != s->error)
		keeper_say("%s: cannot write what is staged: %s; it is kept and tried again",
			   s->name, strerror(-err));
	s->error = err;
	if (!err && off == 0 && len == UINT64_MAX)
		s->last_good = begun;
	pthread_mutex_unlock(&keeper.lock);
	return err;
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

static int do_retire(struct segment *g, struct job *j, int *ret_fd)
{
	int err = engine_sync(g, g->off, g->len);

	if (err)
		return refuse(&j->m, REASON_WRITE_BACK, err);
	err = seal(g);
	if (err)
		return refuse(&j->m, REASON_IN_USE, -EBUSY);
	err = engine_sync(g, g->off, g->len);
	if (!err) {
		destroy(g);
		return 0;
	}
	/* Sealed, and not to be written: it goes on in memory that is not sealed. */
	while (segment_replace_memory(g) < 0)
		usleep(100 * 1000);
	g->state = SEGMENT_LIVE;
	g->ledger->state = SEGMENT_LIVE;
	*ret_fd = g->memfd;
	return refuse(&j->m, REASON_WRITE_BACK, err);
}

/* The last word on segments that nobody shows any more. */
static void let_go(struct stage *s)
{
	struct segment *g, *next;
	bool unused;

	for (g = LIST_FIRST(&s->segments); g; g = next) {
		pthread_mutex_lock(&keeper.lock);
		next = LIST_NEXT(g, link);
		unused = LIST_EMPTY(&g->users);
		pthread_mutex_unlock(&keeper.lock);
		if (!unused)
			continue;
		if (g->state == SEGMENT_FILLING ||
		    (seal(g) == 0 && engine_sync(g, g->off, g->len) == 0)) {
			destroy(g);
			continue;
		}
		g->retry_ms = MIN(g->retry_ms * 2, (uint64_t)RETRY_MOST_MS);
		pthread_mutex_lock(&keeper.lock);
		g->next_try = now_ms() + g->retry_ms;
		s->next_pass = MIN(s->next_pass, g->next_try);
		pthread_mutex_unlock(&keeper.lock);
	}
}

static int do_release(struct stage *s, struct job *j, struct segment *g)
{
	(void)engine_sync(g, g->off, g->len);
	pthread_mutex_lock(&keeper.lock);
	segment_unuse(g, j->from->client);
	pthread_mutex_unlock(&keeper.lock);
	let_go(s);
	pthread_mutex_lock(&keeper.lock);
	g = segment_by_id(j->m.id);
	pthread_mutex_unlock(&keeper.lock);
	return g ? refuse(&j->m, REASON_IN_USE, -EBUSY) : 0;
}

static int do_wrote(struct stage *s, const struct msg *m)
{
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		if (g->state != SEGMENT_FILLING)
			engine_forget_bases(g, m->off, m->len);
	return 0;
}

static struct segment *in_force(struct stage *s, uint64_t id)
{
	struct segment *g;

	pthread_mutex_lock(&keeper.lock);
	g = segment_by_id(id);
	if (g && (g->stage != s || g->state == SEGMENT_FILLING))
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
	case MSG_ATTACH:
		err = do_attach(s, j);
		break;
	case MSG_CLEAN:
		g = filling(s, j);
		err = g ? do_clean(g, m) : -ENOENT;
		break;
	case MSG_COMMIT:
		g = filling(s, j);
		err = g ? do_commit(g, m) : -ENOENT;
		break;
	case MSG_ABORT:
		g = filling(s, j);
		err = 0;
		if (g)
			destroy(g);
		break;
	case MSG_SYNC:
		err = sync_stage(s, m->off, m->len ? m->len : UINT64_MAX,
				 m->flags & SYNC_DURABLE);
		break;
	case MSG_WROTE:
		err = do_wrote(s, m);
		break;
	case MSG_RETIRE:
		g = in_force(s, m->id);
		err = g ? do_retire(g, j, &memfd) : -ENOENT;
		if (memfd >= 0)
			fds[n++] = memfd;
		break;
	case MSG_RELEASE:
		g = in_force(s, m->id);
		err = g ? do_release(s, j, g) : -ENOENT;
		break;
	}
	m->error = err;
	answer(j->from, m, fds, n);
}

static uint64_t interval_of(struct stage *s)
{
	uint64_t ms = 5000;
	struct segment *g;
	struct use *u;

	LIST_FOREACH(g, &s->segments, link)
		LIST_FOREACH(u, &g->users, link)
			ms = MIN(ms, u->client->interval_ms);
	return ms;
}

/* The background pass. It takes at most one part in a hundred of a processor: after a long scan
 * the next one comes later. */
void request_pass(struct stage *s)
{
	const uint64_t begun = now_ms();
	uint64_t took, next;
	struct segment *g;

	(void)sync_stage(s, 0, UINT64_MAX, false);
	let_go(s);
	took = now_ms() - begun;
	pthread_mutex_lock(&keeper.lock);
	next = MAX(interval_of(s), MIN(took * 100, (uint64_t)60000));
	s->next_pass = now_ms() + next;
	LIST_FOREACH(g, &s->segments, link)
		if (LIST_EMPTY(&g->users))
			s->next_pass = MIN(s->next_pass, g->next_try);
	pthread_mutex_unlock(&keeper.lock);
}
