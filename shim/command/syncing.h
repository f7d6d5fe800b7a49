/* SPDX-License-Identifier: MIT */
/* Syncing what a view has, with a line of progress on a terminal when it takes long. */
#ifndef PINSTAGE_SYNCING_H
#define PINSTAGE_SYNCING_H

#include <stdbool.h>
#include <stdint.h>

#include "command/view.h"

#define OTHERS_MS 60000 /* unless set otherwise */

/* Has the files for which wanted() says so carried to the disk, one after the other. `who` is
 * the subcommand; with `say` there is a line for each file that cannot be written. Another
 * user's keeper, which may be none, is given up after others_ms. Returns 0, 1 if something
 * could not be written, or EXIT_OWN if a keeper could not be asked. */
int sync_view(const char *who, const struct view *v,
	      bool (*wanted)(const struct view_file *f, const void *arg), const void *arg,
	      uint64_t others_ms, bool say);

#endif
