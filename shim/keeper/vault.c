/* SPDX-License-Identifier: MIT */
#include "keeper/vault.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/cleanup.h"

static bool shared(const struct vault *v, const struct vault_entry *but, int fd)
{
	const struct vault_entry *e;

	LIST_FOREACH(e, v, link)
		if (e != but && e->fd[VAULT_FILE] == fd)
			return true;
	return false;
}

void vault_drop(struct vault *v, uint64_t id)
{
	struct vault_entry *e;

	LIST_FOREACH(e, v, link)
		if (e->m.id == id)
			break;
	if (!e)
		return;
	LIST_REMOVE(e, link);
	if (!shared(v, e, e->fd[VAULT_FILE]))
		close(e->fd[VAULT_FILE]);
	close(e->fd[VAULT_MEMORY]);
	close(e->fd[VAULT_LEDGER]);
	free(e);
}

int vault_keep(struct vault *v, const struct msg *m, int *fd)
{
	struct vault_entry *e, *other;

	for (int i = 0; i < PROTO_FDS; i++)
		if (fd[i] < 0)
			return -EBADF;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->m = *m;
	LIST_FOREACH(other, v, link)
		if (other->m.id != m->id && !inode_key_cmp(other->m.key, m->key))
			break;
	for (int i = 0; i < PROTO_FDS; i++)
		e->fd[i] = steal_fd(&fd[i]);
	if (other) {
		close(e->fd[VAULT_FILE]);
		e->fd[VAULT_FILE] = other->fd[VAULT_FILE];
	}
	vault_drop(v, m->id);
	LIST_INSERT_HEAD(v, e, link);
	return 0;
}
