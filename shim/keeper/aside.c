/* SPDX-License-Identifier: MIT */
/* A second description of a stage's file, and waiting by it until the file is written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "keeper/keeper.h"

int stage_aside(struct stage *s)
{
	char path[64];

	if (s->aside <= 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
		s->aside = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	}
	return s->aside > 0 ? s->aside : s->fd;
}

/* Where it is the description that fdatasync() asks which is waited by, that will not be told
 * of the error; nor will any where the kernel dropped the pages at once. That there was none
 * says nothing. */
void stage_wait_begins(struct stage *s)
{
	if (s->aside <= 0)
		engine_flushing(s, true);
}

void stage_wait_ends(struct stage *s, int err)
{
	if (err && !wait_denied(err))
		engine_doubt(s);
	if (s->aside <= 0)
		engine_flushing(s, false);
}

int stage_write_out(struct stage *s, uint64_t off, uint64_t len)
{
	const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			     SYNC_FILE_RANGE_WAIT_AFTER;
	const int fd = stage_aside(s);
	int err;

	stage_wait_begins(s);
	err = sync_file_range(fd, (off_t)off, (off_t)len, all) < 0 ? -errno : 0;
	stage_wait_ends(s, err);
	return err;
}
