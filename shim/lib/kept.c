/* SPDX-License-Identifier: MIT */
#include "lib/kept.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "lib/real.h"
#include "lib/scratch.h"
#include "lib/space.h"

#define SCAN_BUFFER (64UL * 1024)

struct look {
	struct vma_id id;
	uintptr_t start, end;
	uint64_t off;
	size_t found;
};

static int look_each(const struct vma *v, const char *path, void *arg)
{
	struct look *l = arg;
	const uintptr_t lo = MAX(v->start, l->start), hi = MIN(v->end, l->end);

	(void)path;
	if (lo < hi && vma_is_of(v, l->id) && !(v->flags & (VMA_READ | VMA_WRITE)) &&
	    v->off + (lo - v->start) == l->off + (lo - l->start))
		l->found += hi - lo;
	return 0;
}

static bool stands(struct vma_id id, uint64_t off, uintptr_t at, size_t len)
{
	struct look l = { id, at, at + len, off, 0 };
	struct scratch scratch;
	char *buf;

	if (scratch_open(&scratch) < 0)
		return false;
	buf = scratch_get(&scratch, SCAN_BUFFER);
	(void)vmas_between(at, at + len, buf, SCAN_BUFFER, look_each, &l);
	scratch_close(&scratch);
	return l.found == len;
}

bool kept_stands(const struct segment *s, uint64_t off, uintptr_t at, size_t len)
{
	return stands(s->file_id, off, at, len);
}

void kept_drop(const struct segment *s, uint64_t off, uintptr_t at, size_t len)
{
	if (kept_stands(s, off, at, len))
		real.munmap((void *)at, len);
}

void kept_unhold(struct segment *s)
{
	const size_t len = page_size();
	struct stat st;

	if (!s->hold)
		return;
	/* A memfd's numbers are the same in maps. */
	if (fstat(s->memfd, &st) == 0 &&
	    stands((struct vma_id){ (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev),
				    st.st_ino },
		   0, (uintptr_t)s->hold, len))
		real.munmap(s->hold, len);
	s->hold = NULL;
}
