// SPDX-License-Identifier: MIT
/* Processes of the program. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

extern char **environ;

#define MAX_DEPTH 3

/* After a SIGKILL the keeper writes what is left. No event tells when. */
static void wait_until_written(void)
{
	static unsigned char buf[MAX_SIZE];
	const struct timespec pause = { .tv_nsec = 2000000 };

	for (int i = 0; i < 5000; i++) {
		int fd = open(file_path(), O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? -1 : raw_pread(fd, buf, MAX_SIZE, 0);

		if (fd >= 0)
			close(fd);
		if (got == (ssize_t)shared->size &&
		    memcmp(buf, shared->content, (size_t)got) == 0)
			return;
		nanosleep(&pause, NULL);
	}
	compare_raw(0, MAX_SIZE, "a kill");
}

static void in_child(void)
{
	rings_forget();
	shared->depth++;
	for (unsigned i = 0; i < nmaps;) {
		maps[i].locked = false;
		if (maps[i].not_inherited)
			maps[i] = maps[--nmaps];
		else
			i++;
	}
}

static void end_child(unsigned how)
{
	shared->depth--;
	if (how == 2) {
		shared->killed = true;
		kill(getpid(), SIGKILL);
	}
	if (how == 1)
		exit(0);
	_exit(0);
}

/* The child performs the next operations; then the parent goes on. */
void op_fork(void)
{
	const unsigned how =
		below(shared->set.features & F_KILL && !shared->keeper_killed ? 3 : 2);
	const unsigned n = 1 + below(one_in(3) ? 30 : 6);
	const bool forbidden = shared->cut_forbidden;
	int status;
	pid_t pid;

	if (shared->depth >= MAX_DEPTH)
		return;
	say(" for %u operations, ends by %s", n, how == 2 ? "SIGKILL" : how ? "exit" : "_exit");
	shared->lines++;
	shared->cut_forbidden = forbidden || transfers_pending();
	pid = fork();
	if (pid < 0)
		wrong("fork: errno %d", errno);
	if (pid == 0) {
		in_child();
		perform_next(n);
		end_child(shared->keeper_killed && how == 2 ? 0 : how);
	}
	if (waitpid(pid, &status, 0) != pid)
		wrong("waitpid: errno %d", errno);
	if (shared->failed)
		wrong("-");
	if (status != 0 && !(how == 2 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		wrong("the child's status is %x", (unsigned)status);
	shared->cut_forbidden = forbidden;
	say("child ended");
	/* Of several programs another one may have stored what nothing makes it write yet. */
	if (how == 2 && !nmaps && !several())
		wait_until_written();
}

/* The parent ends, and the child goes on alone. */
void op_fork_and_end(void)
{
	int ends[2];
	pid_t pid;
	char c;

	if (shared->depth > 0)
		return;
	if (pipe2(ends, O_CLOEXEC) < 0)
		wrong("pipe2: errno %d", errno);
	pid = fork();
	if (pid < 0)
		wrong("fork: errno %d", errno);
	if (pid > 0) {
		if (one_in(2))
			_exit(0);
		exit(0);
	}
	close(ends[1]);
	while (read(ends[0], &c, 1) < 0 && errno == EINTR)
		continue;
	close(ends[0]);
	in_child();
	shared->depth--;
}

void op_spawn(void)
{
	char name[] = "true";
	char *const argv[] = { name, NULL };
	int status, ret;
	pid_t pid;

	ret = posix_spawnp(&pid, "true", NULL, NULL, argv, environ);
	if (ret)
		wrong("posix_spawnp: %d", ret);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		wrong("the spawned program's status is %x", (unsigned)status);
}

/* The program goes on as another one. */
void op_exec(void)
{
	char name[] = "model", part[] = "--perform", number[16];
	char *const argv[] = { name, part, number, NULL };
	int fd;

	if (shared->depth > 0)
		return;
	fd = atoi(getenv("MODEL_SHARED"));
	snprintf(number, sizeof(number), "%d", fd);
	fcntl(fd, F_SETFD, 0);
	fcntl(atoi(getenv("MODEL_LIFE")), F_SETFD, 0);
	shared->lines++;
	shared->next++;
	execve("/proc/self/exe", argv, environ);
	wrong("execve: errno %d", errno);
}
