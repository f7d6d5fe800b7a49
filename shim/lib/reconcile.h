/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_RECONCILE_H
#define PINSTAGE_RECONCILE_H

/* Forgets what the records say of addresses where something else stands by now: changes that
 * no hook saw. Segments and areas may be gone afterwards. Lock held. */
void reconcile(void);

#endif
