/* SPDX-License-Identifier: MIT */
/* pinstage status for monitoring: OpenMetrics text, or a check with an exit status. Labels are
 * users' IDs only: a file's name says more than a monitor should know, and each would be a
 * series of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command/format.h"
#include "command/status.h"

static uint64_t reachable(const struct view_keeper *k)
{
	return k->error == 0;
}

static uint64_t staged(const struct view_keeper *k)
{
	return k->staged;
}

static uint64_t budget(const struct view_keeper *k)
{
	return k->budget;
}

static uint64_t files(const struct view_keeper *k)
{
	return k->files;
}

static uint64_t failing(const struct view_keeper *k)
{
	uint64_t n = 0;

	for (size_t i = 0; i < k->files; i++)
		n += k->file[i].error != 0;
	return n;
}

static uint64_t refusals(const struct view_keeper *k)
{
	return k->refusals;
}

static uint64_t failures(const struct view_keeper *k)
{
	return k->failures;
}

static const struct {
	const char *name, *type, *unit, *help;
	uint64_t (*value)(const struct view_keeper *k);
	bool milli; /* to be divided by a thousand */
} metric[] = {
	{ "pinstage_keeper_reachable", "gauge", NULL, "Whether the keeper answers.", reachable,
	  false },
	{ "pinstage_files", "gauge", NULL, "Files of which something is staged.", files,
	  false },
	{ "pinstage_failing_files", "gauge", NULL, "Files that cannot be written at present.",
	  failing, false },
	{ "pinstage_staged_bytes", "gauge", "bytes", "Memory that stands in for files.", staged,
	  false },
	{ "pinstage_budget_bytes", "gauge", "bytes", "What may be staged.", budget, false },
	{ "pinstage_dirty_bytes", "gauge", "bytes",
	  "What the last pass found changed and could not write.", view_dirty, false },
	{ "pinstage_unsynced_age_seconds", "gauge", "seconds",
	  "No change is older than this and not in its file.", view_age_ms, true },
	{ "pinstage_refusals", "counter", NULL, "Pins that the keeper refused.", refusals,
	  false },
	{ "pinstage_failed_passes", "counter", NULL,
	  "Passes that could not write all there was.", failures, false },
};

static void print_value(uint64_t n, bool milli)
{
	if (milli)
		printf("%" PRIu64 ".%03" PRIu64 "\n", n / 1000, n % 1000);
	else
		printf("%" PRIu64 "\n", n);
}

void status_metrics(const struct view *v)
{
	for (size_t i = 0; i < ARRAY_SIZE(metric); i++) {
		printf("# TYPE %s %s\n", metric[i].name, metric[i].type);
		if (metric[i].unit)
			printf("# UNIT %s %s\n", metric[i].name, metric[i].unit);
		printf("# HELP %s %s\n", metric[i].name, metric[i].help);
		for (size_t k = 0; k < v->keepers; k++) {
			if (v->keeper[k].error && metric[i].value != reachable)
				continue;
			printf("%s%s{uid=\"%u\"} ", metric[i].name,
			       strcmp(metric[i].type, "counter") ? "" : "_total",
			       (unsigned)v->keeper[k].uid);
			print_value(metric[i].value(&v->keeper[k]), metric[i].milli);
		}
	}
	puts("# EOF");
}

/* The worst file of all keepers. */
static const struct view_file *worst_of(const struct view *v, bool failing_only)
{
	const struct view_file *f, *worst = NULL;

	for (size_t k = 0; k < v->keepers; k++)
		for (size_t i = 0; i < v->keeper[k].files; i++) {
			f = &v->keeper[k].file[i];
			if ((f->error || !failing_only) &&
			    (!worst || f->age_ms > worst->age_ms))
				worst = f;
		}
	return worst;
}

int status_check(const struct view *v, uint64_t max_age_ms)
{
	const struct view_file *f;
	uint64_t dirty = 0, bytes = 0;
	char name[1024], age[32], user[64];
	size_t n = 0;

	f = worst_of(v, true);
	if (f) {
		format_name(f->name[0] ? f->name : "?", name, sizeof(name));
		format_age(f->age_ms, age, sizeof(age));
		printf("CRITICAL: %s cannot be written: %s; last synced %s ago\n", name,
		       strerror(-f->error), age);
		return CHECK_ERROR;
	}
	for (size_t k = 0; k < v->keepers; k++) {
		if (v->keeper[k].error) {
			printf("UNKNOWN: the keeper of %s cannot be asked: %s\n",
			       format_user(v->keeper[k].uid, user, sizeof(user)),
			       reason_text(v->keeper[k].why));
			return CHECK_UNKNOWN;
		}
		dirty += view_dirty(&v->keeper[k]);
		bytes += v->keeper[k].staged;
		n += v->keeper[k].files;
	}
	f = worst_of(v, false);
	format_age(f ? f->age_ms : 0, age, sizeof(age));
	if (f && f->age_ms > max_age_ms) {
		format_name(f->name[0] ? f->name : "?", name, sizeof(name));
		printf("WARNING: %s: last synced %s ago\n", name, age);
		return CHECK_LATE;
	}
	printf("OK: %zu file%s, %" PRIu64 " bytes staged, %" PRIu64
	       " dirty, last synced %s ago\n",
	       n, n == 1 ? "" : "s", bytes, dirty, age);
	return CHECK_OK;
}
