/* SPDX-License-Identifier: MIT */
/*
 * A fault in a program's buffer may be another thread's to serve (userfaultfd, or a file system
 * in the same process), who may need the lock. So buffers are touched before that is taken.
 * What is taken out of memory again before it is used is waited for with the lock held: the
 * time for that is short, but it is there.
 *
 * Memory that is bad stays what it is for the kernel to say, and no signal comes of it.
 */
#ifndef PINSTAGE_LIB_TOUCH_H
#define PINSTAGE_LIB_TOUCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct touch {
	const struct iovec *iov;
	int n;
	bool ours; /* the list is, and good; otherwise it is touched, too */
};

/* The first `most` bytes of them, which a call is about to fill, or to take. Lock not held. May
 * change errno. */
void touch_to_fill(const struct touch *t, size_t most);
void touch_to_take(const struct touch *t, size_t most);

#endif
