/* SPDX-License-Identifier: MIT */
/* How often the keeper looks at memory. Pure. */
#ifndef PINSTAGE_KEEPER_PACE_H
#define PINSTAGE_KEEPER_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/util.h"

#define PACE_MOST_MS 60000

/*
 * When the next background pass comes, in ms, after one that took `took`. What changed is
 * likely to change again: there passes may take a fifth of a processor. Where nothing did, one
 * part in a hundred. Never later than a minute because of that.
 */
static inline uint64_t pace(uint64_t interval, uint64_t took, bool changed)
{
	return MAX(interval, MIN(took * (changed ? 4 : 100), (uint64_t)PACE_MOST_MS));
}

#endif
