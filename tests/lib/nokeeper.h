/* SPDX-License-Identifier: MIT */
/* Programs that find nothing of pinstage's: no keeper, and no board of what others have staged.
 */
#ifndef NOKEEPER_H
#define NOKEEPER_H

#include "testlib.h"

#include <sched.h>
#include <sys/mount.h>

__attribute__((unused)) static bool nokeeper_write(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return written;
}

/* Where nobody finds the keeper of the other tests: they have files staged, and what a process
 * finds staged by others makes it look at each descriptor. */
__attribute__((unused)) static bool go_where_no_keeper_is(void)
{
	const unsigned uid = geteuid(), gid = getegid();
	char ids[32], dir[32];

	if (uid && unshare(CLONE_NEWUSER) < 0)
		return false;
	snprintf(ids, sizeof(ids), "%u %u 1", uid, uid);
	if (uid && !nokeeper_write("/proc/self/uid_map", ids))
		return false;
	snprintf(ids, sizeof(ids), "%u %u 1", gid, gid);
	if (uid && (!nokeeper_write("/proc/self/setgroups", "deny") ||
		    !nokeeper_write("/proc/self/gid_map", ids)))
		return false;
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/run", "tmpfs", 0, "mode=755") < 0)
		return false;
	/* Or it would be looked for in /tmp, where there may be what a killed one left. */
	snprintf(dir, sizeof(dir), "/run/user/%u", uid);
	return !uid || (mkdir("/run/user", 0755) == 0 && mkdir(dir, 0700) == 0);
}

#endif
