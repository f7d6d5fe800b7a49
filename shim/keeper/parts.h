/* SPDX-License-Identifier: MIT */
/* One piece of work on many pages, done by several threads at once. */
#ifndef PINSTAGE_KEEPER_PARTS_H
#define PINSTAGE_KEEPER_PARTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define PARTS_MOST 8

struct part {
	int (*work)(struct part *part);
	void *of;
	uint64_t first, last; /* pages */
	uint64_t sum;	      /* of whatever the work counts */
	int err;
	pthread_t thread;
	bool started;
};

/* How many parts of so many bytes are worth it on this machine; one at least. */
unsigned parts_worth(uint64_t bytes, uint64_t least);

/* Pages [first, first + pages) in n parts, the first of which is this thread's own; what no
 * thread can be had for, too. Returns the first error; *ret_sum, if not NULL, is the sum. */
int in_parts(void *of, int (*work)(struct part *), uint64_t first, uint64_t pages, unsigned n,
	     uint64_t *ret_sum);

#endif
