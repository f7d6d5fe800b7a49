/* SPDX-License-Identifier: MIT */
/*
 * The keeper is a pair. The *guardian*, one thread that touches no file and can hardly fail,
 * holds the lock, the listening socket and the vault. The *worker* does everything else. If the
 * worker dies, the guardian forks another, which finds the vault among what it inherits; if the
 * guardian dies, the worker starts another and fills its vault again. Each notices the other's
 * death by the end of the socket pair between them, which comes when the last thread has left
 * every system call: a worker that is stuck in one is never replaced.
 *
 * On the socket pair the worker asks, one request at a time, and the guardian answers.
 */
#ifndef PINSTAGE_KEEPER_GUARDIAN_H
#define PINSTAGE_KEEPER_GUARDIAN_H

#include <stdbool.h>
#include <sys/types.h>

#include "keeper/vault.h"

enum guard_type {
	GUARD_KEEP = 100, /* + file, memory, ledger: this segment is in force */
	GUARD_DROP,  /* id: it is not any more; nothing of it is left open after the answer */
	GUARD_LEAVE, /* the worker ends because nobody needs it; flags: LEAVE_FOR_ANOTHER */
};

#define GUARDIAN_NAME "pinstage-guard" /* at most 15 letters */
#define WORKER_NAME   "pinstage-keeper"

#define LEAVE_FOR_ANOTHER 1U /* also if somebody is just connecting */

struct guardian {
	int dir;      /* the rendezvous */
	int lock;     /* held as long as one of the pair lives */
	int listener; /* likewise */
	int pair;     /* to the worker; -1: there is none */
	pid_t worker;
	bool activated; /* the socket is somebody else's, and stays when we end */
	struct vault vault;
};

/* Runs until nobody needs the keeper. In the guardian it returns 0, or an errno if no worker
 * can be started; in each worker that it forks it returns -1, with g->pair the worker's end. */
int guardian_run(struct guardian *g);

/* The name that ps shows, in place of the arguments if they leave room for it. */
void guardian_title_room(int argc, char **argv);
void guardian_title(const char *name);

/* A guardian in place of one that died; by the worker. Returns the worker's end of the socket
 * pair, or -errno. */
int guardian_start_another(const struct guardian *g);

/* In the program that this executes: what the option --guardian=TEXT says. */
bool guardian_inherit(struct guardian *g, const char *text);

#endif
