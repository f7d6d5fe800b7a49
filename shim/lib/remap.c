/* SPDX-License-Identifier: MIT */
#include "lib/remap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "lib/exchange.h"
#include "lib/filemap.h"
#include "lib/join.h"
#include "lib/log.h"
#include "lib/real.h"
#include "lib/reconcile.h"
#include "lib/space.h"
#include "lib/stage.h"
#include "lib/sync.h"

#define NO_ADDRESS (1UL << 56) /* more than any user address */

static void *failed(int err)
{
	errno = err;
	return MAP_FAILED;
}

static void forget_range(uintptr_t start, uintptr_t end)
{
	struct segment *orphans = NULL;

	(void)space_set(start, end, NULL, 0, &orphans);
	stage_release(orphans);
}

/* One mapping of one file, as far as the program knows. */
static bool is_one(uintptr_t start, uintptr_t end)
{
	struct area *a = areas_first(&space.areas, start, start + 1), *b;

	for (b = a; a && b->end < end; a = b) {
		b = areas_next(b, end);
		if (!b || b->start != a->end || b->file != a->file ||
		    b->off != a->off + (a->end - a->start))
			return false;
	}
	return a;
}

static bool shrinks(size_t old_len, size_t new_len, int flags)
{
	return new_len <= old_len && !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && old_len;
}

static bool moves_as_it_is(size_t old_len, size_t new_len, int flags)
{
	return new_len == old_len && flags & MREMAP_FIXED && !(flags & MREMAP_DONTUNMAP);
}

/* The kernel unmaps the end, of however many mappings that is. */
static void *shrink(void *addr, size_t old_len, size_t new_len, int flags)
{
	const uintptr_t start = (uintptr_t)addr;
	void *p;
	int saved;

	sync_before_unmap(start + new_len, start + old_len);
	p = real.mremap(addr, old_len, new_len, flags, NULL);
	saved = errno;
	if (p != MAP_FAILED)
		forget_range(start + new_len, start + old_len);
	errno = saved;
	return p;
}

static void say_partly_shown(void)
{
	log_event(
		EV_ERROR,
		"call=mremap reason=\"out of mappings or descriptors: part of the range shows the file, "
		"not what is staged\" remedy=\"raise vm.max_map_count\"");
}

/* What others have staged since. */
static void show_pieces(uintptr_t at, uintptr_t end)
{
	struct area *a;
	uintptr_t stop;
	bool all = true;

	for (; (a = areas_first(&space.areas, at, end)); at = stop) {
		at = a->start;
		stop = a->end;
		if (!a->seg)
			all &= join_range(a->file, -1, at, a->off, a->off + (stop - at)) == 0 &&
			       stage_show(a->file, at, stop) == 0;
	}
	if (!all)
		say_partly_shown();
}

/* Several mappings to the kernel, with us or without. Linux 6.17 and later move such a range if
 * its size stays; they do so with our parts of it, too. */
static void *move_pieces(uintptr_t start, size_t len, int flags, uintptr_t to)
{
	struct segment *orphans = NULL;
	int saved;
	void *p;

	if (flags & MREMAP_FIXED)
		sync_before_unmap(to, to + len);
	p = real.mremap((void *)start, len, len, flags, (void *)to);
	saved = errno;
	if (p == MAP_FAILED)
		reconcile(); /* older ones have unmapped the target by now */
	else
		(void)space_move(start, start + len, (uintptr_t)p, &orphans);
	stage_release(orphans);
	if (p != MAP_FAILED)
		show_pieces((uintptr_t)p, (uintptr_t)p + len);
	errno = saved;
	return p;
}

void *remap_native(void *addr, size_t old_len, size_t new_len, int flags, void *to)
{
	const uintptr_t start = (uintptr_t)addr;
	struct area *a = areas_first(&space.areas, start, start + 1);
	struct file *f = a ? a->file : NULL;
	const uint64_t off = a ? a->off + (start - a->start) : 0;
	struct lot *lot = a ? a->lot : NULL;
	const int fd = a ? a->fd : -1;
	struct segment *orphans = NULL;
	uintptr_t at;
	int saved;
	void *p;

	if (shrinks(page_up(old_len), page_up(new_len), flags))
		return shrink(addr, page_up(old_len), page_up(new_len), flags);
	if (moves_as_it_is(page_up(old_len), page_up(new_len), flags) &&
	    !is_one(start, start + page_up(old_len)))
		return move_pieces(start, page_up(old_len), flags, (uintptr_t)to);
	if (flags & MREMAP_FIXED && space.staged)
		sync_before_unmap((uintptr_t)to, (uintptr_t)to + page_up(new_len));
	p = real.mremap(addr, old_len, new_len, flags, to);
	if (p == MAP_FAILED)
		return p;
	saved = errno;
	at = (uintptr_t)p;
	if (f) {
		f->areas++; /* its records may go before the new one comes */
		space_lot_hold(lot);
	}
	if (old_len && !(flags & MREMAP_DONTUNMAP))
		forget_range(start, start + page_up(old_len));
	if ((f || areas_first(&space.areas, at, at + new_len)) &&
	    space_set(at, at + page_up(new_len), f, off, &orphans) == 0 && f)
		space_made_from(areas_first(&space.areas, at, at + 1), fd, lot);
	stage_release(orphans);
	if (f && (join_range(f, -1, at, off, off + page_up(new_len)) < 0 ||
		  stage_show(f, at, at + page_up(new_len)) < 0))
		say_partly_shown();
	if (f) {
		space_lot_put(f, lot);
		f->areas--;
		space_file_put(f);
	}
	errno = saved;
	return p;
}

