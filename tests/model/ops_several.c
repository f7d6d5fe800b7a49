// SPDX-License-Identifier: MIT
/* What is done to one of several programs, and to what they share, from outside. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

extern char **environ;

/* Another one is started in its place. */
void op_end_program(void)
{
	const unsigned how = below(shared->set.features & F_KILL ? 4 : 2);

	if (shared->depth > 0)
		return;
	say(" by %s", how > 1 ? "SIGKILL" : how ? "exit" : "_exit");
	shared->lines++;
	shared->dying = true;
	if (how == 1)
		exit(0);
	if (how == 0)
		_exit(0);
	shared->killed = true;
	kill(getpid(), SIGKILL);
}

/* The command's exit status. The library is not under it. What it says of whoever still uses
 * the file is not wanted. */
static int command(char *const argv[])
{
	posix_spawn_file_actions_t actions;
	char *env[256], **to = env;
	int status, ret;
	pid_t pid;

	for (char **from = environ; *from && to < env + 255; from++) {
		if (strncmp(*from, "LD_PRELOAD=", 11) != 0)
			*to++ = *from;
	}
	*to = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	ret = posix_spawn(&pid, shared->set.command, &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		wrong("posix_spawn: %d", ret);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		wrong("the command's status is %x", (unsigned)status);
	return WEXITSTATUS(status);
}

void op_command_sync(void)
{
	char name[] = "pinstage", part[] = "sync", wait[] = "--wait", path[300];
	char *argv[] = { name, part, one_in(2) ? wait : path, path, NULL };
	int status;

	snprintf(path, sizeof(path), "%s", file_path());
	if (argv[2] == path)
		argv[3] = NULL;
	status = command(argv);
	if (status)
		wrong("it exits with %d", status);
	compare_raw(0, MAX_SIZE, "it");
	memcpy(shared->saved, shared->content, MAX_SIZE);
}

void op_command_release(void)
{
	char name[] = "pinstage", part[] = "release", timeout[] = "--timeout", seconds[] = "2";
	char path[300];
	char *argv[] = { name, part, timeout, seconds, path, NULL };
	int status;

	snprintf(path, sizeof(path), "%s", file_path());
	status = command(argv);
	say(" gives %d", status);
	/* 1: somebody still uses it. */
	if (status != 0 && status != 1)
		wrong("it exits with %d", status);
	compare_raw(0, MAX_SIZE, "it");
}
