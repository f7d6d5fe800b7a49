/* SPDX-License-Identifier: MIT */
/* Which of the staged files a path on the command line means. */
#ifndef PINSTAGE_MOUNT_H
#define PINSTAGE_MOUNT_H

#include <limits.h>
#include <stdbool.h>

#include "common/util.h"

struct mount {
	bool file; /* only this one */
	struct inode_key key;
	unsigned major, minor; /* of the file system, as /proc/self/mountinfo has it */
	char point[PATH_MAX];  /* where it is mounted */
	char type[64];
};

/* A file means itself; a directory the whole file system that it is on, unless `files` says
 * that files mean theirs, too. -errno. */
int mount_find(const char *path, bool files, struct mount *ret);

/* Is the file one of them? Its name helps where a file system has several device numbers, as
 * btrfs's subvolumes do. */
bool mount_has(const struct mount *m, struct inode_key key, const char *name);

#endif
