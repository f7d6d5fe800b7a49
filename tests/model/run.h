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

/* several.c: the same in several programs. Without the last look. */
bool run_several(void);

/* ---- main.c, for it ---- */

bool fail_run(const char *what); /* false */
/* Starts one that performs, in a group of its own, which is returned. All its processes hold
 * `life`. */
pid_t start_program(int life, unsigned which, bool eager);
/* Something came, or the end, before nothing happened for too long. */
bool heard(int fd);
/* Waits for a group that has ended, or hung and is to be killed. False if it is not as it
 * should be. */
bool end_group(pid_t group, bool hung);

const char *op_name(unsigned i);
uint64_t now_ms(void);

#endif
