/* SPDX-License-Identifier: MIT */
/* Taking turns with the user's other processes over a staged file (common/board.h). Lock held,
 * so that the process's own threads take theirs by it. A process that cannot have the board any
 * more (another root directory, other privileges, no descriptors) goes without. */
#ifndef PINSTAGE_TURN_H
#define PINSTAGE_TURN_H

#include "common/board.h"

void turn_take(enum board_turn what, struct inode_key key);
void turn_give(enum board_turn what, struct inode_key key);

/* In a forked child: the description is shared with the parent, who may have a turn. */
void turn_after_fork(void);

/* dup2() onto our descriptor. */
void turn_fd_moved(int from, int to);

#endif
