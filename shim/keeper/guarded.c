/* SPDX-License-Identifier: MIT */
#include "keeper/guarded.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/requests.h"

#define AGAIN_MS 1000
#define PATIENCE 200 /* tries, 10 ms each */

/* Rank: below keeper.lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct guardian us = { .pair = -1 };
static unsigned guardians = 1; /* how many there were; written under both locks */
static atomic_bool untold;     /* the guardian may not have all that it has to keep */
static uint64_t next_try;      /* ms, CLOCK_MONOTONIC */

static void pause_10ms(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

/* Descriptors in flight are limited for all of a user's processes together. Others may ask
 * while we wait: they may have keeper.lock. */
static int send_patiently(const struct msg *m, const int *fd, size_t n, int patience)
{
	int err = msg_send(us.pair, m, fd, n);

	for (int tries = 0; err == -ETOOMANYREFS && tries < patience; tries++) {
		pthread_mutex_unlock(&lock);
		pause_10ms();
		pthread_mutex_lock(&lock);
		err = us.pair < 0 ? -EPIPE : msg_send(us.pair, m, fd, n);
	}
	return err;
}

/* Until it comes: what is asked next would else be taken to be answered by it. */
static int hear(struct msg *m)
{
	int err;

	do
		err = msg_recv(us.pair, m, NULL, 0);
	while (err == -ENOMEM || err == -ENOBUFS);
	return err;
}

static bool gone(int err)
{
	return err == -EPIPE || err == -ECONNRESET || err == -EPROTO;
}

/* A guardian that is gone is no error: the next one learns of everything. One that is there and
 * could not be told is. */
static int ask_locked(struct msg *m, const int *fd, size_t n, int patience)
{
	int err;

	if (us.pair < 0)
		return 0;
	err = send_patiently(m, fd, n, patience);
	if (!err)
		err = hear(m);
	return !err ? m->error : gone(err) ? 0 : -EMFILE;
}

static int ask(struct msg *m, const int *fd, size_t n)
{
	int err;

	pthread_mutex_lock(&lock);
	err = ask_locked(m, fd, n, PATIENCE);
	pthread_mutex_unlock(&lock);
	return err;
}

static int keep(struct segment *g, int patience)
{
	const int fd[PROTO_FDS] = { [VAULT_FILE] = g->stage->fd,
				    [VAULT_MEMORY] = g->memfd,
				    [VAULT_LEDGER] = g->ledger_fd };
	struct msg m;
	int err;

	msg_init(&m, MSG_ATTACH);
	m.type = GUARD_KEEP;
	m.key = g->stage->key;
	m.id = g->id;
	m.off = g->off;
	m.len = g->len;
	m.run = g->run;
	m.arg[0] = g->interval_ms;
	memcpy(m.text, g->stage->name, sizeof(m.text));
	pthread_mutex_lock(&lock);
	err = ask_locked(&m, fd, PROTO_FDS, patience);
	if (err)
		atomic_store(&untold, true);
	else if (us.pair >= 0)
		g->kept_by = guardians;
	pthread_mutex_unlock(&lock);
	return err;
}

int guarded_keep(struct segment *g)
{
	return keep(g, PATIENCE);
}

void guarded_keep_anyhow(struct segment *g)
{
	bool said = false;

	while (guarded_keep(g)) {
		if (!said)
			keeper_say("%s: the guardian cannot keep what is staged; trying again",
				   g->stage->name);
		said = true;
		pause_10ms();
	}
}

void guarded_drop(struct segment *g)
{
	struct msg m;

	pthread_mutex_lock(&keeper.lock);
	g->ending = true;
	pthread_mutex_unlock(&keeper.lock);
	/* What it kept for ever would be taken for staged by the next worker. */
	for (;;) {
		msg_init(&m, MSG_ABORT);
		m.type = GUARD_DROP;
		m.id = g->id;
		if (!ask(&m, NULL, 0))
			break;
		pause_10ms();
	}
}

void guarded_leave(bool for_another)
{
	struct msg m;

	msg_init(&m, MSG_ABORT);
	m.type = GUARD_LEAVE;
	m.flags = for_another ? LEAVE_FOR_ANOTHER : 0;
	(void)ask(&m, NULL, 0);
}

int guarded_fd(void)
{
	return us.pair;
}

void guarded_lost(void)
{
	pthread_mutex_lock(&lock);
	close(us.pair);
	us.pair = -1;
	pthread_mutex_unlock(&lock);
	next_try = now_ms();
}

/* What could not be told stays with us alone until it can: who waits for the lock is not to
 * wait for that. What is in the way of one is in the way of all. */
static void tell_all(void)
{
	static bool said;
	struct segment *g;
	struct stage *s;

	atomic_store(&untold, false);
	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link) {
			if (g->state == SEGMENT_FILLING || g->ending ||
			    g->kept_by == guardians || keep(g, 0) == 0)
				continue;
			if (!said)
				keeper_say("%s: the guardian cannot keep what is staged; "
					   "trying again",
					   s->name);
			said = true;
			return;
		}
	said = false;
}

