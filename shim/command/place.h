/* SPDX-License-Identifier: MIT */
/* Where the library and the keeper are. */
#ifndef PINSTAGE_PLACE_H
#define PINSTAGE_PLACE_H

#include <limits.h>

struct place {
	char library[PATH_MAX];
	char keeper[PATH_MAX]; /* beside the library, which looks for it there, too */
};

/* Beside the command, as in the build tree, or in ../lib/pinstage from there, as installed, or
 * in what stands for lib on other distributions. -ENOENT: the library is nowhere; then
 * place->library is where it should be. -errno. */
int place_find(struct place *ret);

#endif