/* Address space of len bytes at `to`, or anywhere (NULL). */
static void *reserve(void *to, size_t len, int flags)
{
	return real.mmap(to, len, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/* Records [at, at+len) as what `from` is, from off, and shows what is staged of it. */
static int adopt(const struct area *from, uintptr_t at, size_t len, uint64_t off,
		 const struct vma *like)
{
	struct file *f = from->file;
	struct segment *orphans = NULL;
	int err;

	err = space_set(at, at + len, f, off, &orphans);
	if (!err)
		space_made_from(areas_first(&space.areas, at, at + 1), from->fd, from->lot);
	stage_release(orphans);
	if (!err)
		err = join_range(f, -1, at, off, off + len);
	if (!err)
		err = stage_show(f, at, at + len);
	if (!err && like)
		exchange_lock((void *)at, len, like->flags);
	return err;
}

static void *grow_in_place(struct area *a, uintptr_t start, size_t old_len, size_t new_len,
			   const struct vma *like)
{
	const uintptr_t tail = start + old_len;
	const size_t len = new_len - old_len;

	if (reserve((void *)tail, len, MAP_FIXED_NOREPLACE) != (void *)tail)
		return MAP_FAILED;
	if (filemap_at(a, start, tail, old_len, len, like) &&
	    adopt(a, tail, len, a->off + (start - a->start) + old_len, like) == 0)
		return (void *)start;
	forget_range(tail, tail + len);
	real.munmap((void *)tail, len);
	return MAP_FAILED;
}

static void drop_old(uintptr_t start, size_t len)
{
	sync_before_unmap(start, start + len);
	if (real.munmap((void *)start, len) == 0)
		forget_range(start, start + len);
}

/* A whole new range, and then the end of the old one unless it stays. */
static void *move(struct area *a, uintptr_t start, size_t old_len, size_t new_len, int flags,
		  void *to, const struct vma *like)
{
	const uint64_t off = a->off + (start - a->start);
	void *at;

	if (flags & MREMAP_FIXED) {
		sync_before_unmap((uintptr_t)to, (uintptr_t)to + new_len);
		at = reserve(to, new_len, MAP_FIXED);
		if (at != MAP_FAILED)
			forget_range((uintptr_t)to, (uintptr_t)to + new_len);
		/* Another record, if what has gone was the beginning of this one; or none: once
		 * more (an old size of zero) over itself. */
		a = areas_first(&space.areas, start, start + 1);
	} else {
		at = reserve(NULL, new_len, 0);
	}
	if (at == MAP_FAILED)
		return at;
	if (!a) {
		real.munmap(at, new_len);
		return failed(EFAULT);
	}
	if (!filemap_at(a, start, (uintptr_t)at, 0, new_len, like) ||
	    adopt(a, (uintptr_t)at, new_len, off, like) < 0) {
		forget_range((uintptr_t)at, (uintptr_t)at + new_len);
		real.munmap(at, new_len);
		return failed(ENOMEM);
	}
	if (old_len && !(flags & MREMAP_DONTUNMAP))
		drop_old(start, old_len);
	return at;
}

/* What the kernel checks before it touches anything. */
static int check(uintptr_t start, size_t old_len, size_t new_len, int flags, uintptr_t to)
{
	const uintptr_t end = start + old_len;

	if (start % page_size() || new_len == 0 ||
	    (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) ||
	    ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE)) ||
	    ((flags & MREMAP_DONTUNMAP) && old_len != new_len))
		return EINVAL;
	if (flags & MREMAP_FIXED && (to % page_size() || (to < end && start < to + new_len) ||
				     to + new_len < to || to + new_len > NO_ADDRESS))
		return EINVAL;
	return is_one(start, end) ? 0 : EFAULT;
}

void *remap_staged(void *addr, size_t old_len, size_t new_len, int flags, void *to)
{
	const uintptr_t start = (uintptr_t)addr;
	struct area *a;
	struct vma like;
	void *p;
	int err;

	if (new_len >= NO_ADDRESS ||
	    old_len >= NO_ADDRESS) /* what is wrong is the kernel's to say */
		return real.mremap(addr, old_len, new_len, flags, to);
	old_len = page_up(old_len);
	new_len = page_up(new_len);
	if (shrinks(old_len, new_len, flags)) /* that looks at nothing but the beginning */
		return shrink(addr, old_len, new_len, flags);
	err = check(start, old_len, new_len, flags, (uintptr_t)to);
	if (err == EFAULT && moves_as_it_is(old_len, new_len, flags))
		return move_pieces(start, old_len, flags, (uintptr_t)to);
	if (err == EFAULT && new_len < old_len && flags & MREMAP_FIXED &&
	    is_one(start, start + new_len)) { /* the end goes first, whatever it is */
		drop_old(start + new_len, old_len - new_len);
		old_len = new_len;
		err = 0;
	}
	if (err)
		return failed(err);
	if (!old_len && !(flags & MREMAP_MAYMOVE))
		return failed(ENOMEM);
	a = areas_first(&space.areas, start, start + 1);
	err = filemap_like(start, start + MAX(old_len, page_size()), &like);
	if (err == -EFAULT && moves_as_it_is(old_len, new_len, flags))
		return move_pieces(start, old_len, flags, (uintptr_t)to);
	if (err)
		return failed(-err);
	if (!(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && old_len) {
		p = grow_in_place(a, start, old_len, new_len, &like);
		if (p != MAP_FAILED || !(flags & MREMAP_MAYMOVE))
			return p != MAP_FAILED ? p : failed(ENOMEM);
		a = areas_first(&space.areas, start, start + 1);
	}
	return move(a, start, old_len, new_len, flags, to, &like);
}
