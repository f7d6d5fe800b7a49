/* SPDX-License-Identifier: MIT */
/*
 * Signals are not handled but waited for, all of them: what comes for us is meant for the
 * program and handed on. What the terminal sends, it sends to the program itself as well, which
 * is in the same process group; that must not arrive twice.
 */
#include "command/child.h"

#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

/* What reports a fault of our own cannot wait. */
static void waited_for(sigset_t *set)
{
	static const int fault[] = {
		SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT
	};

	sigfillset(set);
	for (size_t i = 0; i < sizeof(fault) / sizeof(fault[0]); i++)
		sigdelset(set, fault[i]);
}

static void hold_signals(struct child *c)
{
	const struct sigaction def = { .sa_handler = SIG_DFL };
	sigset_t set;

	waited_for(&set);
	sigprocmask(SIG_SETMASK, &set, &c->mask);
	/* If we inherited it ignored, the kernel would reap the program, and its status be
	 * lost. */
	sigaction(SIGCHLD, &def, &c->on_chld);
}

/* A ^C that has ended the program is waiting for us, too, and has had its effect. */
static void release_signals(struct child *c)
{
	const struct timespec now = { 0 };
	sigset_t set;

	waited_for(&set);
	while (sigtimedwait(&set, NULL, &now) > 0)
		;
	sigaction(SIGCHLD, &c->on_chld, NULL);
	sigprocmask(SIG_SETMASK, &c->mask, NULL);
}

/* A text without "#!" is the shell's, as execvp(3) has it. */
static int execute(const char *path, char **argv)
{
	cleanup_fd int fd = -1;
	cleanup_free char **again = NULL;
	char head[4] = "";
	size_t n = 0;

	execve(path, argv, environ);
	if (errno != ENOEXEC)
		return errno;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, head, sizeof(head)) == sizeof(head) &&
	    !memcmp(head, "\177ELF", 4))
		return ENOEXEC;
	while (argv[n])
		n++;
	again = calloc(n + 2, sizeof(*again));
	if (!again)
		return ENOMEM;
	again[0] = (char *)(uintptr_t)_PATH_BSHELL;
	again[1] = (char *)(uintptr_t)path;
	memcpy(again + 2, argv + 1, n * sizeof(*again)); /* with the NULL */
	execve(_PATH_BSHELL, again, environ);
	return errno;
}

static void become(const struct child *c, const char *path, char **argv, int report)
{
	int err;

	sigaction(SIGCHLD, &c->on_chld, NULL);
	sigprocmask(SIG_SETMASK, &c->mask, NULL);
	err = execute(path, argv);
	(void)!write(report, &err, sizeof(err));
	_exit(127);
}

int child_start(struct child *c, const char *path, char **argv)
{
	int pipefd[2], err = 0;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -errno;
	hold_signals(c);
	c->pid = fork();
	if (c->pid == 0)
		become(c, path, argv, pipefd[1]);
	err = c->pid < 0 ? errno : 0;
	close(pipefd[1]);
	/* Nothing comes if it was executed. */
	if (!err && read(pipefd[0], &err, sizeof(err)) == sizeof(err))
		waitpid(c->pid, NULL, 0);
	close(pipefd[0]);
	if (err)
		release_signals(c);
	return -err;
}

static bool from_terminal(const siginfo_t *si)
{
	switch (si->si_signo) {
	case SIGHUP:
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGCONT:
	case SIGWINCH:
		return si->si_code == SI_KERNEL;
	}
	return false;
}

static void hand_on(const struct child *c, const siginfo_t *si)
{
	if (si->si_code == SI_QUEUE)
		sigqueue(c->pid, si->si_signo, si->si_value);
	else
		kill(c->pid, si->si_signo);
}

int child_wait(struct child *c)
{
	bool stop_asked = false;
	siginfo_t si;
	sigset_t set;
	int status;

	waited_for(&set);
	for (;;) {
		while (waitpid(c->pid, &status, WUNTRACED | WNOHANG) == c->pid) {
			if (!WIFSTOPPED(status)) {
				release_signals(c);
				return status;
			}
			/* The shell sees us and not the program: it learns of a stop by ours. A
			 * SIGSTOP from somebody who did not stop us is between the two of them.
			 */
			if (WSTOPSIG(status) != SIGSTOP || stop_asked)
				raise(SIGSTOP);
			stop_asked = false;
		}
		if (sigwaitinfo(&set, &si) < 0 || si.si_signo == SIGCHLD)
			continue;
		if (!from_terminal(&si))
			hand_on(c, &si);
		else if (si.si_signo == SIGTSTP)
			stop_asked = true;
	}
}
