/* SPDX-License-Identifier: MIT */
/*
 * The access flags of every MR, which nobody can be asked for later: ibv_rereg_mr() without new
 * ones leaves the old ones in force. No lock and no allocator of others: any thread, and a
 * forked child, whose MRs have the same addresses. Without memory an MR is not known.
 */
#ifndef PINSTAGE_MRS_H
#define PINSTAGE_MRS_H

#include <stdbool.h>

/* `mr` exists, with these flags: a new one, or one that was changed. What is noted of an MR of
 * the same address is gone; MRs that were left when their device was closed end so. */
void mrs_note(const void *mr, unsigned access);

/* Whether it is known. */
bool mrs_access(const void *mr, unsigned *ret_access);

void mrs_forget(const void *mr);

#endif
