/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "lib/filemap.h"
#include "lib/log.h"
#include "lib/real.h"
#include "lib/remap.h"
#include "lib/space.h"
#include "lib/stage.h"
#include "lib/sync.h"

/* One mapping of one file, as far as the program knows, and as far as its offsets do not
 * matter.
 */
static bool of_one_file(uintptr_t start, uintptr_t end)
{
	struct area *a = areas_first(&space.areas, start, start + 1), *b = a;

	while (b && b->end < end) {
		const uintptr_t at = b->end;

		b = areas_next(b, end);
		if (!b || b->start != at || b->file != a->file)
			return false;
	}
	return b != NULL;
}

/* The staged parts show their file again. */
static int uncover(uintptr_t start, uintptr_t end, const struct vma *like)
{
	struct segment *orphans;
	struct area *a;
	int err = 0;

	sync_before_unmap(start, end);
	while (!err && start < end && (a = areas_first(&space.areas, start, end))) {
		const uintptr_t lo = MAX(start, a->start), hi = MIN(end, a->end);
		const uint64_t off = a->off + (lo - a->start);
		struct file *f = a->file;

		start = hi;
		if (!a->seg)
			continue;
		orphans = NULL;
		if (!filemap_at(a, lo, lo, 0, hi - lo, like))
			return -ENOMEM;
		err = space_set(lo, hi, f, off, &orphans);
		stage_release(orphans);
	}
	return err;
}

static void cover_again(struct file *f, uintptr_t start, uintptr_t end)
{
	struct area *a;
	uintptr_t lo;

	while (start < end && (a = areas_first(&space.areas, start, end))) {
		lo = MAX(start, a->start);
		start = MIN(end, a->end);
		if (a->file == f && !a->seg && stage_show(f, lo, start) < 0)
			log_event(EV_ERROR,
				  "call=remap_file_pages reason=\"out of mappings: part of the "
				  "range shows the file, not what is staged\" "
				  "remedy=\"raise vm.max_map_count\"");
	}
}

int remap_pages(void *addr, size_t len, int prot, size_t page, int flags)
{
	const uintptr_t start = page_down((uintptr_t)addr), end = start + page_down(len);
	struct segment *orphans = NULL;
	struct vma like;
	struct file *f;
	int ret, saved;

	if (prot || end <= start) /* the kernel knows these errors */
		return real.remap_file_pages(addr, len, prot, page, flags);
	if (!of_one_file(start, end) || filemap_like(start, end, &like) < 0) {
		errno = EINVAL;
		return -1;
	}
	f = areas_first(&space.areas, start, start + 1)->file;
	f->areas++; /* stays while its areas come and go */
	if (uncover(start, end, &like) == 0) {
		ret = real.remap_file_pages(addr, len, prot, page, flags);
	} else {
		ret = -1;
		errno = ENOMEM;
	}
	saved = errno;
	if (ret == 0) {
		(void)space_set(start, end, f, page * page_size(), &orphans);
		stage_release(orphans);
	}
	cover_again(f, start, end);
	f->areas--;
	space_file_put(f);
	errno = saved;
	return ret;
}
