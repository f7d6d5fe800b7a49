/* SPDX-License-Identifier: MIT */
/* Which records were written already, and how often each would have been again. No lock: a few
 * counters that threads may change at once. */
#ifndef PINSTAGE_SITES_H
#define PINSTAGE_SITES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SITES_MOST 1024
#define SITES_STAGES \
	512 /* each range that is staged is a kind of its own: not all are theirs */

struct site {
	_Atomic(uint64_t) key; /* 0: free */
	_Atomic(uint64_t) n, bytes;
	_Atomic(uint64_t) first, last; /* ns since the epoch */
};

enum site_note {
	SITE_FIRST, /* of its kind: has to be written */
	SITE_AGAIN,
	SITE_LEFT_OUT, /* there are `most` kinds already: only counted as such */
};

/* Counts one more. */
enum site_note sites_note(uint64_t key, uint64_t bytes, uint64_t now, unsigned most);

/* Those there are: i from 0 until NULL. Free ones are passed over. */
const struct site *sites_next(unsigned *i);

uint64_t sites_left_out(void);
void sites_forget(void);

/* Pins that the kernel granted at once: counted, no more, and only where a log is wanted. */
extern atomic_bool sites_counting;
extern _Atomic(unsigned long) sites_fine;

static inline void sites_pin_is_fine(void)
{
	if (__builtin_expect(atomic_load_explicit(&sites_counting, memory_order_relaxed), 0))
		atomic_fetch_add_explicit(&sites_fine, 1, memory_order_relaxed);
}

#endif
