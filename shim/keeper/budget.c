/* SPDX-License-Identifier: MIT */
/* How much memory staging may take: a quarter of what is available, in the machine and in every
 * control group that the program is in, which is what its staged memory is charged to. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keeper/keeper.h"

static bool read_number(const char *dir, const char *name, uint64_t *ret)
{
	char path[PATH_MAX + 64];
	bool ok;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fscanf(f, "%lu", ret) == 1; /* "max" is no number */
	fclose(f);
	return ok;
}

/* Page cache, of the group and those below it, which the kernel takes back when it needs to. */
static uint64_t cached_in_group(const char *dir)
{
	uint64_t here = 0, total = 0, n;
	char path[PATH_MAX + 64], line[128];
	bool has_total = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "inactive_file %lu", &n) == 1 ||
		    sscanf(line, "active_file %lu", &n) == 1)
			here += n;
		/* Version 1 has both; in version 2 what stands first is the total. */
		if (sscanf(line, "total_inactive_file %lu", &n) == 1 ||
		    sscanf(line, "total_active_file %lu", &n) == 1) {
			total += n;
			has_total = true;
		}
	}
	if (f)
		fclose(f);
	return has_total ? total : here;
}

/* No limit is as good as this one, of which a quarter is more than the machine has: version 1
 * has a number for none, and what a group uses is long to ask. */
static bool is_no_limit(uint64_t most)
{
	const uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * page_size();

	return most / 16 > ram;
}

/* What is left in one group: limit less use, or all if it has no limit. */
static uint64_t left_in_group(const char *dir, const char *limit, const char *use)
{
	uint64_t most, used = 0, cached;

	if (!read_number(dir, limit, &most) || is_no_limit(most))
		return UINT64_MAX;
	(void)read_number(dir, use, &used);
	cached = cached_in_group(dir);
	used -= MIN(used, cached);
	return most > used ? most - used : 0;
}

static uint64_t left_in_groups(const char *mount, char *path, const char *limit,
			       const char *use)
{
	uint64_t left = UINT64_MAX;
	char dir[PATH_MAX];
	char *slash;

	for (;;) {
		snprintf(dir, sizeof(dir), "%s%s", mount, path);
		left = MIN(left, left_in_group(dir, limit, use));
		slash = strrchr(path, '/');
		if (!slash)
			return left;
		*slash = '\0';
	}
}

static uint64_t left_in_all_groups(pid_t pid)
{
	char line[PATH_MAX], *path;
	uint64_t left = UINT64_MAX;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/cgroup", (int)pid);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		path = strchr(line, '/');
		if (!path)
			continue;
		if (!strncmp(line, "0::", 3))
			left = MIN(left, left_in_groups("/sys/fs/cgroup", path, "memory.max",
							"memory.current"));
		else if (strstr(line, ":memory:"))
			left = MIN(left, left_in_groups("/sys/fs/cgroup/memory", path,
							"memory.limit_in_bytes",
							"memory.usage_in_bytes"));
	}
	if (f)
		fclose(f);
	return left;
}

static uint64_t available(void)
{
	unsigned long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1)
			break;
	if (!f && is_no_files(-errno)) /* nor are there any for memory, which is told */
		return UINT64_MAX;
	if (f)
		fclose(f);
	return (uint64_t)kib * 1024;
}

static uint64_t staged_by(const struct client *c)
{
	const struct segment *g;
	const struct stage *s;
	const struct use *u;
	uint64_t sum = 0;

	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link)
			LIST_FOREACH(u, &g->users, link)
				if (u->client == c)
					sum += g->len;
	return sum;
}

/* A quarter of what was left before anything was staged; how much of that is staged already is
 * in `staged`. */
static uint64_t left_of_quarter(uint64_t left, uint64_t staged)
{
	const uint64_t most = left > UINT64_MAX - staged ? left / 4 : (left + staged) / 4;

	return most > staged ? most - staged : 0;
}

/* What others have staged is not charged to the client's groups, or is no longer left there. */
uint64_t budget_left(const struct client *c)
{
	const uint64_t machine = left_of_quarter(available(), keeper.staged);
	uint64_t groups;

	if (!c)
		return machine;
	if (c->budget)
		return c->budget > keeper.staged ? c->budget - keeper.staged : 0;
	groups = left_of_quarter(left_in_all_groups(c->seen), staged_by(c));
	return MIN(machine, groups);
}
