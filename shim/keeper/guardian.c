/* SPDX-License-Identifier: MIT */
#include "keeper/guardian.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"

#define PAUSE_MOST_MS 2000
#define STEADY_MS     10000 /* a worker that lived that long was no failure from the start */

static volatile sig_atomic_t told_to_end;

static void note(int sig)
{
	told_to_end = sig;
}

static struct {
	char *at;
	size_t room;
} arguments; /* what ps shows */

void guardian_title_room(int argc, char **argv)
{
	arguments.at = argv[0];
	arguments.room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]);
}

void guardian_title(const char *name)
{
	(void)prctl(PR_SET_NAME, name);
	if (arguments.room > strlen(name)) {
		memset(arguments.at, 0, arguments.room);
		memcpy(arguments.at, name, strlen(name));
	}
}

/* Only poll() is interrupted: what is said on the socket pair is said whole. */
static void catch_signals(sigset_t *ret_while_waiting)
{
	struct sigaction act = { .sa_handler = note };
	sigset_t ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	signal(SIGCHLD, SIG_IGN); /* no zombies; the end of the socket pair tells of the end */
	sigprocmask(SIG_BLOCK, &ours, ret_while_waiting);
	sigdelset(ret_while_waiting, SIGTERM);
	sigdelset(ret_while_waiting, SIGINT);
}

/* 0 in the guardian, -1 in the worker, or an errno. */
static int start_worker(struct guardian *g)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return errno;
	pid = fork();
	if (pid < 0) {
		const int err = errno;

		close(pair[0]);
		close(pair[1]);
		return err;
	}
	close(pair[pid ? 1 : 0]);
	g->pair = pair[pid ? 0 : 1];
	g->worker = pid ? pid : getpid();
	if (!pid)
		guardian_title(WORKER_NAME);
	return pid ? 0 : -1;
}

struct talk {
	bool leave, for_another; /* the worker said so */
	unsigned ends;		 /* how often the socket pair said that it is at its end */
};

static void answer_worker(struct guardian *g, struct talk *t)
{
	int fd[PROTO_FDS];
	struct msg m;
	int err = msg_recv(g->pair, &m, fd, PROTO_FDS);

	/* The first time it may only mean that the worker left an answer unread; what it had
	 * asked before is still to come. */
	if (err == -ECONNRESET)
		t->ends++;
	if (err && err != -EPROTO) /* it is still to come */
		return;
	if (!err && m.type == GUARD_KEEP)
		err = vault_keep(&g->vault, &m, fd);
	else if (!err && m.type == GUARD_DROP)
		vault_drop(&g->vault, m.id);
	else if (!err && m.type == GUARD_LEAVE) {
		t->leave = true;
		t->for_another = m.flags & LEAVE_FOR_ANOTHER;
	}
	for (int i = 0; i < PROTO_FDS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	m.error = err == -EPROTO ? -EMFILE : err; /* a message without its descriptors */
	/* It waits for this. */
	do
		err = msg_send(g->pair, &m, NULL, 0);
	while (err && err != -EPIPE && err != -ECONNRESET);
}

static void listen_to_worker(struct guardian *g, struct talk *t, const sigset_t *while_waiting)
{
	struct pollfd p = { .fd = g->pair, .events = POLLIN };

	while (t->ends < 2) {
		if (ppoll(&p, 1, NULL, while_waiting) > 0)
			answer_worker(g, t);
		if (told_to_end) {
			/* The worker knows what there is to do first. */
			(void)kill(g->worker, SIGTERM);
			told_to_end = 0;
		}
	}
	close(g->pair);
	g->pair = -1;
}

static bool somebody_connects(const struct guardian *g)
{
	struct pollfd p = { .fd = g->listener, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* A worker that dies at once would die again. */
static void pause_before_next(uint64_t *pause_ms, uint64_t lived_ms)
{
	struct timespec t;

	if (lived_ms > STEADY_MS)
		*pause_ms = 0;
	t = (struct timespec){ (time_t)(*pause_ms / 1000), (long)(*pause_ms % 1000) * 1000000 };
	nanosleep(&t, NULL);
	*pause_ms = MIN(*pause_ms ? *pause_ms * 2 : 10, (uint64_t)PAUSE_MOST_MS);
}

int guardian_run(struct guardian *g)
{
	uint64_t pause_ms = 0, begun;
	sigset_t while_waiting;
	int err;

	guardian_title(GUARDIAN_NAME);
	catch_signals(&while_waiting);
	for (;;) {
		struct talk t = { 0 };

		begun = now_ms();
		if (g->pair < 0) {
			err = start_worker(g);
			if (err < 0)
				return err;
			if (err > 0 && LIST_EMPTY(&g->vault))
				return err; /* nobody loses anything */
		}
		if (g->pair >= 0)
			listen_to_worker(g, &t, &while_waiting);
		if (t.leave && LIST_EMPTY(&g->vault) &&
		    (t.for_another || !somebody_connects(g)))
			return 0;
		pause_before_next(&pause_ms, now_ms() - begun);
	}
}
