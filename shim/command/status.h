/* SPDX-License-Identifier: MIT */
/* The forms in which `pinstage status` tells what it found. */
#ifndef PINSTAGE_STATUS_H
#define PINSTAGE_STATUS_H

#include "command/view.h"

int status_text(const struct view *v, bool exact,
		const char *none);	   /* a table per keeper, or `none`; -errno */
int status_json(const struct view *v);	   /* -errno */
void status_metrics(const struct view *v); /* OpenMetrics, without names of files */

/* For monitoring: one line, and what to exit with. */
#define CHECK_OK      0
#define CHECK_LATE    1 /* something may have been unsynced for longer than allowed */
#define CHECK_ERROR   2 /* something cannot be written */
#define CHECK_UNKNOWN 3 /* a keeper cannot be asked */
int status_check(const struct view *v, uint64_t max_age_ms);

#endif
