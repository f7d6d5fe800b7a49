/* SPDX-License-Identifier: MIT */
/* The main thread: conversations, time, and the end. It touches no file. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"

static int epoll;

/* The sockets do not block: a client that does not read its answers loses its conversation, and
 * delays nobody. */
void answer(struct conversation *c, struct msg *m, const int *fds, size_t n)
{
	m->magic = PROTO_MAGIC;
	m->version = PROTO_VERSION;
	if (msg_send(c->fd, m, fds, n) < 0)
		shutdown(c->fd, SHUT_RDWR);
}

static void client_gone(struct client *c)
{
	struct segment *g;
	struct stage *s;
	bool left;

	LIST_FOREACH(s, &keeper.stages, link) {
		left = false;
		LIST_FOREACH(g, &s->segments, link) {
			segment_unuse(g, c);
			left |= LIST_EMPTY(&g->users);
		}
		if (left) {
			lane_post_pass(s);
		}
	}
	LIST_REMOVE(c, link);
	free(c);
}

void conversation_put(struct conversation *c)
{
	struct waiter *w, *next;

	if (--c->refs)
		return;
	for (w = LIST_FIRST(&keeper.waiters); w; w = next) {
		next = LIST_NEXT(w, link);
		if (w->from == c) {
			LIST_REMOVE(w, link);
			free(w);
		}
	}
	if (c->client && --c->client->conversations == 0)
		client_gone(c->client);
	keeper.conversations--;
	close(c->fd);
	free(c);
}

static struct client *client_find(uint64_t token)
{
	struct client *c;

	LIST_FOREACH(c, &keeper.clients, link)
		if (c->token == token)
			return c;
	return NULL;
}

/* A program with a small hard limit on descriptors made a keeper that has it, too. It leaves
 * for the first client that could start a better one, unless somebody needs it now. */
static bool should_leave(const struct msg *m)
{
	const uint64_t plenty = 1024;
	struct segment *g;
	struct stage *s;

	if (keeper.files >= plenty || m->len <= keeper.files)
		return keeper.leaving;
	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link)
			if (!LIST_EMPTY(&g->users))
				return false;
	return true;
}

static int hello(struct conversation *c, struct msg *m)
{
	struct client *k;

	if (m->version != PROTO_VERSION || c->client)
		return -EPROTO;
	k = client_find(m->arg[3]);
	if (!k) {
		k = xcalloc(1, sizeof(*k));
		k->token = m->arg[3];
		k->pid = m->arg[2];
		k->run = m->run;
		k->interval_ms = MAX(m->arg[0], (uint64_t)10);
		k->budget = m->arg[1];
		LIST_INSERT_HEAD(&keeper.clients, k, link);
	}
	k->conversations++;
	c->client = k;
	m->arg[0] = (uint64_t)getpid();
	m->arg[1] = keeper.instance;
	return 0;
}

static void status(struct conversation *c, uint64_t skip)
{
	uint64_t at = 0, more = 0;
	struct segment *g;
	struct stage *s;
	struct use *u;
	struct msg m;

	LIST_FOREACH(s, &keeper.stages, link) {
		LIST_FOREACH(g, &s->segments, link) {
			if (at++ < skip)
				continue;
			if (at > skip + STATUS_PAGE) {
				more = 1;
				break;
			}
			msg_init(&m, MSG_STATUS);
			m.key = s->key;
			m.id = g->id;
			m.off = g->off;
			m.len = g->len;
			m.run = g->run;
			m.error = s->error;
			m.arg[0] = g->dirty;
			LIST_FOREACH(u, &g->users, link)
				m.arg[1]++;
			m.arg[2] = now_ms() - s->last_good;
			m.arg[3] = g->state;
			memcpy(m.text, s->name, sizeof(m.text));
			answer(c, &m, NULL, 0);
		}
	}
	msg_init(&m, MSG_STATUS);
	m.last = 1;
	m.arg[0] = keeper.staged;
	m.arg[1] = more;
	answer(c, &m, NULL, 0);
}

/* One that is left of a run; one that cannot be written before others. */
static struct segment *segment_of_run(uint64_t run)
{
	struct segment *g, *found = NULL;
	struct stage *s;

	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link)
			if (g->run == run && (!found || s->error))
				found = g;
	return found;
}

/* Answers those who wait for the end of a run, if it has come or their time is up. */
static void check_waiters(void)
{
	struct waiter *w, *next;
	struct segment *g;
	struct msg m;

	for (w = LIST_FIRST(&keeper.waiters); w; w = next) {
		next = LIST_NEXT(w, link);
		g = segment_of_run(w->run);
		if (g && now_ms() < w->deadline)
			continue;
		msg_init(&m, MSG_WAIT);
		if (g) {
			m.error = g->stage->error ? g->stage->error : -EBUSY;
			m.reason = g->stage->error ? REASON_WRITE_BACK : REASON_IN_USE;
			memcpy(m.text, g->stage->name, sizeof(m.text));
		}
		answer(w->from, &m, NULL, 0);
		LIST_REMOVE(w, link);
		free(w);
	}
}

static void wait_for_run(struct conversation *c, const struct msg *m)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	w->from = c;
	w->run = m->run;
	w->deadline = now_ms() + MIN(m->arg[0], (uint64_t)24 * 3600 * 1000);
	LIST_INSERT_HEAD(&keeper.waiters, w, link);
	check_waiters();
}

/* The stage that a request is about, or NULL. Only the descriptor says which file STAGE means.
 */
static struct stage *stage_of(struct msg *m, int fd, int *ret_err)
{
	struct segment *g;
	struct stat st;

