/* SPDX-License-Identifier: MIT */
/* mremap() and remap_file_pages() over tracked ranges. All with the original's contract
 * (MAP_FAILED and errno), with the lock held and nodes for eight areas in reserve. */
#ifndef PINSTAGE_REMAP_H
#define PINSTAGE_REMAP_H

#include <stddef.h>

/* Nothing in the old range is staged: the kernel does it, records and segments follow. */
void *remap_native(void *addr, size_t old_len, size_t new_len, int flags, void *to);

/* Something is: the range is several mappings that the kernel would not move as one. The new
 * range is built from the file's own mapping, which is kept aside, shows the same segments, and
 * then the old one goes. */
void *remap_staged(void *addr, size_t old_len, size_t new_len, int flags, void *to);

/* remap_file_pages(): the staged parts of the range show their file again, the kernel does what
 * was asked, and what is staged shows at the range's new offsets. 0, or -1 and errno. */
int remap_pages(void *addr, size_t len, int prot, size_t page, int flags);

#endif
