/* SPDX-License-Identifier: MIT */
/*
 * Runs fn(arg) in a child that shares our memory but has a copy of the descriptor table, while
 * the calling thread waits. Closing a descriptor there drops none of the process's POSIX locks,
 * and nothing done to descriptors there is seen here. The child sends no SIGCHLD and wait()
 * does not see it. fn runs on the caller's thread-local storage: system calls only.
 *
 * Returns what fn returned, or -errno if there is no such child to be had. Signals must be
 * blocked by the caller.
 */
#ifndef PINSTAGE_SHADOW_H
#define PINSTAGE_SHADOW_H

#include <stddef.h>

int shadow_run(int (*fn)(void *arg), void *arg);

/* The same with our descriptor table itself, in a process that has limits of its own. */
int shadow_run_with_files(int (*fn)(void *arg), void *arg);

/* Stacks for such children. NULL: no memory. */
void *shadow_stack_map(size_t size);
void shadow_stack_unmap(void *stack, size_t size);

#endif
