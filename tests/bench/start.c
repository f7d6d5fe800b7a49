/* SPDX-License-Identifier: MIT */
/*
 * What the library adds to the start of a program: posix_spawn() of one that does nothing, and
 * the wait for its end, with one object preloaded and with the other in turn. Microseconds.
 *
 *   start EMPTY LIBRARY
 */
#include <spawn.h>
#include <sys/wait.h>

#include "bench.h"

static double start(const char *object)
{
	char *argv[] = { (char[]){ "true" }, NULL }, preload[4096];
	char *envp[] = { preload, NULL };
	double begun;
	int status;
	pid_t pid;

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", object);
	begun = now_ms();
	if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp) ||
	    waitpid(pid, &status, 0) < 0)
		die("true");
	if (status)
		exit(1);
	return (now_ms() - begun) * 1000;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	for (int i = 0; i < 400; i++) {
		printf("start empty %.1f\n", start(argv[1]));
		printf("start preloaded %.1f\n", start(argv[2]));
	}
	return 0;
}
