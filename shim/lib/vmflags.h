/* SPDX-License-Identifier: MIT */
/*
 * What only smaps tells of a mapping: locked, not inherited, watched, its key. To read smaps as
 * far as a mapping walks the page tables of all that lies before it, 10 ms for each GiB.
 */
#ifndef PINSTAGE_VMFLAGS_H
#define PINSTAGE_VMFLAGS_H

#include "common/vmas.h"

#define VMFLAGS_PLACE (1UL << 20)   /* above what may not be mapped, below where programs lie */
#define VMFLAGS_PAGES 2		    /* that are taken there for a moment, under the lock */
#define VMFLAGS_TEXT  (20UL * 1024) /* one entry of smaps: a path is escaped */

struct vmflags {
	char *text; /* working space, VMFLAGS_TEXT bytes */
	int uffd;   /* ours to ask with, -1: not open yet */
};

static inline struct vmflags vmflags_begin(char *text)
{
	return (struct vmflags){ text, -1 };
}

/* Adds it to what a line of maps says of a shared mapping, in the time that a handful of system
 * calls take. Lock held. -errno: it cannot be had so, and smaps is to be read. */
int vmflags_add(struct vmflags *f, struct vma *v);

/* The same, and reads smaps itself. `buf` is working space, as for vmas_scan(). -errno: smaps
 * cannot be read, or the mapping is not there any more. */
int vmflags_find(struct vmflags *f, struct vma *v, char *buf, size_t size);

void vmflags_end(struct vmflags *f);

#endif
