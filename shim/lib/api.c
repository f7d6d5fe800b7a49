/* SPDX-License-Identifier: MIT */
/* What include/pinstage.h finds. Contracts there. */
#include <errno.h>
#include <pinstage.h>

#include "lib/reconcile.h"
#include "lib/space.h"
#include "lib/stage.h"
#include "lib/sync.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int pinstage_abi_query(const void *addr, size_t len);
EXPORT int pinstage_abi_sync(const void *addr, size_t len, int durable);
EXPORT int pinstage_abi_release(const void *addr, size_t len);
EXPORT int pinstage_abi_release(const void *addr, size_t len);
EXPORT const char *pinstage_abi_version(void);

static bool bad_range(const void *addr, size_t len)
{
	return len == 0 || (uintptr_t)addr + len < (uintptr_t)addr;
}

int pinstage_abi_query(const void *addr, size_t len)
{
	const uintptr_t start = (uintptr_t)addr, end = start + len;
	uintptr_t staged = 0;
	struct space_guard g;
	struct area *a;

	if (bad_range(addr, len))
		return -EINVAL;
	if (!space_lock(&g))
		return -EAGAIN;
	for (a = areas_first(&space.areas, start, end); a; a = areas_next(a, end))
		if (a->seg)
			staged += MIN(end, a->end) - MAX(start, a->start);
	space_unlock(&g);
	if (staged == 0)
		return PINSTAGE_NATIVE;
	return staged == len ? PINSTAGE_STAGED : PINSTAGE_PARTLY;
}

int pinstage_abi_sync(const void *addr, size_t len, int durable)
{
	return bad_range(addr, len) ? -EINVAL
				    : sync_addresses((uintptr_t)addr, len, durable != 0);
}

int pinstage_abi_release(const void *addr, size_t len)
{
	const uintptr_t start = (uintptr_t)addr;
	struct space_guard g;
	struct segment *s;
	enum reason why;
	int err = 0;

	if (bad_range(addr, len))
		return -EINVAL;
	if (!space_lock(&g))
		return -EAGAIN;
	reconcile();
	while (!err && (s = stage_at(start, start + len)))
		err = stage_retire(s, &why);
	space_unlock(&g);
	return err;
}

const char *pinstage_abi_version(void)
{
	return PINSTAGE_VERSION;
}
