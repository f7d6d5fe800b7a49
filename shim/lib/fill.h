/* SPDX-License-Identifier: MIT */
/* Behind the curtain: what the file holds is copied to a new segment's memory. */
#ifndef PINSTAGE_FILL_H
#define PINSTAGE_FILL_H

#include "lib/exchange.h"

/* -errno */
int fill_segment(struct exchange *x);

/* Nothing of [from, from + len) is mapped any more, nor held back by this processor: pages that
 * were just in use are, up to some tens, in the kernel's lists of what it is about to sort. */
void fill_let_go(void *from, size_t len);

#endif