	*ret_err = -ENOENT;
	switch (m->type) {
	case MSG_STAGE:
	case MSG_ATTACH:
		*ret_err = -EBADF;
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			return NULL;
		*ret_err = -ESTALE;
		if (st.st_dev != m->key.dev || st.st_ino != m->key.ino)
			return NULL;
		return stage_find(m->key, true);
	case MSG_SYNC:
	case MSG_WROTE:
		return stage_find(m->key, false);
	case MSG_CLEAN:
	case MSG_COMMIT:
	case MSG_ABORT:
	case MSG_RETIRE:
	case MSG_RELEASE:
		g = segment_by_id(m->id);
		return g ? g->stage : NULL;
	}
	*ret_err = -EPROTO;
	return NULL;
}

static void dispatch(struct conversation *c, struct msg *m, int *fds)
{
	struct stage *s;
	struct job *j;
	int err;

	if (m->type != MSG_HELLO && !c->client) {
		shutdown(c->fd, SHUT_RDWR);
		return;
	}
	switch (m->type) {
	case MSG_HELLO:
		keeper.leaving = should_leave(m);
		if (keeper.leaving)
			return; /* the end of the conversation will be the answer */
		m->error = hello(c, m);
		m->reason = m->error ? REASON_PROTOCOL : REASON_NONE;
		answer(c, m, NULL, 0);
		return;
	case MSG_STATUS:
		status(c, m->arg[0]);
		return;
	case MSG_WAIT:
		wait_for_run(c, m);
		return;
	}
	s = stage_of(m, fds[0], &err);
	if (!s) {
		m->error = err;
		m->reason = err == -ESTALE ? REASON_CHANGED
			    : err	   ? REASON_NO_DESCRIPTOR
					   : REASON_NONE;
		answer(c, m, NULL, 0);
		return;
	}
	j = xcalloc(1, sizeof(*j));
	j->kind = JOB_REQUEST;
	j->from = c;
	j->m = *m;
	for (int i = 0; i < PROTO_FDS; i++)
		j->fd[i] = steal_fd(&fds[i]);
	c->refs++;
	lane_post(s, j);
}

static void readable(struct conversation *c)
{
	int fds[PROTO_FDS], err;
	struct msg m;

	err = msg_recv(c->fd, &m, fds, PROTO_FDS);
	if (err == -EAGAIN)
		return;
	if (!err)
		dispatch(c, &m, fds);
	for (int i = 0; i < PROTO_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (err) {
		epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
		conversation_put(c);
	}
}

static void accept_one(int listener)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct conversation *c;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		/* Out of descriptors: the listener stays readable; do not spin over it. */
		if (errno == EMFILE || errno == ENFILE)
			usleep(10 * 1000);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != geteuid() && peer.uid != 0)) {
		close(fd);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->fd = fd;
	c->pid = peer.pid;
	c->refs = 1;
	ev.data.ptr = c;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		close(fd);
		free(c);
		return;
	}
	keeper.conversations++;
}

/* Posts the passes that are due; returns when the next thing is, in ms, or -1. */
static int tick(void)
{
	uint64_t now = now_ms(), next = UINT64_MAX;
	struct waiter *w;
	struct stage *s;

	check_waiters();
	if (!lanes_staffed())
		next = now + 100;
	LIST_FOREACH(s, &keeper.stages, link) {
		if (LIST_EMPTY(&s->segments))
			continue;
		if (!s->busy && !s->queued && s->next_pass <= now) {
			if (s->next_pass)
				lane_post_pass(s);
			s->next_pass = now + 1000; /* the pass sets its own */
		}
		if (!s->busy)
			next = MIN(next, s->next_pass);
	}
	LIST_FOREACH(w, &keeper.waiters, link)
		next = MIN(next, w->deadline);
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 1 : (int)MIN(next - now + 1, (uint64_t)INT_MAX);
}

static bool idle(void)
{
	return keeper.conversations == 0 && LIST_EMPTY(&keeper.stages);
}

/* Runs until nobody needs it for idle_exit_ms. Returns 0 then. */
int server_run(int listener, uint64_t idle_exit_ms)
{
	struct epoll_event ev = { .events = EPOLLIN }, got[64];
	uint64_t idle_since = now_ms();
	eventfd_t value;
	int n, wait;

	epoll = epoll_create1(EPOLL_CLOEXEC);
	keeper.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll < 0 || keeper.event < 0)
		return -errno;
	ev.data.ptr = &listener;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev) < 0)
		return -errno;
	ev.data.ptr = &keeper.event;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, keeper.event, &ev) < 0)
		return -errno;
	pthread_mutex_lock(&keeper.lock);
	for (;;) {
		wait = tick();
		if (keeper.leaving && LIST_EMPTY(&keeper.stages))
			break;
		if (!idle())
			idle_since = now_ms();
		else if (now_ms() - idle_since >= idle_exit_ms)
			break;
		else
			wait = (int)(idle_since + idle_exit_ms - now_ms()) + 1;
		pthread_mutex_unlock(&keeper.lock);
		n = epoll_wait(epoll, got, ARRAY_SIZE(got), wait);
		pthread_mutex_lock(&keeper.lock);
		for (int i = 0; i < n; i++) {
			if (got[i].data.ptr == &listener)
				accept_one(listener);
			else if (got[i].data.ptr == &keeper.event)
				(void)eventfd_read(keeper.event, &value);
			else
				readable(got[i].data.ptr);
		}
	}
	pthread_mutex_unlock(&keeper.lock);
	return 0;
}
