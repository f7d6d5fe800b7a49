/* SPDX-License-Identifier: MIT */
/* Behind the curtain: what the file holds is copied to a new segment's memory. */
#ifndef PINSTAGE_FILL_H
#define PINSTAGE_FILL_H

#include "lib/exchange.h"

/* -errno */
int fill_segment(struct exchange *x);

#endif
