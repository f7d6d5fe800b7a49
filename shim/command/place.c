/* SPDX-License-Identifier: MIT */
#include "command/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

/* Where `make install` puts them, whatever libdir is given to it on Linux' distributions. */
static const char *const below[] = {
	"/lib/pinstage",
	"/lib64/pinstage",
#if defined(__x86_64__)
	"/lib/x86_64-linux-gnu/pinstage",
#elif defined(__aarch64__)
	"/lib/aarch64-linux-gnu/pinstage",
#endif
};

static int fill(struct place *p, const char *dir, int len, const char *sub)
{
	if (snprintf(p->library, sizeof(p->library), "%.*s%s/libpinstage.so", len, dir, sub) >=
		    (int)sizeof(p->library) ||
	    snprintf(p->keeper, sizeof(p->keeper), "%.*s%s/pinstage-keeper", len, dir, sub) >=
		    (int)sizeof(p->keeper))
		return -ENAMETOOLONG;
	return access(p->library, R_OK) < 0 ? -errno : 0;
}

int place_find(struct place *ret)
{
	char exe[PATH_MAX];
	const char *slash;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	int err;

	if (n < 0)
		return -errno;
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	err = fill(ret, exe, (int)(slash - exe), "");
	if (err != -ENOENT)
		return err;
	while (slash > exe && *--slash != '/') /* up by one */
		;
	for (size_t i = 0; i < ARRAY_SIZE(below) && err == -ENOENT; i++)
		err = fill(ret, exe, (int)(slash - exe), below[i]);
	if (err == -ENOENT)
		(void)fill(ret, exe, (int)(slash - exe), below[0]);
	return err;
}
