/* SPDX-License-Identifier: MIT */
#include "lib/filemap.h"

#include <errno.h>
#include <sys/mman.h>

#include "lib/exchange.h"
#include "lib/kept.h"
#include "lib/real.h"
#include "lib/scratch.h"
#include "lib/vmflags.h"

#define SCAN_BUFFER (64UL * 1024)

struct likeness {
	struct vmflags flags;
	char *buf;
	struct vma v;
	bool any, mixed;
};

static int likeness_each(const struct vma *v, const char *path, void *arg)
{
	const unsigned kind =
		VMA_READ | VMA_WRITE | VMA_EXEC | VMA_LOCKED | VMA_ONFAULT | VMA_DONTFORK;
	struct likeness *l = arg;
	struct vma whole = *v;
	int err = vmflags_find(&l->flags, &whole, l->buf, SCAN_BUFFER);

	(void)path;
	l->mixed |= l->any &&
		    ((whole.flags & kind) != (l->v.flags & kind) || whole.pkey != l->v.pkey);
	if (!l->any)
		l->v = whole;
	l->any = true;
	return err;
}

int filemap_like(uintptr_t start, uintptr_t end, struct vma *ret)
{
	struct likeness l = { 0 };
	struct scratch scratch;
	char *buf, *text;
	int err = -ENOMEM;

	if (scratch_open(&scratch) < 0)
		return -ENOMEM;
	buf = scratch_get(&scratch, SCAN_BUFFER);
	l.buf = scratch_get(&scratch, SCAN_BUFFER);
	text = scratch_get(&scratch, VMFLAGS_TEXT);
	l.flags = vmflags_begin(text);
	if (buf && l.buf && text)
		err = vmas_between(start, end, buf, SCAN_BUFFER, likeness_each, &l);
	vmflags_end(&l.flags);
	scratch_close(&scratch);
	*ret = l.v;
	return err < 0 ? -ENOMEM : l.mixed || !l.any ? -EFAULT : 0;
}

static int protect(void *addr, size_t len, const struct vma *like)
{
	const int prot = exchange_prot(like->flags);

	return like->pkey ? real.pkey_mprotect(addr, len, prot, (int)like->pkey)
			  : real.mprotect(addr, len, prot);
}

bool filemap_at(const struct area *a, uintptr_t addr, uintptr_t at, size_t skip, size_t len,
		const struct vma *like)
{
	const uintptr_t from = (a->seg ? a->saved : a->start) + (addr - a->start);
	char *copy;

	if (a->seg && !kept_stands(a->seg, a->off, a->saved, a->end - a->start))
		return false;
	copy = real.mremap((void *)from, 0, skip + len, MREMAP_MAYMOVE, NULL);
	if (copy == MAP_FAILED)
		return false;
	if (skip)
		real.munmap(copy, skip);
	(void)real.munlock(copy + skip, len);
	if (protect(copy + skip, len, like) == 0 &&
	    real.mremap(copy + skip, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)at) !=
		    MAP_FAILED)
		return true;
	real.munmap(copy + skip, len);
	return false;
}
