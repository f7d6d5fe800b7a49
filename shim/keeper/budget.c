/* SPDX-License-Identifier: MIT */
/* How much memory staging may take: a quarter of what is available, in the machine and in every
 * control group that we are in (we were started in the program's). */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

/* What is left in one group: limit less use, or all if it has no limit. */
static uint64_t left_in_group(const char *dir, const char *limit, const char *use)
{
	uint64_t most, used = 0;

	if (!read_number(dir, limit, &most))
		return UINT64_MAX;
	(void)read_number(dir, use, &used);
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

static uint64_t left_in_all_groups(void)
{
	char line[PATH_MAX], *path;
	uint64_t left = UINT64_MAX;
	FILE *f = fopen("/proc/self/cgroup", "re");

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
	if (f)
		fclose(f);
	return (uint64_t)kib * 1024;
}

/* What is staged already was available, too. */
uint64_t budget_default(void)
{
	uint64_t free_now = MIN(available(), left_in_all_groups());

	return (free_now + keeper.staged) / 4;
}
