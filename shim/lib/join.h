/* SPDX-License-Identifier: MIT */
/* Meeting other processes in the stages that they made. Lock held throughout. */
#ifndef PINSTAGE_JOIN_H
#define PINSTAGE_JOIN_H

#include "lib/space.h"

/*
 * Makes every segment that stands for part of [off, end) of f one of ours, whoever staged it.
 * `fd` is any descriptor of the file, or -1: then one is found through the mapping at `addr`.
 * Costs two loads for a file that nobody has staged. Waits while one is being filled, as long
 * as whoever fills it would be waited for behind a curtain; then that is broken off. -errno:
 * there may be one that cannot be had, and the file must not be shown or written by itself.
 */
int join_range(struct file *f, int fd, uintptr_t addr, uint64_t off, uint64_t end);

/* Lets go of those that came by join_range() and show nowhere. With `visit`, nothing but the
 * file and they themselves was written: nothing is carried to the file first. */
void join_leave(struct file *f, bool visit);

/*
 * Around a call that changes [off, end) of the file behind fd, or of that name: what is staged
 * of it is ours for as long as that lasts, shown here or not, and so not given back to the file
 * in between. If it cannot be had, the call is an outsider's.
 */
struct join_visit {
	int fd; /* or, with a path, a directory */
	const char *path;
	struct inode_key key;
	uint64_t off, end;
	struct file *f; /* NULL: nothing to do */
};

void join_visit(struct join_visit *v);
/* The call came somewhere else than it was thought to. */
void join_visit_more(struct join_visit *v, uint64_t off, uint64_t end);
void join_end_visit(struct join_visit *v);

#endif
