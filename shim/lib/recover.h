/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_RECOVER_H
#define PINSTAGE_RECOVER_H

#include <stdint.h>

#include "common/reason.h"

/* Makes sure that a keeper listens and knows of every segment that this process shows: after
 * the old one died, or in a child that inherited them. Takes the lock unless this thread has
 * it. */
int recover(enum reason *ret_why);

struct segment;

/* Tells the keeper of one segment. `saved` is where the file's own mapping of it is kept. Lock
 * held. */
int recover_segment(struct segment *s, uintptr_t saved, enum reason *ret_why);
/* The same, and what is sealed goes on in memory that can be mapped for writing. */
int recover_to_map(struct segment *s, uintptr_t saved, enum reason *ret_why);

#endif
