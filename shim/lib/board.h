/* SPDX-License-Identifier: MIT */
/* What other processes of the user have staged; see common/board.h. Two loads, no system call,
 * no lock; async-signal-safe. */
#ifndef PINSTAGE_LIB_BOARD_H
#define PINSTAGE_LIB_BOARD_H

#include <stdbool.h>

#include "common/board.h"

extern const struct board *board; /* never NULL */

/* From the constructor. Where there is no place for a board there is none for a keeper: then
 * this process sees what others stage as an outsider does. */
void board_map(void);

static inline bool board_has_any(void)
{
	return atomic_load_explicit(&board->files, memory_order_relaxed) != 0;
}

/* Whether the file may be staged by somebody. */
static inline bool board_lists(struct inode_key key)
{
	return atomic_load(&board->slot[board_slot(key)]) != 0;
}

#endif
