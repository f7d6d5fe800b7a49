/* SPDX-License-Identifier: MIT */
/*
 * Pins that the kernel granted on a file's own pages: MRs that cannot be written. The device
 * reads those pages whatever stands at the address later, so they must not be staged. They are
 * known by file and offset, because a pin outlives the mapping. All with the space's lock held,
 * except native_count().
 */
#ifndef PINSTAGE_NATIVE_H
#define PINSTAGE_NATIVE_H

#include <stdbool.h>

#include "common/util.h"

/* What of [start, end) is recorded as a file's own mapping is pinned now, by `owner`: an MR, or
 * the address of something on the stack while there is none yet. Without memory nothing is
 * added: then only the keeper's look at who holds the pages stands between. */
void native_add(uintptr_t start, uintptr_t end, const void *owner);

/* The pins of `from` are those of `to`, which is of a context (an open device). */
void native_pass_on(const void *from, const void *to, const void *context);

/* The pins are gone: those of an owner, or of a whole context that was closed. */
void native_drop(const void *owner);
void native_drop_context(const void *context);

bool native_is_owner(const void *owner);

/* Whether any page of [off, end) of the file is pinned. */
bool native_overlaps(struct inode_key key, uint64_t off, uint64_t end);

/* In a forked child, whose parent's pins they are. */
void native_forget(void);

unsigned native_count(void);

#endif
