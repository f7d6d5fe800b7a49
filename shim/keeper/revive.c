/* SPDX-License-Identifier: MIT */
/* A new guardian beside a living worker. The worker has threads, so that a forked child could
 * do little: it executes the keeper's program again, which is told what it inherits. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/guardian.h"

/* All other descriptors of ours are closed by the execution. */
static int inheritable(int fd)
{
	return fcntl(fd, F_DUPFD, STDERR_FILENO + 1);
}

static int execute(const struct guardian *g, int pair)
{
	static char *const no_environment[] = { NULL };
	cleanup_fd int dir = inheritable(g->dir), lock = inheritable(g->lock);
	cleanup_fd int listener = inheritable(g->listener), end = inheritable(pair);
	char name[] = WORKER_NAME, option[128];
	char *const argv[] = { name, option, NULL };
	pid_t pid;

	if (dir < 0 || lock < 0 || listener < 0 || end < 0)
		return -EMFILE;
	snprintf(option, sizeof(option), "--guardian=%d,%d,%d,%d,%d,%d", dir, lock, listener,
		 end, (int)getpid(), g->activated);
	return -posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, no_environment);
}

int guardian_start_another(const struct guardian *g)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	err = execute(g, pair[0]);
	close(pair[0]);
	if (err) {
		close(pair[1]);
		return err;
	}
	return pair[1];
}

bool guardian_inherit(struct guardian *g, const char *text)
{
	int activated;

	if (sscanf(text, "%d,%d,%d,%d,%d,%d", &g->dir, &g->lock, &g->listener, &g->pair,
		   &g->worker, &activated) != 6)
		return false;
	g->activated = activated;
	return fcntl(g->dir, F_SETFD, FD_CLOEXEC) == 0 &&
	       fcntl(g->lock, F_SETFD, FD_CLOEXEC) == 0 &&
	       fcntl(g->listener, F_SETFD, FD_CLOEXEC) == 0 &&
	       fcntl(g->pair, F_SETFD, FD_CLOEXEC) == 0;
}