static bool have_guardian(void)
{
	int pair;

	if (us.pair >= 0)
		return true;
	pair = guardian_start_another(&us);
	if (pair < 0) {
		keeper_say("cannot start another guardian: %s", strerror(-pair));
		return false;
	}
	pthread_mutex_lock(&lock);
	us.pair = pair;
	guardians++;
	pthread_mutex_unlock(&lock);
	atomic_store(&untold, true);
	return true;
}

uint64_t guarded_revive(void)
{
	const uint64_t now = now_ms();

	if (us.pair >= 0 && !atomic_load(&untold))
		return UINT64_MAX;
	if (now >= next_try) {
		next_try = now + AGAIN_MS;
		if (have_guardian()) {
			tell_all();
			if (!atomic_load(&untold))
				return UINT64_MAX;
		}
	}
	return next_try - now;
}

/* Out of memory or descriptors is waited for, for a while: whatever else we do can wait, too.
 */
static int adopt_patiently(struct stage *s, const struct vault_entry *e, struct segment **ret)
{
	int err = -ENOMEM;

	for (int tries = 0; tries < 500; tries++) {
		err = segment_adopt(s, &e->m, e->fd[VAULT_MEMORY], e->fd[VAULT_LEDGER], ret);
		if (err != -ENOMEM && err != -EMFILE && err != -ENFILE)
			break;
		pause_10ms();
	}
	return err;
}

static int never_to_be_written_patiently(struct segment *g)
{
	int err = never_to_be_written(g);

	for (int tries = 0; err && tries < 500; tries++) {
		pause_10ms();
		err = never_to_be_written(g);
	}
	return err;
}

static bool adopt(struct vault_entry *e)
{
	struct stage *s = stage_find(e->m.key, true);
	struct segment *g;
	int err;

	if (s->fd < 0)
		stage_opened(s, e->fd[VAULT_FILE]);
	memcpy(s->name, e->m.text, sizeof(s->name));
	err = adopt_patiently(s, e, &g);
	if (err) {
		keeper_say("%s: what is staged at offset %lu cannot be taken over: %s", s->name,
			   e->m.off, strerror(-err));
		return false;
	}
	close(e->fd[VAULT_MEMORY]);
	close(e->fd[VAULT_LEDGER]);
	segment_admit(g, e->m.id, e->m.run, e->m.arg[0]);
	g->kept_by = guardians;
	if (segment_is_superseded(g) && never_to_be_written_patiently(g) < 0)
		engine_record_bases(
			g); /* in the ledger of its successor, if that still comes */
	segment_is_current(g);
	return true;
}

void guarded_begin(struct guardian *g)
{
	struct vault_entry *e;
	unsigned n = 0, failed = 0;
	struct stage *s;

	us = *g;
	LIST_INIT(&us.vault);
	pthread_mutex_lock(&keeper.lock);
	while ((e = LIST_FIRST(&g->vault))) {
		if (adopt(e))
			n++;
		else
			failed++;
		LIST_REMOVE(e, link);
		free(e);
	}
	if (n || failed)
		keeper_say("took over %u segments from a keeper that was ended", n);
	LIST_FOREACH(s, &keeper.stages, link)
		lane_post_pass(s);
	pthread_mutex_unlock(&keeper.lock);
}
