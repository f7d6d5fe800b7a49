/* SPDX-License-Identifier: MIT */
/*
 * What the library knows of the program's address space: the files mapped shared, the areas
 * they back, the segments that stand there instead. One instance, one lock.
 *
 * The lock is taken before anything changes the backing of tracked addresses and is held until
 * it has changed, original call included: an exchange and a munmap() must not cross. Signals
 * are blocked while it is held, so no handler meets it taken by its own thread.
 */
#ifndef PINSTAGE_SPACE_H
#define PINSTAGE_SPACE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/util.h"
#include "common/vmas.h"
#include "lib/areas.h"

struct segment {
	struct segment *next; /* of the same file, by offset */
	struct file *file;
	uint64_t id;		       /* the keeper's */
	uint64_t off, len;	       /* bytes of the file, page-aligned */
	struct vma_id file_id, mem_id; /* what maps say of file and memory */
	int memfd; /* own descriptors: the memory, and what a new keeper needs to know */
	int ledger;
	void *hold;	/* a page of it, or NULL: kept.h */
	unsigned areas; /* that show it in this process */
	uint64_t call;	/* room.c: the last one that asked for it, */
	uint64_t kept;	/* and the last for which it could not be given back */
	bool joined;	/* without any: the keeper counts us among its users all the same */
	bool idle;	/* ours before we joined it: pinned, and shown nowhere */
	int origin;	/* the memory is a copy of this one, of which no keeper knows; or -1 */
	struct inode_key key;
	uintptr_t saved; /* with no area left: the file's own mapping of the last one, until it
			    is released */
	size_t saved_len;
	uint64_t saved_off;
	uint64_t had_by; /* the instance of the keeper that last said that it lives on, or 0 */
};

/* A descriptor that the program has closed, in flight: for as long as a mapping made from it is
 * left, which keeps the open file description alive anyway (flock). */
struct lot {
	struct lot *next; /* of the same file */
	int pair[2];	  /* sockets; to be read from [0] */
	unsigned areas;	  /* made from it */
};

struct file {
	RB_ENTRY(file) node;
	struct inode_key key;
	int fd; /* the program's descriptor when last seen, or -1: a hint, always verified */
	struct lot *lots;
	unsigned areas;
	struct segment *segments;
};

struct space {
	struct areas areas;
	atomic_uint tracked; /* areas; 0: the hooks on the address space pass everything */
	atomic_uint staged;  /* segments; 0: the hooks on files pass everything */
	atomic_uint held;    /* segments, those on their way in or out among them */
	atomic_uint swaps;   /* odd while a curtain is drawn */
	unsigned parked;     /* descriptors in flight */
	bool inherited;	     /* the records are our parent's, and not looked through yet:
				MADV_DONTFORK may have kept some of it from us */
};

extern struct space space;

struct space_guard {
	sigset_t mask;
	int cancel;
};

/* False if this thread is already inside (it may not wait for itself), or if the process is a
 * child that only borrows our memory (vfork): the caller passes the call through. */
bool space_lock(struct space_guard *g);
void space_unlock(struct space_guard *g);

/* Whether this thread holds the lock. */
bool space_inside(void);

/* Before a call that copies from or to memory of the program, for what follows. */
static inline unsigned space_exchanges(void)
{
	return atomic_load_explicit(&space.swaps, memory_order_relaxed);
}

/* Was there an exchange since, or is there one still? */
static inline bool space_exchange_since(unsigned before)
{
	return unlikely(before & 1) || unlikely(space_exchanges() != before);
}

/*
 * Of a call that the kernel answered with EFAULT: where userfaultfd serves faults of user mode
 * only, it says so of memory behind a curtain, too. Did an exchange come between? Then it is
 * over when this returns, and the call is to be made again.
 */
bool space_exchange_between(unsigned before);

/* For a thread that works for the one that holds the lock and waits: what an allocator unmaps
 * while such a thread begins or ends must not wait for the lock. */
void space_join(void);

/* When the program starts. when_copied() is called in a copy of the process that no atfork
 * handler saw (clone(2) without CLONE_VM), by the first hook that has something to do there. */
void space_begin(void (*when_copied)(void));

/* Whether this process is the one that the records are about, or a copy of it. */
bool space_is_ours(void);

/* Whether a range overlaps tracked addresses. Asked first, and without the lock. */
bool space_concerned(uintptr_t start, size_t len);

/* Whether the file may have segments here, or get them just now: no system call, no lock, and
 * of any context. What the caller did to the file before, it did before it asked. May be yes
 * for no reason, then the lock tells. If no, nothing of the file is staged here, nor begun to
 * be, by whoever holds the lock; who begins then sees the call that was noted before
 * (inflight.h). */
bool space_may_have_segments(struct inode_key key);

/* For fork(). */
void space_before_fork(void);
void space_after_fork(bool child);

/* All with the lock held: */

/* A segment of the file may come before the lock is given back: said before anything of it is
 * looked at, and before the calls are waited for that have not seen this (inflight_wait()). */
void space_expect(struct inode_key key);

struct file *space_file(struct inode_key key, bool create);
struct file *space_next_staged(const struct inode_key *after); /* NULL: the first */
void space_file_put(struct file *f); /* frees it when nothing refers to it */

/* A lot with these sockets, to be held until areas have it. NULL: no memory. */
struct lot *space_lot_new(struct file *f, const int pair[2]);
void space_lot_hold(struct lot *l); /* these may be about none: NULL */
void space_lot_put(struct file *f, struct lot *l);
/* Which descriptor the mapping was made from: as in struct area. */
void space_made_from(struct area *a, int fd, struct lot *l);

/* [start, end) is now backed by `f` natively (f NULL: by nothing we track). Whatever was
 * recorded there is gone, but for what a mapping of `f` was made from; segments with no area
 * left are appended to *ret_orphans. -ENOMEM: then nothing is recorded for the range, which
 * only means that it cannot be staged. */
int space_set(uintptr_t start, uintptr_t end, struct file *f, uint64_t off,
	      struct segment **ret_orphans);

/* What the records say of [start, end) they say of as much from `to` on instead, which does not
 * overlap it. Like space_set(). */
int space_move(uintptr_t start, uintptr_t end, uintptr_t to, struct segment **ret_orphans);

/* A descriptor of ours has another number now. */
void space_fd_moved(int from, int to);

struct segment *segment_new(void);
void segment_link(struct file *f, struct segment *s);
void segment_unlink(struct segment *s); /* from its file, before it is freed or handed on */
void segment_free(struct segment *s);	/* closes its descriptors; must have no area left */

/* The first segment of f that overlaps [off, end), or NULL. */
struct segment *segment_find(struct file *f, uint64_t off, uint64_t end);

#endif
