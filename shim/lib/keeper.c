/* SPDX-License-Identifier: MIT */
#include "lib/keeper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "lib/init.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/recover.h"
#include "lib/space.h"
#include "lib/spawn.h"

/* One request at a time travels on a conversation. Conversations stay open as long as the
 * process lives: their end is how the keeper learns of ours. */
static struct conversation {
	int fd;
	bool busy;
	uint64_t about; /* then: the file system that the answer may have to wait for, or 0 */
	uint64_t with;	/* the keeper's instance */
} conversation[16] = { [0 ... 15] = { .fd = -1 } };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;

static uid_t keeper_of; /* whose keeper the conversations are with, or were the last ones */

#define HELLO_TIMEOUT_MS 20000
#define TRIES		 8 /* keepers that may die over one request, */
#define TRIES_UNKNOWN	 4 /* or know nothing of what it is about */

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

/* Instances of keepers: the one that we met last, and the last one that knows of everything we
 * have staged. Another one would say of what it does not know that nothing is to be done. */
static _Atomic(uint64_t) met, told;

uint64_t keeper_met(void)
{
	return atomic_load(&met);
}

void keeper_told(uint64_t instance)
{
	atomic_store(&told, instance);
}

bool keeper_is_told(void)
{
	return atomic_load(&told) == atomic_load(&met);
}

static atomic_bool fate_shared, takes_copied, takes_origin;

bool keeper_fate_shared(void)
{
	return fate_shared;
}

bool keeper_takes_copied(void)
{
	return takes_copied;
}

bool keeper_takes_origin(void)
{
	return takes_origin;
}

static int hello(int fd, uint64_t *ret_instance, enum reason *ret_why)
{
	struct rlimit files;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct msg m;
	int err;

	msg_init(&m, MSG_HELLO);
	m.arg[0] = options.sync_interval_ms;
	m.arg[1] = options.max_bytes;
	m.arg[2] = (uint64_t)getpid();
	m.arg[3] = process_token();
	m.len = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_max : 0;
	m.run = run_id;
	m.flags = prctl(PR_GET_SECCOMP) == 0 ? CLIENT_UNFILTERED : 0;
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
	if (!err) {
		*ret_instance = m.arg[1];
		atomic_store(&met, m.arg[1]);
		fate_shared = m.flags & FATE_SHARED;
		takes_copied = m.flags & TAKES_COPIED;
		takes_origin = m.flags & TAKES_ORIGIN;
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
	*ret_why = is_no_files(dir) ? REASON_NO_FILES : REASON_RENDEZVOUS;
	if (dir < 0)
		return dir;
	for (int tries = 0; tries < 10; tries++) {
		fd = rendezvous_connect(dir, uid);
		if (fd != -ECONNREFUSED && fd != -ENOENT) {
			if (is_no_files(fd))
				*ret_why = REASON_NO_FILES;
			real.close(dir);
			return fd;
		}
		err = spawn_keeper();
		*ret_why = is_no_files(err) ? REASON_NO_FILES : REASON_NO_KEEPER;
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
		err = hello(fd, &c->with, ret_why);
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
	keeper_of = geteuid();
	c->fd = fd;
	return 0;
}

/* Whether all may be busy, and another one opened. */
enum opens {
	OPEN_NONE,
	OPEN_MORE, /* with the keeper that we talk to, if any */
	OPEN_ANY,
};

/* However many threads wait for one file system, or several, that are stuck: each gets no more
 * conversations than are left for the others. Who holds the lock of the records need not share,
 * for others wait for that. */
static bool may_take(uint64_t about, size_t same, size_t left)
{
	return !about || same < left || space_inside();
}

/* With other privileges than before it would be another keeper, which knows nothing of what is
 * staged. Nor must it hear of that: two would write the same memory to the file. */
static bool may_open(enum opens opens, size_t opened)
{
	if (opens == OPEN_NONE || (!opened && opens != OPEN_ANY))
		return false;
	return (!opened && !atomic_load(&space.held)) || keeper_of == geteuid();
}

/* The one that is to be taken now, or NULL. Of those that are open some are left for the
 * others, too: no more may be to be had. Lock held. */
static struct conversation *choose(uint64_t about, enum opens opens, size_t *ret_opened)
{
	struct conversation *c = NULL, *spare = NULL;
	size_t same = 0, free = 0, unopened = 0;

	*ret_opened = 0;
	for (size_t i = 0; i < ARRAY_SIZE(conversation); i++) {
		*ret_opened += conversation[i].fd >= 0 || conversation[i].busy;
		if (conversation[i].busy) {
			same += conversation[i].about == about;
		} else if (conversation[i].fd >= 0) {
			c = &conversation[i];
			free++;
		} else {
			spare = &conversation[i];
			unopened++;
		}
	}
	if (c && may_take(about, same, free))
		return c;
	if (!may_open(opens, *ret_opened) || !may_take(about, same, free + unopened))
		return NULL;
	return spare;
}

/* A conversation that is open and free, marked busy, or a new one; the slot is taken before it
 * is opened, so that opening needs no lock. */
static int take(struct conversation **ret, uint64_t about, enum opens opens,
		enum reason *ret_why)
{
	const uint64_t before = atomic_load(&met);
	struct conversation *c;
	size_t opened;
	int err;

	pthread_mutex_lock(&lock);
	while (!(c = choose(about, opens, &opened)) && opened)
		pthread_cond_wait(&freed, &lock);
	if (c) {
		c->busy = true;
		c->about = about;
	}
	pthread_mutex_unlock(&lock);
	*ret = c;
	*ret_why = REASON_KEEPER_LOST;
	if (!c)
		return -ENOTCONN;
	if (c->fd >= 0)
		return 0;
	err = conversation_open(c, ret_why);
	if (!err && opens == OPEN_MORE && c->with != before) {
		*ret_why = REASON_KEEPER_LOST;
		err = -ECONNRESET;
	}
	return err;
}

static void hang_up(struct conversation *c)
{
	if (c->fd >= 0)
		ownfd_close(c->fd);
	c->fd = -1;
}

/* When a keeper dies, all conversations with it do: each that is idle would otherwise cost
 * whoever takes it next a try. */
static void hang_up_dead(void)
{
	struct pollfd p = { .events = POLLIN };

	for (size_t i = 0; i < ARRAY_SIZE(conversation); i++) {
		p.fd = conversation[i].busy ? -1 : conversation[i].fd;
		if (p.fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)))
			hang_up(&conversation[i]);
	}
}

