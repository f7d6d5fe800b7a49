// SPDX-License-Identifier: MIT
/* Preloaded to a keeper: to close a file called data, or memory that is staged, takes four
 * seconds, as it does where that is large and open nowhere else. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int is_large(int fd)
{
	char name[64], path[512];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return (!strncmp(path, "/memfd:pinstage:", 16) && !strstr(path, ":ledger")) ||
	       (n > 5 && !strcmp(path + n - 5, "/data"));
}

int close(int fd)
{
	static int (*real)(int);

	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "close");
	if (is_large(fd))
		sleep(4);
	return real(fd);
}
