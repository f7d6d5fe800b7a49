/* SPDX-License-Identifier: MIT */
/* Ends of the program that run no destructor, and the ones that another program follows: it may
 * look at the files at once. */
#include <unistd.h>

#include "lib/hooks.h"
#include "lib/init.h"

void on__exit(int status)
{
	process_ends();
	real._exit(status);
}

void on__Exit(int status)
{
	process_ends();
	real._Exit(status);
}

int on_execve(const char *path, char *const argv[], char *const envp[])
{
	process_ends();
	return real.execve(path, argv, envp);
}

int on_execv(const char *path, char *const argv[])
{
	process_ends();
	return real.execv(path, argv);
}

int on_execvp(const char *file, char *const argv[])
{
	process_ends();
	return real.execvp(file, argv);
}

int on_execvpe(const char *file, char *const argv[], char *const envp[])
{
	process_ends();
	return real.execvpe(file, argv, envp);
}

int on_fexecve(int fd, char *const argv[], char *const envp[])
{
	process_ends();
	return real.fexecve(fd, argv, envp);
}

int on_execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	process_ends();
	return real.execveat(dir, path, argv, envp, flags);
}