static void give_back(struct conversation *c, bool broken)
{
	if (!c)
		return;
	if (broken)
		hang_up(c);
	pthread_mutex_lock(&lock);
	if (broken)
		hang_up_dead();
	c->busy = false;
	pthread_cond_broadcast(&freed);
	pthread_mutex_unlock(&lock);
}

int keeper_connect(enum reason *ret_why)
{
	struct conversation *c;
	int err = take(&c, 0, OPEN_ANY, ret_why);

	give_back(c, err != 0);
	return err;
}

struct exchange_of_words {
	struct msg *m;
	int (*send)(int sock, struct msg *m, void *arg);
	void *arg;
	int *got;
	bool fresh;
};

static bool repeatable(unsigned type)
{
	return type == MSG_SYNC || type == MSG_WROTE;
}

/* A new conversation may be out of reach: no descriptors left, another root directory, other
 * privileges. Then those that are open must do. */
static int take_or_wait(struct conversation **ret, const struct msg *m, bool fresh,
			enum reason *ret_why)
{
	const enum opens opens = fresh ? OPEN_ANY : space_inside() ? OPEN_MORE : OPEN_NONE;
	const uint64_t about = repeatable(m->type) ? m->key.dev : 0;
	enum reason why;
	int err = take(ret, about, opens, ret_why);

	if (!err || opens == OPEN_NONE || !*ret)
		return err;
	give_back(*ret, true);
	return take(ret, about, OPEN_NONE, &why) ? err : 0;
}

