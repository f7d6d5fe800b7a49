/* SPDX-License-Identifier: MIT */
/* Showing a segment's content without letting go of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"
#include "keeper/server.h"

/* Of a description that cannot write: a mapping of it is none in the eyes of F_SEAL_WRITE. */
static int reopen_read_only(int fd)
{
	char path[64];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}

void answer_show(struct conversation *c, struct msg *m)
{
	const struct segment *g = segment_by_id(m->id);
	cleanup_fd int mem = -1, ledger = -1;
	int fd[2];

	m->error = -ENOENT;
	if (g && g->state != SEGMENT_FILLING) {
		mem = reopen_read_only(g->memfd);
		ledger = reopen_read_only(g->ledger_fd);
		m->error = mem < 0 ? mem : ledger < 0 ? ledger : 0;
	}
	fd[0] = mem;
	fd[1] = ledger;
	answer(c, m, fd, m->error ? 0 : 2);
}
