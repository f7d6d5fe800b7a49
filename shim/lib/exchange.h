/* SPDX-License-Identifier: MIT */
/* The addresses at which one exchange of backing happens, and the mappings prepared for it. */
#ifndef PINSTAGE_EXCHANGE_H
#define PINSTAGE_EXCHANGE_H

#include <stdbool.h>

#include "common/reason.h"
#include "common/vmas.h"
#include "lib/curtain.h"
#include "lib/scratch.h"
#include "lib/space.h"
#include "lib/vmflags.h"

/* One stretch of addresses with one set of properties. */
struct place {
	struct curtain_span span;
	uint64_t off; /* in the file */
	unsigned flags, pkey;
	void *saved;	/* where the file's own mapping is kept */
	bool neighbour; /* beside the segment: comes back as it was */
};

struct exchange {
	struct segment *s;
	struct file *f;
	uint64_t dev, ino;	   /* of the mapping, as the kernel's maps say */
	uint64_t off, end;	   /* of the file */
	uint64_t win_off, win_end; /* how far the curtain reaches: at least [off, end) */
	uint64_t patience_ms;	   /* with whoever holds pages of the range */
	uintptr_t lo, hi;	   /* only addresses in [lo, hi); hi 0: all */
	bool (*concerns)(const struct exchange *x, const struct vma *v);
	int (*add)(struct exchange *x, const struct vma *v);
	uintptr_t last; /* where the last mapping that it concerns ends */
	struct vmflags flags;
	bool unasked;	   /* smaps is to be read for them */
	struct vma *shown; /* with staging: learns its flags, for the log */
	struct place *place;
	struct curtain_span *span; /* of the places, while the curtain is drawn */
	size_t n, max;
	enum reason why;
	int memfd_ro; /* -1, or a read-only description of the segment's memfd */
	struct scratch *scratch;
};

int exchange_fail(enum reason *ret_why, enum reason why, int err);

/* Fills in the places: every shared mapping of the file that overlaps the window, whoever made
 * it and however; or every address where the segment stands now. -errno with x->why. */
int exchange_find_aliases(struct exchange *x);
int exchange_find_staged(struct exchange *x);

/* A mapping of the segment's memory with the properties of place p. A mapping that the program
 * could never make writable comes from a read-only description, for the keeper's last word
 * (F_SEAL_WRITE) counts every mapping that could be. Native file mappings are not dumped unless
 * asked for; a memfd would be. */
void *exchange_map_segment(struct exchange *x, const struct place *p);

/* A mapping of it that is only looked through; works when it is sealed, too. */
void *exchange_map_to_read(struct exchange *x, const struct place *p, int prot);

/* A second mapping of the same file at the same offset, made from the mapping itself: no
 * descriptor needed, and the same open file description. Unlocked, so that it holds no page. */
void *exchange_map_again(const struct place *p);

int exchange_prot(unsigned vma_flags);

/* A mapping of a part of the segment's memory for ourselves; NULL. */
void *exchange_map_memory(const struct segment *s, uint64_t off, size_t len);

/* Locks a range as a mapping with these flags is locked. */
void exchange_lock(void *addr, size_t len, unsigned vma_flags);

/* Notes what maps say of the segment's memory: a memfd's numbers are the same there and for
 * fstat(). -errno if they cannot be had. */
int exchange_identify(struct segment *s);

/* Draws the curtain over the places, lets act() do its work, and opens it onto their `forward`
 * mappings, or where that failed onto those that back() has made, or the old ones; -errno. */
int exchange_run(struct exchange *x, int (*act)(void *), void (*back)(void *));

/* Whether a system call that copies from or to [start, end) just now may end where a curtain
 * begins. Without the lock. */
bool exchange_cuts(uintptr_t start, uintptr_t end);

/* What was prepared and is not where the program sees it. */
void exchange_unmap_backward(struct exchange *x, bool drawn_too);

/* Takes all access from the file's mapping that is kept aside: without that nobody would know
 * later that it is still ours (kept.h). */
void exchange_hide(void *saved, size_t len);

void exchange_close(struct exchange *x);

#endif