/* Once. *ret_lost: the keeper went away over it, or is one that has to be told first. */
static int converse(struct exchange_of_words *e, enum reason *ret_why, bool *ret_lost)
{
	struct conversation *c;
	bool unsent = false;
	int err;

	*ret_lost = false;
	*ret_why = REASON_NONE;
	err = take_or_wait(&c, e->m, e->fresh, ret_why);
	if (!err && e->fresh && repeatable(e->m->type) && c->with != atomic_load(&told)) {
		give_back(c, false);
		*ret_lost = true;
		return -ECONNRESET;
	}
	if (!err) {
		err = e->send(c->fd, e->m, e->arg);
		/* For want of memory, of descriptors in flight, ...: nothing was said. A child
		 * that sends for us may have died over it. */
		unsent = err && err != -EPIPE && err != -ECONNRESET && err != -ECHILD;
		if (!err)
			err = msg_recv(c->fd, e->m, e->got, e->got ? PROTO_FDS : 0);
		*ret_lost = err == -EPIPE || err == -ECONNRESET;
		if (err)
			*ret_why = REASON_KEEPER_LOST;
	}
	/* What it has done we do not know; and if that was our last conversation, it takes us
	 * for dead. Whatever is staged here has to be told anew, also to the same keeper. */
	if (err && !unsent)
		keeper_told(0);
	give_back(c, err && !unsent);
	if (err)
		return err;
	*ret_why = (enum reason)e->m->reason;
	return e->m->error;
}

/* With signals blocked and cancellation off: a thread that leaves in the middle would take the
 * conversation along. Comes to what the last keeper answered, if any: that one has been told is
 * not an answer. */
static int converse_until_answered(struct exchange_of_words *e, enum reason *ret_why)
{
	const struct msg request = *e->m;
	sigset_t all, mask;
	int cancel, err = -ENOTCONN, unknown = 0;
	bool lost;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	for (int tries = 0; tries < TRIES; tries++) {
		if (tries) {
			err = recover(ret_why);
			if (err)
				break;
		}
		*e->m = request;
		err = converse(e, ret_why, &lost);
		/* A keeper that knows nothing of the file has taken the place of one that did.
		 */
		if (repeatable(request.type) && err == -ENOENT && ++unknown < TRIES_UNKNOWN) {
			keeper_told(0);
			lost = true;
		}
		if (!lost || !e->fresh || !repeatable(request.type))
			break;
	}
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return err;
}

int keeper_call_via(struct msg *m, int (*send)(int sock, struct msg *m, void *arg), void *arg,
		    int *got, enum reason *ret_why)
{
	struct exchange_of_words e = { m, send, arg, got, true };

	return converse_until_answered(&e, ret_why);
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

int keeper_ask(struct msg *m, int *got, enum reason *ret_why)
{
	struct plain_send p = { NULL, 0 };
	struct exchange_of_words e = { m, send_plain, &p, got, false };

	return converse_until_answered(&e, ret_why);
}

/* Whether the keeper is still there is the next request's to find out. */
void keeper_tell(const struct msg *m)
{
	struct conversation *c;
	sigset_t all, mask;
	enum reason why;
	int cancel;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (take_or_wait(&c, m, false, &why) == 0) {
		(void)msg_send(c->fd, m, NULL, 0);
		give_back(c, false);
	}
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

void keeper_after_fork(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(conversation); i++) {
		ownfd_close(conversation[i].fd);
		conversation[i] = (struct conversation){ .fd = -1 };
	}
	atomic_store(&told, 0); /* it knows our parent, not us */
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	freed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

/* One that is being opened may have the number without having said so yet. */
struct conversation *keeper_fd_hold(int fd)
{
	struct conversation *c;
	bool wait;

	pthread_mutex_lock(&lock);
	for (;;) {
		c = NULL;
		wait = false;
		for (size_t i = 0; i < ARRAY_SIZE(conversation); i++) {
			if (conversation[i].fd == fd)
				c = &conversation[i];
			if (conversation[i].fd < 0 && conversation[i].busy)
				wait = true;
		}
		wait = c ? c->busy : wait;
		if (!wait)
			break;
		pthread_cond_wait(&freed, &lock);
	}
	if (c)
		c->busy = true;
	pthread_mutex_unlock(&lock);
	return c;
}

void keeper_fd_let_go(struct conversation *c)
{
	give_back(c, false);
}

void keeper_fd_moved(int from, int to)
{
	for (size_t i = 0; i < ARRAY_SIZE(conversation); i++)
		if (conversation[i].fd == from)
			conversation[i].fd = to;
}
