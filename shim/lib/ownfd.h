/* SPDX-License-Identifier: MIT */
/*
 * The library's own descriptors: close-on-exec, with numbers that the program is unlikely
 * to meet, and not to be closed by a program that closes what it did not open.
 * Async-signal-safe.
 */
#ifndef PINSTAGE_OWNFD_H
#define PINSTAGE_OWNFD_H

#include <signal.h>
#include <stdbool.h>

/*
 * Whose a number is may change until the call that depends on it is made: with this lock held
 * it does not. Whatever makes a number ours, or ends that, has it; so has the program's call
 * that closes or replaces what is at a number where ours may come to be. Signals are blocked
 * and cancellation is off meanwhile; nobody waits for anything else with it held, least of all
 * for the space's lock. Taken by the same thread again (an original that calls a hook) it is
 * nested. Not for a child that only borrows our memory (space_is_ours()): it has a table of its
 * own, and may end at any moment.
 */
struct ownfd_guard {
	sigset_t mask;
	int cancel;
	bool nested;
};

void ownfd_lock(struct ownfd_guard *g);
void ownfd_unlock(struct ownfd_guard *g);

/* When the program starts. */
void ownfd_begin(void);

/* In a copy of the process: whoever had the lock is not there. fork() does not take it: other
 * handlers of it may wait for those who wait for us. */
void ownfd_after_fork(void);

/* Whether numbers up to `last` include any where ours are put. (After the program has lowered
 * its limit there are more of them from the next one on.) */
bool ownfd_reaches(int last);

/* Whether fd may become ours before a call about it is made: it is as high as ours are, and
 * free or just being taken. What the program has there stays its own. Asked before ownfd_is();
 * if so, both the question and the call need the lock. */
bool ownfd_may_come(int fd);

/* Moves fd to a high number and protects it; the low number is free again. Where the program's
 * soft limit would become narrow, to one beyond it. Returns the new number, or -errno with fd
 * closed. Negative numbers are passed through. Never for descriptors
 * of the program's files: closing one drops the process's POSIX locks. */
int ownfd_adopt(int fd);

/* For what there is no way back from: where no other number is to be had, it keeps its own. */
int ownfd_adopt_anyhow(int fd);

void ownfd_close(int fd);

/* Whether fd is ours. */
bool ownfd_is(int fd);

/* The first descriptor of ours that is >= fd, or -1. */
int ownfd_next(int fd);

/* The program is about to put something at this number (dup2): move ours away. Returns the new
 * number, -EMFILE if there is none, or -EBADF if it was closed behind our back; the caller of
 * ownfd_adopt() learns it through `moved` (-1 in the last case). With the lock held until the
 * program's call is made, and with the space's, taken before: so nobody uses a number under it
 * while the number changes hands. */
int ownfd_evade(int fd, void (*moved)(int from, int to));

/* Descriptors of the program that a shared file mapping was made from: only these matter when
 * they are closed. */
void ownfd_watch(int fd);
bool ownfd_watched(int fd);
int ownfd_next_watched(int fd); /* the first >= fd, or -1 */
void ownfd_unwatch(int fd);

#endif
