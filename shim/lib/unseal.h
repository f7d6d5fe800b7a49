/* SPDX-License-Identifier: MIT */
/* A segment whose memory was sealed, and that has to go on. */
#ifndef PINSTAGE_UNSEAL_H
#define PINSTAGE_UNSEAL_H

#include "lib/space.h"

/* Whether the segment's memory is sealed: nobody can map it for writing any more. */
bool segment_sealed(const struct segment *s);

/* Whether the file may not have all of it yet. What shows nowhere in this process is sealed
 * when the keeper lets go of it. */
bool segment_in_force(const struct segment *s);

/* Its content goes on in new memory, which is not sealed and nobody else's; the ledger stays.
 * Only where nobody maps the old memory. -errno, and then nothing has changed. Runs behind a
 * curtain. */
int segment_unseal(struct segment *s);

/* The keeper's answer: where its memory was sealed, the segment goes on in this one, not mapped
 * yet. Takes the descriptor. */
void segment_goes_on_in(struct segment *s, int memfd);

#endif
