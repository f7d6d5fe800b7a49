/* SPDX-License-Identifier: MIT */
#include "lib/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "lib/init.h"
#include "lib/real.h"
#include "lib/shadow.h"

#define READY_FD	 3
#define READY_TIMEOUT_MS 20000
#define STACK		 (64UL * 1024)

struct spawn {
	char program[PATH_MAX];
	int ready; /* written to, or closed, by the keeper */
	char *stack;
	int error;
};

/* In the grandchild, with a descriptor table of its own. */
static int exec_keeper(void *arg)
{
	char *const argv[] = { (char *)(uintptr_t) "pinstage-keeper",
			       (char *)(uintptr_t) "--ready-fd=3", NULL };
	char *const envp[] = { NULL };
	struct spawn *s = arg;
	int fd = s->ready;

	arch_syscall(SYS_setsid, 0, 0, 0, 0, 0, 0);
	if (fd == READY_FD)
		arch_syscall(SYS_fcntl, fd, F_SETFD, 0, 0, 0, 0);
	else
		arch_syscall(SYS_dup3, fd, READY_FD, 0, 0, 0, 0);
	arch_syscall(SYS_close_range, READY_FD + 1, ~0U, 0, 0, 0, 0);
	s->error = (int)arch_syscall(SYS_execve, (long)s->program, (long)argv, (long)envp, 0, 0,
				     0);
	arch_syscall(SYS_exit_group, 127, 0, 0, 0, 0, 0);
	return 0;
}

/* Twice removed, so that the keeper is adopted by init; the one in between never executes
 * anything, for execve() would give it SIGCHLD as its exit signal. */
static int in_between(void *arg)
{
	struct spawn *s = arg;

	s->error = 0;
	if (clone(exec_keeper, s->stack + STACK, CLONE_VM | CLONE_VFORK, s) < 0)
		s->error = -errno;
	return s->error;
}

static int keeper_program(char *path, size_t size)
{
	const char *slash = strrchr(library_path, '/');

	if (!slash || snprintf(path, size, "%.*s/pinstage-keeper", (int)(slash - library_path),
			       library_path) >= (int)size)
		return -ENAMETOOLONG;
	return 0;
}

int spawn_keeper(void)
{
	struct spawn s;
	struct pollfd p;
	int pipefd[2], err;
	struct rlimit files;
	char byte;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < RENDEZVOUS_FILES)
		return -EMFILE;
	err = keeper_program(s.program, sizeof(s.program));
	if (err)
		return err;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -errno;
	s.ready = pipefd[1];
	s.stack = shadow_stack_map(STACK);
	if (!s.stack) {
		err = -ENOMEM;
	} else {
		err = shadow_run(in_between, &s);
		shadow_stack_unmap(s.stack, STACK);
	}
	real.close(pipefd[1]);
	p = (struct pollfd){ .fd = pipefd[0], .events = POLLIN };
	if (!err && poll(&p, 1, READY_TIMEOUT_MS) <= 0)
		err = -ETIMEDOUT;
	/* One byte, or the end if it made way for another: either way somebody should listen.
	 */
	if (!err)
		(void)!real.read(pipefd[0], &byte, 1);
	real.close(pipefd[0]);
	return err;
}
