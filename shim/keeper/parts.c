/* SPDX-License-Identifier: MIT */
#include "keeper/parts.h"

#include <sched.h>

#include "common/util.h"
#include "keeper/thread.h"

unsigned parts_worth(uint64_t bytes, uint64_t least)
{
	const uint64_t worth = MIN(bytes / least, (uint64_t)PARTS_MOST);
	cpu_set_t cpus;

	if (worth < 2 || sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	return (unsigned)MIN(worth, (uint64_t)CPU_COUNT(&cpus));
}

static void *work_on(void *arg)
{
	struct part *part = arg;

	part->err = part->work(part);
	return NULL;
}

int in_parts(void *of, int (*work)(struct part *), uint64_t first, uint64_t pages, unsigned n,
	     uint64_t *ret_sum)
{
	struct part part[PARTS_MOST] = { 0 };
	uint64_t sum = 0;
	int err = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		part[i].work = work;
		part[i].of = of;
		part[i].first = first + pages * i / n;
		part[i].last = first + pages * (i + 1) / n;
		part[i].started =
			i > 0 && thread_start(&part[i].thread, work_on, &part[i]) == 0;
	}
	for (i = 0; i < n; i++)
		if (!part[i].started)
			work_on(&part[i]);
	for (i = 0; i < n; i++) {
		if (part[i].started)
			pthread_join(part[i].thread, NULL);
		err = err ? err : part[i].err;
		sum += part[i].sum;
	}
	if (ret_sum)
		*ret_sum = sum;
	return err;
}
