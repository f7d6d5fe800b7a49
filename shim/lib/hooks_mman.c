/* SPDX-License-Identifier: MIT */
/* The address space: what is mapped where is recorded; staged ranges stay true to their file.
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>

#include "lib/eager.h"
#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/join.h"
#include "lib/ownfd.h"
#include "lib/reconcile.h"
#include "lib/remap.h"
#include "lib/stage.h"
#include "lib/sync.h"
#include "lib/trace.h"

static bool touches(uintptr_t start, size_t len)
{
	return areas_first(&space.areas, start, start + len) != NULL;
}

/* Records what now stands at p, and shows staged segments of the file there. Lock held. A
 * mapping whose record or segments cannot be had is undone, which is what mmap() may do when
 * short of memory. */
static void *record(void *p, size_t len, struct file *f, int fd, uint64_t off,
		    const struct trace *trace)
{
	const uintptr_t start = (uintptr_t)p, end = start + page_up(len);
	struct segment *orphans = NULL;
	struct area *a;
	bool recorded;
	int err;

	err = space_set(start, end, f, off, &orphans);
	recorded = !err;
	/* First: what is still pinned goes back to its file and may have to show here again. */
	stage_release(orphans);
	if (!err && f) {
		f->fd = fd;
		a = areas_first(&space.areas, start, end);
		a->made = trace_keep(trace);
		space_made_from(a, fd, NULL); /* and not as one that it took the place of */
		ownfd_watch(fd);
		/* The mapping is there before the board is asked: whoever stages meanwhile sees
		 * it, or we see that. */
		err = join_range(f, fd, start, off, off + (end - start));
		if (!err)
			err = stage_show(f, start, end);
		join_leave(f, false);
	}
	if (!err || !f || (!recorded && !f->segments))
		return p;
	real.munmap(p, len);
	orphans = NULL;
	(void)space_set(start, end, NULL, 0, &orphans);
	stage_release(orphans);
	errno = ENOMEM;
	return MAP_FAILED;
}

static bool shared_file(int fd, int flags, struct stat *st)
{
	const int type = flags & MAP_TYPE;

	return (type == MAP_SHARED || type == MAP_SHARED_VALIDATE) &&
	       !(flags & MAP_ANONYMOUS) && fstat(fd, st) == 0 && S_ISREG(st->st_mode) &&
	       !ownfd_is(fd);
}

/* A private mapping shows the file itself, and so begins with what a read() would have got. */
static void before_private(size_t len, int flags, int fd, off_t off)
{
	if ((flags & MAP_TYPE) == MAP_PRIVATE && !(flags & MAP_ANONYMOUS) && off >= 0)
		file_before_read(fd, MIN(page_up(len), (size_t)SSIZE_MAX), off);
}

void *on_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	const int type = flags & MAP_TYPE;
	const bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	bool file =
		(type == MAP_SHARED || type == MAP_SHARED_VALIDATE) && !(flags & MAP_ANONYMOUS);
	struct trace trace;
	struct file *f = NULL;
	bool late = false;
	struct space_guard g;
	struct stat st;
	int saved;
	void *p;

	trace.n = 0;
	if (unlikely(file && enabled && prot & PROT_WRITE))
		trace_take(&trace); /* empty, unless a log is wanted */
	if (unlikely(anything_staged()))
		before_private(len, flags, fd, off);
	if (likely((!file && !(fixed && space_concerned((uintptr_t)addr, len))) || !enabled) ||
	    !space_lock(&g))
		return real.mmap(addr, len, prot, flags, fd, off);
	saved = errno;
	reconcile_inherited();
	file = file && shared_file(fd, flags, &st);
	errno = saved;
	if (pool_reserve(&space.areas.pool, 4)) {
		space_unlock(&g);
		errno = ENOMEM;
		return MAP_FAILED;
	}
	if (file)
		f = space_file((struct inode_key){ st.st_dev, st.st_ino }, true);
	if (f)
		stage_release_idle(f);
	if (fixed && space.staged && !(flags & MAP_FIXED_NOREPLACE))
		sync_before_unmap((uintptr_t)addr, (uintptr_t)addr + page_up(len));
	if (f && eager_wanted(fd) && !(prot & PROT_EXEC))
		late = eager_stage(f, fd, (uint64_t)off, len, &trace);
	errno = saved;
	p = real.mmap(addr, len, prot, flags, fd, off);
	saved = errno;
	if (p == MAP_FAILED && f)
		join_leave(f, false);
	if (p != MAP_FAILED && (f || (fixed && touches((uintptr_t)p, len)))) {
		errno = saved;
		p = record(p, len, f, fd, (uint64_t)off, &trace);
		saved = errno;
		if (late && p != MAP_FAILED)
			eager_late((uintptr_t)p, (uintptr_t)p + page_up(len), &trace);
	} else if (f) {
		space_file_put(f);
	}
	space_unlock(&g);
	errno = saved;
	return p;
}

/* The unmapped range's changes are in the file before this returns: nothing keeps a reader from
 * looking there now. */
