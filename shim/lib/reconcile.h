/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_RECONCILE_H
#define PINSTAGE_RECONCILE_H

#include <stdint.h>

/* Forgets what the records say of addresses where something else stands by now: changes that
 * no hook saw. Segments and areas may be gone afterwards. Lock held. */
void reconcile(void);

/* The same for the areas that overlap [start, end) alone, at a cost that does not grow with the
 * number of mappings. */
void reconcile_between(uintptr_t start, uintptr_t end);

/* In a forked child, the first time: MADV_DONTFORK keeps mappings from it. Before anything is
 * mapped that could come to stand where one of those would be. */
void reconcile_inherited(void);

#endif
