/* SPDX-License-Identifier: MIT */
/* Ends of the program that run no destructor, and the ones that another program follows: it may
 * look at the files at once. */
#include <unistd.h>

#include "lib/hooks.h"
#include "lib/sync.h"

void on__exit(int status)
{
	sync_everything();
	real._exit(status);
}

void on__Exit(int status)
{
	sync_everything();
	real._Exit(status);
}

int on_execve(const char *path, char *const argv[], char *const envp[])
{
	sync_everything();
	return real.execve(path, argv, envp);
}

int on_execv(const char *path, char *const argv[])
{
	sync_everything();
	return real.execv(path, argv);
}

int on_execvp(const char *file, char *const argv[])
{
	sync_everything();
	return real.execvp(file, argv);
}

int on_execvpe(const char *file, char *const argv[], char *const envp[])
{
	sync_everything();
	return real.execvpe(file, argv, envp);
}

int on_fexecve(int fd, char *const argv[], char *const envp[])
{
	sync_everything();
	return real.fexecve(fd, argv, envp);
}
