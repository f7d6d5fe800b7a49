/* SPDX-License-Identifier: MIT */
/*
 * A segment whose end came while this process shows it: the keeper says the last word
 * (F_SEAL_WRITE) over what no client uses and nobody could write. A forked child that has not
 * talked to the keeper since its parent ended, or a program whose keeper died, may still show
 * it, for reading only. The file has all of it; and for this process it has to go on, in memory
 * that can be written.
 */
#ifndef PINSTAGE_RESUME_H
#define PINSTAGE_RESUME_H

#include "lib/custody.h"

/* If the memory is sealed: goes on in what the keeper has for the same range by now, or else in
 * a copy that the keeper is yet to be told of (ret_told). -EBUSY: not now. Lock held. */
int resume_sealed(struct segment *s, struct custody *c, bool *ret_told, enum reason *ret_why);

/* The same in a copy, with no keeper to be had. */
int resume_alone(struct segment *s);

#endif
