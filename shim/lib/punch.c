/* SPDX-License-Identifier: MIT */
#include "lib/punch.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/exchange.h"
#include "lib/real.h"
#include "lib/reconcile.h"
#include "lib/space.h"
#include "lib/stage.h"
#include "lib/sync.h"

static struct area *staged_from(uintptr_t at, uintptr_t end)
{
	struct area *a;

	for (a = areas_first(&space.areas, at, end); a && !a->seg; a = areas_next(a, end))
		;
	return a;
}

static void give_back(uintptr_t start, uintptr_t end)
{
	enum reason why;
	struct area *a;

	while ((a = staged_from(start, end)))
		if (stage_retire(a->seg, &why) < 0)
			start = a->end;
}

/* The mapping that is kept aside is the program's own: the kernel knows from it what may be
 * done. Older kernels want it writable at the moment. */
static int punch_file(void *kept, size_t len)
{
	int err = 0;

	if (real.mprotect(kept, len, PROT_READ | PROT_WRITE) < 0)
		return -errno;
	if (real.madvise(kept, len, MADV_REMOVE) < 0)
		err = -errno;
	(void)real.mprotect(kept, len, PROT_NONE);
	return err;
}

/*
 * The keeper writes the zeroes; the second punch takes the blocks away again. What a device
 * wrote in between is not in the file, and the keeper must not take it for known: also where
 * memory reads zero by now, for it may become what the keeper has seen once more.
 */
static int punch_staged(const struct area *a, uintptr_t lo, uintptr_t hi)
{
	const struct inode_key key = a->file->key;
	const uint64_t off = a->off + (lo - a->start);
	void *kept = (void *)(a->saved + (lo - a->start));
	const size_t len = hi - lo;
	char *memory;
	int err;

	if (real.msync((void *)lo, len, MS_INVALIDATE) < 0 && errno == EBUSY)
		return -EINVAL; /* locked */
	memory = exchange_map_memory(a->seg, off, len);
	if (!memory)
		return -EAGAIN;
	err = punch_file(kept, len);
	if (!err) {
		memset(memory, 0, len);
		err = sync_file(key, off, off + len, false);
		if (!err)
			err = punch_file(kept, len);
		sync_wrote(key, off, len);
	}
	real.munmap(memory, len);
	return err;
}

/* As the kernel goes along: a hole in the range is told at the end, any other error at once. */
int punch_range(uintptr_t start, uintptr_t end)
{
	bool unmapped = false;
	uintptr_t at, stop;
	struct area *a;
	int err;

	reconcile();
	give_back(start, end);
	for (at = start; at < end; at = stop) {
		a = staged_from(at, end);
		if (a && a->start <= at) {
			stop = MIN(a->end, end);
			err = punch_staged(a, at, stop);
		} else {
			stop = a ? a->start : end;
			err = real.madvise((void *)at, stop - at, MADV_REMOVE) < 0 ? -errno : 0;
		}
		unmapped |= err == -ENOMEM;
		if (err && err != -ENOMEM) {
			errno = -err;
			return -1;
		}
	}
	if (unmapped)
		errno = ENOMEM;
	return unmapped ? -1 : 0;
}
