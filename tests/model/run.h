/* SPDX-License-Identifier: MIT */
/* What the supervisor's parts share. */
#ifndef RUN_H
#define RUN_H

#include "model.h"

/* Performs shared->list with shared->seed in a process with the shim, and looks at the file
 * afterwards. True if all was well; else shared->failure says what was not. */
bool run_once(void);

/* Leaves in shared->list a subset that still fails, and in the log what it did. */
void shrink(unsigned seconds);

const char *op_name(unsigned i);
uint64_t now_ms(void);

#endif
