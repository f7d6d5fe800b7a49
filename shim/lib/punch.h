/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_PUNCH_H
#define PINSTAGE_PUNCH_H

#include <stdint.h>

/* madvise(MADV_REMOVE) of [start, end), page-aligned and not empty: a hole in the file, and
 * zeroes in memory. What can be given back to the file is given back first. Under a pin it
 * cannot be: then the memory is cleared where the device sees it, and the file gets its hole
 * all the same. 0, or -1 and errno. Lock held. */
int punch_range(uintptr_t start, uintptr_t end);

#endif