int on_munmap(void *addr, size_t len)
{
	const uintptr_t start = (uintptr_t)addr;
	struct segment *orphans = NULL;
	struct space_guard g;
	int ret, saved;

	if (likely(!space_concerned(start, len) || !enabled) || !space_lock(&g))
		return real.munmap(addr, len);
	if (pool_reserve(&space.areas.pool, 4)) {
		space_unlock(&g);
		errno = ENOMEM;
		return -1;
	}
	saved = errno;
	if (space.staged)
		sync_before_unmap(start, start + page_up(len));
	errno = saved;
	ret = real.munmap(addr, len);
	saved = errno;
	if (ret == 0) {
		(void)space_set(start, start + page_up(len), NULL, 0, &orphans);
		stage_release(orphans);
	}
	space_unlock(&g);
	errno = saved;
	return ret;
}

/* The kernel's part. What it does while a curtain is drawn goes past what is behind it: then it
 * is asked again where none can be. What is given back to the file after that is on the device
 * by then (RETIRE), and what is staged after that is synced with the rest. */
static int msync_native(void *addr, size_t len, int flags)
{
	const unsigned before = atomic_load(&space.swaps);
	int ret = real.msync(addr, len, flags);
	struct space_guard g;

	if (likely(!(before & 1) && atomic_load(&space.swaps) == before) || ret < 0 ||
	    !(flags & MS_SYNC) || !space_lock(&g))
		return ret;
	ret = real.msync(addr, len, flags);
	space_unlock(&g);
	return ret;
}

/* The original comes first: it knows bad arguments, and serves what is not staged. MS_ASYNC and
 * MS_INVALIDATE alone promise nothing that staged memory does not keep anyway. */
int on_msync(void *addr, size_t len, int flags)
{
	int ret = msync_native(addr, len, flags), err;
	const int saved = errno;
	struct space_guard g;

	if (likely(!space.staged) || (ret < 0 && errno != ENOMEM) || !(flags & MS_SYNC) ||
	    !enabled)
		return ret;
	/* ENOMEM: part of the range is not mapped; the rest was synced. */
	if (ret < 0 && space_concerned((uintptr_t)addr, len) && space_lock(&g)) {
		reconcile();
		space_unlock(&g);
	}
	err = sync_addresses((uintptr_t)addr, page_up(len), true);
	errno = saved;
	if (err && ret == 0) {
		errno = sync_errno(err);
		return -1;
	}
	return ret;
}

/* Recorded ranges that move take their records along; where something is staged, remap.h does
 * what the kernel would do with the one mapping that the program thinks it has. */
void *on_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *to)
{
	const uintptr_t start = (uintptr_t)addr;
	struct space_guard g;
	int saved;
	void *p;

	if (likely(!enabled ||
		   (!space_concerned(start, MAX(old_len, 1UL)) &&
		    !(flags & MREMAP_FIXED && space_concerned((uintptr_t)to, new_len)))) ||
	    !space_lock(&g))
		return real.mremap(addr, old_len, new_len, flags, to);
	if (space.staged)
		reconcile();
	if (pool_reserve(&space.areas.pool, 8)) {
		p = MAP_FAILED;
		errno = ENOMEM;
	} else if (stage_at(start, start + MAX(page_up(old_len), page_size()))) {
		p = remap_staged(addr, old_len, new_len, flags, to);
	} else {
		p = remap_native(addr, old_len, new_len, flags, to);
	}
	saved = errno;
	space_unlock(&g);
	errno = saved;
	return p;
}

int on_remap_file_pages(void *addr, size_t len, int prot, size_t page, int flags)
{
	struct space_guard g;
	int ret, saved;

	if (likely(!space_concerned((uintptr_t)addr, len) || !enabled) || !space_lock(&g))
		return real.remap_file_pages(addr, len, prot, page, flags);
	if (pool_reserve(&space.areas.pool, 8)) {
		errno = ENOMEM;
		ret = -1;
	} else {
		reconcile();
		ret = remap_pages(addr, len, prot, page, flags);
	}
	saved = errno;
	space_unlock(&g);
	errno = saved;
	return ret;
}

/* Only with SHM_REMAP does it replace what is there. */
void *on_shmat(int id, const void *addr, int flags)
{
	uintptr_t start = (uintptr_t)addr, end;
	struct segment *orphans = NULL;
	struct space_guard g;
	struct shmid_ds ds;
	int saved = errno;
	void *p;

	if (likely(!(flags & SHM_REMAP) || !addr || !enabled) ||
	    shmctl(id, IPC_STAT, &ds) < 0) {
		errno = saved;
		return real.shmat(id, addr, flags);
	}
	start -= flags & SHM_RND ? start % (uintptr_t)SHMLBA : 0;
	end = start + page_up(ds.shm_segsz);
	if (!space_concerned(start, end - start) || !space_lock(&g))
		return real.shmat(id, addr, flags);
	if (pool_reserve(&space.areas.pool, 4)) {
		space_unlock(&g);
		errno = ENOMEM;
		return MAP_FAILED;
	}
	sync_before_unmap(start, end);
	errno = saved;
	p = real.shmat(id, addr, flags);
	saved = errno;
	if (p != MAP_FAILED) {
		(void)space_set(start, end, NULL, 0, &orphans);
		stage_release(orphans);
	}
	space_unlock(&g);
	errno = saved;
	return p;
}
