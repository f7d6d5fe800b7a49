/* SPDX-License-Identifier: MIT */
/*
 * The library's own descriptors: few, close-on-exec, with numbers that the program is unlikely
 * to meet, and not to be closed by a program that closes what it did not open.
 * Async-signal-safe.
 */
#ifndef PINSTAGE_OWNFD_H
#define PINSTAGE_OWNFD_H

#include <stdbool.h>

/* Moves fd to a high number and protects it; the low number is free again. Returns the new
 * number, or -errno with fd closed. Negative numbers are passed through. Never for descriptors
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
 * number; the caller of ownfd_adopt() learns it through `moved`. */
int ownfd_evade(int fd, void (*moved)(int from, int to));

/* Descriptors of the program that a shared file mapping was made from: only these matter when
 * they are closed. */
void ownfd_watch(int fd);
bool ownfd_watched(int fd);
int ownfd_next_watched(int fd); /* the first >= fd, or -1 */
void ownfd_unwatch(int fd);

#endif
