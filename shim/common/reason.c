/* SPDX-License-Identifier: MIT */
#include "common/reason.h"

static const struct {
	const char *text, *remedy;
} reasons[] = {
#define REASON_ROW(name, text, remedy) [REASON_##name] = { text, remedy },
	PINSTAGE_REASONS(REASON_ROW)
};

const char *reason_text(enum reason r)
{
	return (unsigned)r < REASON_MAX ? reasons[r].text : "unknown reason";
}

const char *reason_remedy(enum reason r)
{
	return (unsigned)r < REASON_MAX ? reasons[r].remedy : "";
}
