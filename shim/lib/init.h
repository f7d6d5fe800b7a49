/* SPDX-License-Identifier: MIT */
/* What is known from the start. */
#ifndef PINSTAGE_INIT_H
#define PINSTAGE_INIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/options.h"

extern struct options options;
extern bool enabled;		 /* false: every hook passes everything */
extern uint64_t run_id;		 /* from `pinstage run`, 0 without */
extern const char *library_path; /* of libpinstage.so, absolute */

/* The process ends, or another program takes its place: carries what is staged to its files,
 * and says what the log has still to say. */
void process_ends(void);

#endif
