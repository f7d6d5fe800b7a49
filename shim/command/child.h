/* SPDX-License-Identifier: MIT */
/* The program as a child of `pinstage run`. */
#ifndef PINSTAGE_CHILD_H
#define PINSTAGE_CHILD_H

#include <signal.h>
#include <sys/types.h>

struct child {
	pid_t pid;
	sigset_t mask;		  /* as we were called, and as the program gets it */
	struct sigaction on_chld; /* likewise */
};

/* Starts it; from here on signals are held back for child_wait(). Returns 0, or -errno of what
 * kept it from being executed. */
int child_start(struct child *c, const char *path, char **argv);

/* Hands signals on to it until it ends. Returns its wait status. */
int child_wait(struct child *c);

#endif
