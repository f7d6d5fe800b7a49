/* SPDX-License-Identifier: MIT */
/*
 * The board: a small file beside the keeper's socket, which every process under pinstage maps
 * read-only when it starts and the keeper alone writes: the holder of its lock, which is a
 * process that starts for the moment that it takes to clear what killed keepers left. It says
 * which files have, or are about to get, a stage, so that a process which merely maps, reads or
 * writes a file learns without a system call that another process has staged it. A file is on
 * the board from before the keeper looks who maps it, and so from before any of its content
 * moves, until its last segment is gone.
 *
 * A counter per hash of the inode, no names: the answer may be yes for no reason (then the
 * keeper is asked, and knows), never no.
 */
#ifndef PINSTAGE_BOARD_H
#define PINSTAGE_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/util.h"

/* Another layout gets another name. */
#define BOARD_NAME  "board.1"
#define BOARD_SLOTS 4095

struct board {
	_Atomic uint32_t files; /* on the board */
	_Atomic uint32_t slot[BOARD_SLOTS];
};

static inline uint64_t board_hash(struct inode_key key)
{
	uint64_t x = (key.ino ^ (key.dev * 0x9e3779b97f4a7c15ULL)) * 0xbf58476d1ce4e5b9ULL;

	return x ^ (x >> 31);
}

static inline unsigned board_slot(struct inode_key key)
{
	return (unsigned)(board_hash(key) % BOARD_SLOTS);
}

/*
 * Opens the file in a directory from rendezvous_open(), made and of full size; -errno. Whoever
 * comes first makes it: a process that started before there was any keeper must see the same
 * one. -EFBIG: it is not there, and RLIMIT_FSIZE does not allow to make it.
 */
int board_open(int dir);

/*
 * Turns: what one process at a time may do to a file, as open file description locks on bytes
 * far behind the board's content. They end with the process, whatever becomes of it.
 *
 *   TURN_WRITE   of clients, over writing the file and then the memory: what position and end
 *                say before the write holds until both have it
 *   TURN_LENGTH  of a client, alone, over the one call that changes the file's length; of the
 *                keeper, shared, over reading, and over looking at the length and writing up
 *                to it
 */
enum board_turn { TURN_WRITE, TURN_LENGTH };

/* Waits for it, but not for ever: who does not give it back was stopped, and then goes on with
 * what is half done. `fd` is the board's, and of one description per process. */
void board_take_turn(int fd, struct inode_key key, enum board_turn what, bool shared);
void board_give_turn(int fd, struct inode_key key, enum board_turn what);

#endif
