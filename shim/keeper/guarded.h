/* SPDX-License-Identifier: MIT */
/* The worker's side of the pair. What the guardian knows of a segment is what survives us. */
#ifndef PINSTAGE_KEEPER_GUARDED_H
#define PINSTAGE_KEEPER_GUARDED_H

#include "keeper/guardian.h"
#include "keeper/keeper.h"

/* In a new worker: takes over what the guardian had, its own copies of the descriptors. */
void guarded_begin(struct guardian *g);

/* Before a client learns that the segment is in force (its state is that already). -EMFILE: it
 * cannot be kept, and must not be in force. No lock held. */
int guarded_keep(struct segment *g);

/* The same for a segment that the guardian has already, with other memory. */
void guarded_keep_anyhow(struct segment *g);

/* Before a segment is destroyed that was kept. When it returns the guardian has nothing of it
 * open any more. No lock held. */
void guarded_drop(struct segment *g);

/* The last that we say. */
void guarded_leave(bool for_another);

/* For the main thread, lock held: the guardian's death (an event on guarded_fd()); and another
 * one in its place, told of what it has to keep, if it is time. Returns in how many ms it is
 * time to try again, or UINT64_MAX: there is a guardian that has all. */
int guarded_fd(void);
void guarded_lost(void);
uint64_t guarded_revive(void);

#endif
