/* SPDX-License-Identifier: MIT */
/*
 * The curtain: exchanges what backs address ranges while other threads use them.
 *
 * A stand-in, registered with userfaultfd, is moved over each range in one step; from then
 * on every access to the ranges sleeps. Behind it the caller's act() copies what must be
 * copied. Then the new backing is moved over the stand-in, again in one step, and the
 * sleepers are woken to find it. No store is lost and none is seen to go back in time
 * (invariant I7).
 *
 * Every change of backing is one mremap(MREMAP_FIXED) of a mapping prepared beforehand, so once
 * the curtain is drawn nothing is left that can fail for want of memory.
 */
#ifndef PINSTAGE_CURTAIN_H
#define PINSTAGE_CURTAIN_H

#include <stdbool.h>
#include <stddef.h>

struct curtain_span {
	void *addr;	/* page-aligned range of the program */
	size_t len;	/* bytes, a multiple of the page size */
	void *forward;	/* prepared mapping of len bytes that stands here if act() succeeds */
	void *backward; /* mapping of len bytes that stands here if act() fails */
	void *holder;	/* the stand-in; internal */
	bool drawn;	/* whether the curtain was drawn here */
};

/*
 * Draws the curtain over all spans, calls act(arg) behind it, and opens it onto the spans'
 * `forward` mappings if act() returned 0, onto their `backward` mappings otherwise. The mapping
 * not used is left where it is; the one used has moved, and its old address is free again.
 * `backward` also undoes a curtain half drawn, when act() was not called.
 *
 * back(arg), if not NULL, is called before `backward` is used and must see that it is set for
 * every span that is drawn. It is for mappings that must not exist while act() runs.
 *
 * act() runs in a thread of its own with all signals blocked, and must neither touch the spans
 * nor call anything that takes a lock which a thread sleeping on a span may hold (malloc,
 * stdio, the loader's).
 *
 * Returns 0, what act() returned, or -errno if the curtain could not be drawn, with act() not
 * called and the spans as they were: -EPERM or -ENOSYS where userfaultfd is not to be had,
 * -EAGAIN or -ENOMEM where threads or mappings are short. Not async-signal-safe.
 *
 * While it runs, fork() must be kept out by the caller: a child would inherit the stand-in
 * without what makes it wait.
 */
int curtain_swap(struct curtain_span *span, size_t n, int (*act)(void *arg),
		 void (*back)(void *arg), void *arg);

/* Whether system calls of other threads that copy into a span wait, too (they need a privileged
 * userfaultfd), or fail with EFAULT while the curtain is drawn. */
bool curtain_covers_kernel(void);

#endif
