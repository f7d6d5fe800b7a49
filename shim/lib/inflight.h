/* SPDX-License-Identifier: MIT */
/*
 * Calls that change a file and are under way in threads of this process, each noted in a place
 * of its thread's own. Whoever stages a file makes it known first, then waits for the calls
 * that may not have seen that. A call says what it is about before it looks whether anything is
 * staged: plain stores and no barrier; the barrier is the waiting side's (membarrier(2)).
 * With it stands what memory the call copies from or to: where a curtain would cut it short,
 * that is not drawn before the call is over. For that, calls that only read are noted, too.
 */
#ifndef PINSTAGE_LIB_INFLIGHT_H
#define PINSTAGE_LIB_INFLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/util.h"

#define INFLIGHT_NOTHING   (-1)
#define INFLIGHT_READS(fd) (-2 - (fd)) /* its own inverse */

struct inflight {
	_Atomic int fd; /* INFLIGHT_READS of it, if the call does not change the file */
	_Atomic(uintptr_t) start, end; /* the memory that it copies from or to, if it does */
	_Atomic(pid_t) thread; /* whose place it is, 0: nobody's; or was, if that is no more */
};

extern __thread struct inflight *inflight_mine __attribute__((tls_model("initial-exec")));

/* From the constructor: whether there will be anything to wait for calls. */
void inflight_start(bool ever);

/* Gives this thread its place, on its first such call. Async-signal-safe. */
struct inflight *inflight_join(void);

/* In a copy of the process, whose thread has another number. */
void inflight_after_fork(void);

/*
 * One call at a time: a signal handler that makes one of its own ends what it interrupted.
 * With a call begun, the space's lock must not be waited for: who has it may wait for the call.
 * Nor is a call begun that waits for something other than the file: all may have to wait.
 */
static inline void inflight_begin(int fd)
{
	struct inflight *i = inflight_mine;

	if (unlikely(!i))
		i = inflight_join();
	atomic_store_explicit(&i->fd, fd, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

/* The call that is begun copies from or to n bytes of memory. Said before it looks whether
 * there is an exchange. */
static inline void inflight_copies(const void *p, size_t n)
{
	struct inflight *i = inflight_mine;
	uintptr_t end;

	if (unlikely(!i))
		return;
	if (unlikely(__builtin_add_overflow((uintptr_t)p, n, &end)))
		end = UINTPTR_MAX;
	atomic_store_explicit(&i->start, (uintptr_t)p, memory_order_relaxed);
	atomic_store_explicit(&i->end, end, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void inflight_end(void)
{
	struct inflight *i = inflight_mine;

	if (unlikely(!i))
		return;
	atomic_store_explicit(&i->end, 0, memory_order_relaxed);
	atomic_store_explicit(&i->fd, INFLIGHT_NOTHING, memory_order_release);
}

/* A call that only reads the file. False: in a signal handler that came into another call,
 * which stays noted. */
static inline bool inflight_begin_reading(int fd)
{
	struct inflight *i = inflight_mine;

	if (unlikely(!i))
		i = inflight_join();
	if (atomic_load_explicit(&i->fd, memory_order_relaxed) != INFLIGHT_NOTHING)
		return false;
	atomic_store_explicit(&i->fd, INFLIGHT_READS(fd), memory_order_relaxed);
	return true;
}

/* Waits for the calls of other threads on this file that began before. False if one has not
 * ended in due time. What such calls must see was stored before. */
bool inflight_wait(struct inode_key key);

/* Waits for the calls of other threads on files that copy from or to memory of which meets()
 * says so, for a second at most. That there is an exchange was stored before. */
void inflight_wait_for_copies(bool (*meets)(uintptr_t start, uintptr_t end, void *arg),
			      void *arg);

#endif
