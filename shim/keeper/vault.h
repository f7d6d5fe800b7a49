/* SPDX-License-Identifier: MIT */
/* What the guardian keeps of each segment that is in force, so that a worker which died can be
 * replaced: descriptors, and how clients know it. A plain list; one process, one thread. */
#ifndef PINSTAGE_KEEPER_VAULT_H
#define PINSTAGE_KEEPER_VAULT_H

#include <stdint.h>
#include <sys/queue.h>

#include "common/proto.h"

enum {
	VAULT_FILE,
	VAULT_MEMORY,
	VAULT_LEDGER
}; /* descriptors, in the order in which they come */

struct vault_entry {
	LIST_ENTRY(vault_entry) link;
	struct msg m; /* key, id, off, len, run, text; arg[0]: the interval, ms */
	int fd[PROTO_FDS];
};

LIST_HEAD(vault, vault_entry);

/* Keeps fd[], which are then the vault's (the worker's own description of the file is shared by
 * all entries of that file). An entry with the same id is replaced. 0, or -errno: then they are
 * still the caller's. */
int vault_keep(struct vault *v, const struct msg *m, int *fd);
void vault_drop(struct vault *v, uint64_t id);

#endif
