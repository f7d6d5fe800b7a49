/* SPDX-License-Identifier: MIT */
/* Working memory of one slow operation: mapped, handed out front to back, unmapped at the end.
 */
#ifndef PINSTAGE_SCRATCH_H
#define PINSTAGE_SCRATCH_H

#include <stddef.h>

struct scratch {
	char *base;
	size_t used;
};

#define SCRATCH_SIZE (32UL * 1024 * 1024) /* address space; only what is used takes memory */

int scratch_open(struct scratch *s); /* -ENOMEM */
void scratch_close(struct scratch *s);

/* Aligned for anything, of any content; NULL when it is used up. To give back what was taken
 * since, set `used` to what it was. */
void *scratch_get(struct scratch *s, size_t size);

#endif
