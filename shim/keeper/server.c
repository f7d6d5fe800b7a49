/* SPDX-License-Identifier: MIT */
/* The main thread: conversations, time, and the end. It touches no file. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keeper/guarded.h"
#include "keeper/outsiders.h"
#include "keeper/server.h"

#define CROWDED_MS 10

static int epoll;

static void readable(struct conversation *c)
{
	int fds[PROTO_ASKS], err;
	struct msg m;

	err = msg_recv(c->fd, &m, fds, PROTO_ASKS);
	if (err == -EAGAIN)
		return;
	if (!err)
		dispatch(c, &m, fds);
	for (int i = 0; i < PROTO_ASKS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (err) {
		epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
		conversation_put(c);
	}
}

/* Out of descriptors: the listener stays readable, and is not looked at for a while. */
static struct {
	int listener;
	uint64_t until; /* ms; 0: it is looked at */
} crowded;

static void look_at_listener(bool look)
{
	struct epoll_event ev = { .events = look ? EPOLLIN : 0, .data.ptr = &crowded.listener };

	if (epoll_ctl(epoll, EPOLL_CTL_MOD, crowded.listener, &ev) == 0)
		crowded.until = look ? 0 : now_ms() + CROWDED_MS;
}

static void accept_one(int listener)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct conversation *c;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			look_at_listener(false);
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

/* Their addresses stand for them among the events. */
static char outsiders, guardian;

static int watch(int fd, uint32_t events, void *who)
{
	struct epoll_event ev = { .events = events, .data.ptr = who };
	int err = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;

	if (err)
		keeper_say("cannot watch a descriptor: %s", strerror(-err));
	return err;
}

/* Posts the passes that are due; returns when the next thing is, in ms, or -1. */
static int tick(void)
{
	const bool guarded = guarded_fd() >= 0;
	uint64_t now = now_ms(), next = UINT64_MAX, in;
	struct waiter *w;
	struct stage *s;

	check_waiters();
	if (crowded.until && crowded.until <= now)
		look_at_listener(true);
	if (crowded.until)
		next = crowded.until;
	if (!lanes_staffed())
		next = MIN(next, now + 100);
	next = MIN(next, leave_or_stay());
	in = guarded_revive();
	if (in != UINT64_MAX)
		next = MIN(next, now + in);
	if (!guarded && guarded_fd() >= 0)
		(void)watch(guarded_fd(), 0, &guardian);
	LIST_FOREACH(s, &keeper.stages, link) {
		if (LIST_EMPTY(&s->segments))
			continue;
		if (!s->busy && !s->queued) /* or whoever has it posts them */
			lane_post_due_pass(s, now);
		if (!s->busy && !s->queued)
			next = MIN(next, s->next_pass);
	}
	LIST_FOREACH(w, &keeper.waiters, link)
		next = MIN(next, w->deadline);
	if (farewell_pending())
		next = MIN(next, now + 1000);
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
	struct epoll_event got[64];
	uint64_t idle_since = now_ms();
	eventfd_t value;
	int n, wait;

	farewell_prepare();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		return -errno;
	/* Without these it would be alive, and of no use to anybody. */
	crowded.listener = listener;
	if (watch(listener, EPOLLIN, &crowded.listener) < 0 ||
	    watch(keeper.event, EPOLLIN, &keeper.event) < 0 ||
	    (guarded_fd() >= 0 && watch(guarded_fd(), 0, &guardian) < 0)) /* only its end */
		return -ENOMEM;
	(void)watch(outsiders_fd(), EPOLLIN, &outsiders);
	pthread_mutex_lock(&keeper.lock);
	for (;;) {
		if (farewell_done())
			break;
		wait = tick();
		if (keeper.leaving && LIST_EMPTY(&keeper.stages))
			break;
		if (!idle())
			idle_since = now_ms();
		else if (now_ms() - idle_since >= idle_exit_ms)
			break;
		else if (!crowded.until)
			wait = (int)(idle_since + idle_exit_ms - now_ms()) + 1;
		pthread_mutex_unlock(&keeper.lock);
		n = epoll_wait(epoll, got, ARRAY_SIZE(got), wait);
		pthread_mutex_lock(&keeper.lock);
		for (int i = 0; i < n; i++) {
			if (got[i].data.ptr == &crowded.listener)
				accept_one(listener);
			else if (got[i].data.ptr == &keeper.event)
				(void)eventfd_read(keeper.event, &value);
			else if (got[i].data.ptr == &outsiders)
				outsiders_heard();
			else if (got[i].data.ptr == &guardian)
				guarded_lost();
			else
				readable(got[i].data.ptr);
		}
	}
	pthread_mutex_unlock(&keeper.lock);
	return 0;
}
