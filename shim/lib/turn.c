/* SPDX-License-Identifier: MIT */
#include "lib/turn.h"

#include <errno.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "lib/ownfd.h"
#include "lib/real.h"

static int fd = -1; /* the board, from the first turn on */

static bool opened(void)
{
	int dir, got;

	if (fd >= 0)
		return true;
	dir = rendezvous_open(geteuid(), 0);
	if (dir < 0)
		return false;
	got = board_open(dir);
	real.close(dir);
	fd = ownfd_adopt(got);
	return fd >= 0;
}

void turn_take(enum board_turn what, struct inode_key key)
{
	int saved = errno;

	if (opened())
		board_take_turn(fd, key, what, false);
	errno = saved;
}

void turn_give(enum board_turn what, struct inode_key key)
{
	int saved = errno;

	if (fd >= 0)
		board_give_turn(fd, key, what);
	errno = saved;
}

void turn_after_fork(void)
{
	ownfd_close(fd);
	fd = -1;
}

void turn_fd_moved(int from, int to)
{
	if (fd == from)
		fd = to;
}
