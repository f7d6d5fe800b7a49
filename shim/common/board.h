/* SPDX-License-Identifier: MIT */
/*
 * The board: a small file beside the keeper's socket, which every process under pinstage maps
 * read-only when it starts and the keeper alone writes. It says which files have, or are about
 * to get, a stage, so that a process which merely maps, reads or writes a file learns without a
 * system call that another process has staged it. A file is on the board from before the keeper
 * looks who maps it, and so from before any of its content moves, until its last segment is
 * gone.
 *
 * A counter per hash of the inode, no names: the answer may be yes for no reason (then the
 * keeper is asked, and knows), never no.
 */
#ifndef PINSTAGE_BOARD_H
#define PINSTAGE_BOARD_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/util.h"

/* Another layout gets another name. */
#define BOARD_NAME  "board.1"
#define BOARD_SLOTS 4095

struct board {
	_Atomic uint32_t files; /* on the board */
	_Atomic uint32_t slot[BOARD_SLOTS];
};

static inline unsigned board_slot(struct inode_key key)
{
	uint64_t x = (key.ino ^ (key.dev * 0x9e3779b97f4a7c15ULL)) * 0xbf58476d1ce4e5b9ULL;

	return (unsigned)((x ^ (x >> 31)) % BOARD_SLOTS);
}

/*
 * Opens the file in a directory from rendezvous_open(), made and of full size; -errno. Whoever
 * comes first makes it: a process that started before there was any keeper must see the same
 * one. -EFBIG: it is not there, and RLIMIT_FSIZE does not allow to make it.
 */
int board_open(int dir);

#endif
