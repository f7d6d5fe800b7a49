/* SPDX-License-Identifier: MIT */
/* Making room in the budget for staged memory. Lock held. */
#ifndef PINSTAGE_ROOM_H
#define PINSTAGE_ROOM_H

#include <stdint.h>

#include "lib/space.h"

/* A call that asks for pins begins: what it stages, or finds staged, is not given back for the
 * rest of what it asks for. */
void room_new_call(void);
void room_needed_now(struct segment *s);

/* Gives segments back to their files, those first that no call has asked for for longest, until
 * `need` bytes are free. A segment that a device still has pinned, or another process shows, is
 * refused by the kernel and stays; after a few such it gives up. Returns how much was freed. */
uint64_t room_make(uint64_t need);

#endif
