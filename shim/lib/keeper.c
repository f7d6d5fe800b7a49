/* SPDX-License-Identifier: MIT */
#include "lib/keeper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "lib/init.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/spawn.h"

/* One request at a time travels on a conversation. Conversations stay open as long as the process
 * lives: their end is how the keeper learns of ours. */
static struct conversation {
	int fd;
	bool busy;
} conversation[8];
static size_t open_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;

#define HELLO_TIMEOUT_MS 20000

/* What makes the conversations of one process one client, and a forked child another. */
static uint64_t process_token(void)
{
	static uint64_t token;
	static pid_t of;

	if (of != getpid()) {
		if (getrandom(&token, sizeof(token), 0) != sizeof(token))
			token = (uint64_t)getpid();
		of = getpid();
	}
	return token;
}

static int hello(int fd, enum reason *ret_why)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct msg m;
	int err;

	msg_init(&m, MSG_HELLO);
	m.arg[0] = options.sync_interval_ms;
	m.arg[1] = options.max_bytes;
	m.arg[2] = (uint64_t)getpid();
	m.arg[3] = process_token();
	m.run = run_id;
	err = msg_send(fd, &m, NULL, 0);
	if (!err && poll(&p, 1, HELLO_TIMEOUT_MS) <= 0)
		err = -ETIMEDOUT;
	if (!err)
		err = msg_recv(fd, &m, NULL, 0);
	*ret_why = REASON_KEEPER_LOST;
	if (!err && (m.version != PROTO_VERSION || m.error)) {
		*ret_why = m.error == -EPERM ? REASON_RENDEZVOUS : REASON_PROTOCOL;
		err = m.error ? m.error : -EPROTO;
	}
	return err;
}

/* The socket of a running keeper, or of one started for us. A keeper that is just ending, or
 * another newcomer that was faster, are met by trying again. */
static int dial(enum reason *ret_why)
{
	const uid_t uid = geteuid();
	int dir, fd, err = -ECONNREFUSED;

	dir = rendezvous_open(uid, 1);
	*ret_why = REASON_RENDEZVOUS;
	if (dir < 0)
		return dir;
	for (int tries = 0; tries < 10; tries++) {
		fd = rendezvous_connect(dir, uid);
		if (fd != -ECONNREFUSED && fd != -ENOENT) {
			real.close(dir);
			return fd;
		}
		*ret_why = REASON_NO_KEEPER;
		err = spawn_keeper();
		if (err)
			break;
	}
	real.close(dir);
	return err;
}

static int conversation_open(struct conversation *c, enum reason *ret_why)
{
	int fd, err = 0;

	for (int tries = 0; tries < 10; tries++) {
		fd = dial(ret_why);
		if (fd < 0)
			return fd;
		err = hello(fd, ret_why);
		if (!err)
			break;
		real.close(fd);
		if (err != -ECONNRESET && err != -EPIPE) /* a keeper that is just ending */
			break;
	}
	if (err)
		return err;
	fd = ownfd_adopt(fd);
	if (fd < 0) {
		*ret_why = REASON_NO_FILES;
		return fd;
	}
	c->fd = fd;
	return 0;
}

/* A free conversation, marked busy; a new one if all are busy and there may be more. The slot is
 * taken before it is opened, so that opening needs no lock. */
static int take(struct conversation **ret, enum reason *ret_why)
{
	struct conversation *c = NULL;
	size_t i;
	int err = 0;

	pthread_mutex_lock(&lock);
	for (;;) {
		for (i = 0; i < open_count && !c; i++)
			if (!conversation[i].busy)
				c = &conversation[i];
		if (!c && open_count < ARRAY_SIZE(conversation)) {
			c = &conversation[open_count++];
			c->fd = -1;
		}
		if (c)
			break;
		pthread_cond_wait(&freed, &lock);
	}
	c->busy = true;
	pthread_mutex_unlock(&lock);
	if (c->fd < 0)
		err = conversation_open(c, ret_why);
	*ret = c;
	return err;
}

static void give_back(struct conversation *c, bool broken)
{
	if (broken && c->fd >= 0) {
		ownfd_close(c->fd);
		c->fd = -1;
	}
	pthread_mutex_lock(&lock);
	c->busy = false;
	pthread_cond_signal(&freed);
	pthread_mutex_unlock(&lock);
}

int keeper_connect(enum reason *ret_why)
{
	struct conversation *c;
	int err = take(&c, ret_why);

	give_back(c, err != 0);
	return err;
}

int keeper_call_via(struct msg *m, int (*send)(int sock, struct msg *m, void *arg), void *arg, int *got,
		    enum reason *ret_why)
{
	struct conversation *c;
	bool broken = false;
	sigset_t all, mask;
	int cancel, err;

	/* A thread that leaves in the middle would take the conversation along. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	*ret_why = REASON_NONE;
	err = take(&c, ret_why);
	if (!err) {
		err = send(c->fd, m, arg);
		if (err == -EPIPE || err == -ECONNRESET) {
			/* The keeper went between two requests: nothing was asked yet. */
			give_back(c, true);
			err = take(&c, ret_why);
			if (!err)
				err = send(c->fd, m, arg);
		}
		if (!err) {
			err = msg_recv(c->fd, m, got, got ? PROTO_FDS : 0);
			broken = err != 0;
			if (broken)
				*ret_why = REASON_KEEPER_LOST;
		}
	}
	give_back(c, broken || c->fd < 0);
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (err)
		return err;
	*ret_why = (enum reason)m->reason;
	return m->error;
}

struct plain_send {
	const int *fds;
	size_t n;
};

static int send_plain(int sock, struct msg *m, void *arg)
{
	struct plain_send *p = arg;

	return msg_send(sock, m, p->fds, p->n);
}

int keeper_call(struct msg *m, const int *fds, size_t n, int *got, enum reason *ret_why)
{
	struct plain_send p = { fds, n };

	return keeper_call_via(m, send_plain, &p, got, ret_why);
}

int keeper_known(void)
{
	return open_count > 0;
}

void keeper_after_fork(void)
{
	for (size_t i = 0; i < open_count; i++)
		if (conversation[i].fd >= 0)
			ownfd_close(conversation[i].fd);
	open_count = 0;
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	freed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

void keeper_fd_moved(int from, int to)
{
	for (size_t i = 0; i < open_count; i++)
		if (conversation[i].fd == from)
			conversation[i].fd = to;
}
