/* SPDX-License-Identifier: MIT */
/*
 * The file's own mappings that are kept aside while a segment stands in their place. The
 * program does not know of their addresses, and may by chance unmap them or map over them;
 * and it may change by system calls of its own what stands where we put something. So nothing
 * is moved or unmapped on the word of our records alone.
 */
#ifndef PINSTAGE_KEPT_H
#define PINSTAGE_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct segment;

/* Whether [at, at+len) is still the mapping of the segment's file, from `off` on, that was kept
 * there. */
bool kept_stands(const struct segment *s, uint64_t off, uintptr_t at, size_t len);

/* Unmaps it, if it is. */
void kept_drop(const struct segment *s, uint64_t off, uintptr_t at, size_t len);

/*
 * A forked child tells the keeper of itself when it first needs to. Until then the keeper knows
 * by F_SEAL_WRITE alone that the memory is in use, and mappings that nobody could make writable
 * do not count there. Who has one holds a page without access, from the read-write description:
 * children inherit it, and it counts. It goes before anybody asks for the seal.
 */
void kept_unhold(struct segment *s);

#endif
