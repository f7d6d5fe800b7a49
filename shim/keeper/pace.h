/* SPDX-License-Identifier: MIT */
/* How often the keeper looks at memory. Pure. */
#ifndef PINSTAGE_KEEPER_PACE_H
#define PINSTAGE_KEEPER_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/util.h"

#define PACE_MOST_MS 60000

/* What a pass cost. */
struct effort {
	uint64_t busy_us; /* its thread's processor time */
	uint64_t took_ms;
};

/*
 * When the next background pass comes, in ms, after one that cost so much. What changed is
 * likely to change again: there passes may take a fifth of a processor. Where nothing did, one
 * part in a hundred. To wait, for a device or a turn, costs no processor, but should not be all
 * that is done. Never later than a minute because of that.
 */
static inline uint64_t pace(uint64_t interval, struct effort e, bool changed)
{
	const uint64_t busy = e.busy_us * (changed ? 4 : 100) / 1000;
	const uint64_t pause = MAX(busy, e.took_ms * 4);
	const uint64_t most = MIN(pause, (uint64_t)PACE_MOST_MS);

	return MAX(interval, most);
}

#endif
