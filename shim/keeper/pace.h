/* SPDX-License-Identifier: MIT */
/* How often the keeper looks at memory. Pure. */
#ifndef PINSTAGE_KEEPER_PACE_H
#define PINSTAGE_KEEPER_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/util.h"

#define PACE_MOST_MS 60000
#define PACE_IDLE_MS (2 * PACE_MOST_MS)

/* Of the processor time of the last pass, before the next one. Where nothing changed less than
 * one part in a hundred is wanted. */
#define PACE_CHANGED 4
#define PACE_IDLE    120

/* What a pass cost. */
struct effort {
	uint64_t busy_us; /* its thread's processor time */
	uint64_t took_ms;
};

/* What passes that find nothing have cost of late, with one more: another may take twice as
 * long as this one, as the machine goes. */
static inline uint64_t pace_of_late(uint64_t before_us, uint64_t busy_us)
{
	return MAX(busy_us, before_us - before_us / 8);
}

/*
 * When the next background pass comes, in ms, after one that cost so much. What changed is
 * likely to change again: there passes may take a fifth of a processor. To wait, for a device
 * or a turn, costs no processor, but should not be all that is done. Never later than two
 * minutes because of the one, a minute because of the other.
 */
static inline uint64_t pace(uint64_t interval, struct effort e, bool changed)
{
	const uint64_t most = changed ? PACE_MOST_MS : PACE_IDLE_MS;
	const uint64_t busy =
		MIN(e.busy_us * (changed ? PACE_CHANGED : PACE_IDLE) / 1000, most);
	const uint64_t took = MIN(e.took_ms * 4, (uint64_t)PACE_MOST_MS);
	const uint64_t pause = MAX(busy, took);

	return MAX(interval, pause);
}

#endif
