/* SPDX-License-Identifier: MIT */
/* The program that is to be run: where it is, and whether a library can be preloaded into it.
 */
#ifndef PINSTAGE_PROGRAM_H
#define PINSTAGE_PROGRAM_H

#include <limits.h>
#include <stddef.h>

/* Looks for it as execvp(3) does. 0; -ENOENT; -EACCES or another errno: something is there, but
 * cannot be executed. */
int program_find(const char *name, char *path, size_t size);

struct verdict {
	char file[PATH_MAX];   /* the program, or the interpreter of a script */
	const char *objection; /* continues a sentence that begins with the file */
};

/* Whether the loader will honour LD_PRELOAD. What cannot be read or understood is no objection:
 * the kernel will say what is wrong with it. */
void program_judge(const char *path, struct verdict *ret);

#endif
