/* SPDX-License-Identifier: MIT */
#include "command/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fill(struct place *p, const char *dir, int len, const char *below)
{
	if (snprintf(p->library, sizeof(p->library), "%.*s%s/libpinstage.so", len, dir,
		     below) >= (int)sizeof(p->library) ||
	    snprintf(p->keeper, sizeof(p->keeper), "%.*s%s/pinstage-keeper", len, dir, below) >=
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
	return fill(ret, exe, (int)(slash - exe), "/lib/pinstage");
}
