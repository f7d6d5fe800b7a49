/* SPDX-License-Identifier: MIT */
/* What stands at an address: in our records, and in the kernel's. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "lib/exchange.h"
#include "lib/log.h"
#include "lib/stage.h"

#define SCAN_BUFFER (64UL * 1024)

struct first_vma {
	struct vma *v;
	char *path;
	size_t size;
};

static int first_vma_each(const struct vma *v, const char *path, void *arg)
{
	struct first_vma *f = arg;

	*f->v = *v;
	if (f->path)
		snprintf(f->path, f->size, "%s", path);
	return 1;
}

int stage_vma_at(uintptr_t addr, struct vma *ret, char *path, size_t size,
		 struct scratch *scratch)
{
	struct first_vma first = { ret, path, size };
	char *buf = scratch_get(scratch, SCAN_BUFFER);

	if (!buf || vmas_between(addr, addr + 1, buf, SCAN_BUFFER, first_vma_each, &first) != 1)
		return -ENOMEM;
	return 0;
}

int stage_prot_at(uintptr_t addr)
{
	struct scratch scratch;
	struct vma v;
	int err;

	if (scratch_open(&scratch) < 0)
		return -ENOMEM;
	err = stage_vma_at(addr, &v, NULL, 0, &scratch);
	scratch_close(&scratch);
	return err ? err : exchange_prot(v.flags);
}

struct segment *stage_at(uintptr_t start, uintptr_t end)
{
	struct area *a;

	for (a = areas_first(&space.areas, start, end); a; a = areas_next(a, end))
		if (a->seg)
			return a->seg;
	return NULL;
}

static struct area *area_of(const struct segment *s)
{
	struct area *a = areas_first(&space.areas, 0, UINTPTR_MAX);

	while (a && a->seg != s)
		a = areas_next(a, UINTPTR_MAX);
	return a;
}

const char *stage_name_of(const struct segment *s, char *dst, size_t size)
{
	const struct area *a = s->areas ? area_of(s) : NULL;
	const uintptr_t saved = a ? a->saved : s->saved;
	char path[PATH_MAX] = "";
	struct scratch scratch;
	struct vma v;

	if (saved && scratch_open(&scratch) == 0) {
		(void)stage_vma_at(saved, &v, path, sizeof(path), &scratch);
		scratch_close(&scratch);
	}
	return log_escape(dst, size, path);
}
