/* SPDX-License-Identifier: MIT */
#include "lib/board.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "lib/real.h"

static const struct board empty;
const struct board *board = &empty;

void board_map(void)
{
	int dir = rendezvous_open(geteuid(), 1), fd;
	void *p;

	if (dir < 0)
		return;
	fd = board_open(dir);
	real.close(dir);
	if (fd < 0)
		return;
	p = real.mmap(NULL, sizeof(struct board), PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		board = p;
	real.close(fd);
}
