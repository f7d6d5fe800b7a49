/* SPDX-License-Identifier: MIT */
/*
 * Backtraces: return addresses and nothing else, taken without allocation and without a lock of
 * ours. What module an address belongs to is found out when it is written down (modules.h).
 */
#ifndef PINSTAGE_TRACE_H
#define PINSTAGE_TRACE_H

#include <stdint.h>

#define TRACE_FRAMES 24

struct trace {
	unsigned n; /* 0: none could be had, or none was wanted */
	uintptr_t frame[TRACE_FRAMES];
};

/* Makes the unwinder ready, which loads a library: at start, where a log is wanted. Until then
 * traces are empty. */
void trace_prepare(void);

/* The caller's stack, innermost first. Not with the lock on the address space held: unwinders
 * of old take the dynamic linker's lock. Keeps errno. */
void trace_take(struct trace *t);

/* Keeps a trace for as long as the process lives; those that are the same are kept once.
 * Returns its number; 0 if it is empty, or if there are too many. Lock held. */
unsigned trace_keep(const struct trace *t);
const struct trace *trace_kept(unsigned number); /* of 0: an empty one */

uint64_t trace_hash(uint64_t seed, const struct trace *t);

/* FNV-1a. */
#define HASH_SEED 0xcbf29ce484222325ULL
uint64_t hash_bytes(uint64_t seed, const void *p, unsigned long n);

#endif
