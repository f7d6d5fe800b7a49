/* SPDX-License-Identifier: MIT */
/* Which file system a path is on: /proc/self/mountinfo, without opening the file. */
#ifndef PINSTAGE_MOUNTS_H
#define PINSTAGE_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

struct mount {
	char point[256];
	char fs[32];
};

/* A line of mountinfo, whose words are written over. */
bool mount_parse(char *line, struct mount *ret);

/* Whether a path lies below a mount point. */
bool mount_covers(const struct mount *m, const char *path);

/* The mount that `path` is on; empty strings if that is not known. `buf` is working space. */
void mount_of(const char *path, struct mount *ret, char *buf, size_t size);

#endif
