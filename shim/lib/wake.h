/* SPDX-License-Identifier: MIT */
/*
 * Futexes in shared memory are known to the kernel by inode and offset. When the backing of a
 * range changes, threads that sleep there would never be found again by those who wake them:
 * they are woken through what backed the range before, and look again (FUTEX_WAIT may return
 * for no reason).
 */
#ifndef PINSTAGE_WAKE_H
#define PINSTAGE_WAKE_H

#include <stddef.h>
#include <stdint.h>

struct wake_span {
	uintptr_t addr; /* where threads may sleep */
	size_t len;
	void *old; /* a readable mapping of len bytes of what was there before */
};

/* Wakes every thread of this process that sleeps in one of the spans. */
void wake_sleepers(const struct wake_span *span, size_t n);

#endif
