/* SPDX-License-Identifier: MIT */
/* The options of `pinstage run`. */
#ifndef PINSTAGE_SETTINGS_H
#define PINSTAGE_SETTINGS_H

#include "common/options.h"

struct settings {
	enum mode mode; /* as the library will see it */
	uint64_t sync_timeout_ms;
	char **program; /* and its arguments */
};

/* Options of the command alone: they have no variable. */
extern const struct option_row run_option_table[];
extern const size_t run_option_count;

/* Reads the options and sets the program's environment from them. Returns -1, or what to exit
 * with. */
int settings_read(struct settings *ret, int argc, char **argv);

#endif
