/* SPDX-License-Identifier: MIT */
#include "lib/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "common/probe.h"
#include "lib/inflight.h"
#include "lib/kept.h"
#include "lib/policy.h"
#include "lib/real.h"

#define SCAN_BUFFER (64UL * 1024)

int exchange_fail(enum reason *ret_why, enum reason why, int err)
{
	*ret_why = why;
	return err;
}

struct stretch {
	uintptr_t start, end;
	bool saved;
};

static void cut(struct stretch *t, uintptr_t saved, size_t len)
{
	if (!saved || saved + len <= t->start || saved >= t->end)
		return;
	t->saved = saved <= t->start;
	t->end = t->saved ? MIN(t->end, saved + len) : saved;
}

/* The first part of [start, end) that is wholly kept aside by us, or wholly not. */
static struct stretch first_stretch(const struct file *f, uintptr_t start, uintptr_t end)
{
	struct stretch t = { start, end, false };
	const struct segment *s;
	struct area *a;

	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX))
		if (a->file == f && !t.saved)
			cut(&t, a->saved, a->end - a->start);
	for (s = f->segments; s; s = s->next)
		if (!t.saved)
			cut(&t, s->saved, s->saved_len);
	return t;
}

static int add_place(struct exchange *x, const struct vma *v, uintptr_t start, uintptr_t end,
		     uint64_t off)
{
	struct place *p;

	x->why = policy_mapping(v);
	if (x->why != REASON_NONE)
		return -EBUSY;
	if (x->n == x->max) {
		x->why = REASON_NO_MEMORY;
		return -ENOMEM;
	}
	p = &x->place[x->n++];
	*p = (struct place){ 0 };
	p->span.addr = (void *)start;
	p->span.len = end - start;
	p->off = off;
	p->flags = v->flags;
	p->pkey = v->pkey;
	return 0;
}

static int add_alias(struct exchange *x, const struct vma *v)
{
	const uint64_t vend = v->off + (v->end - v->start);
	const uint64_t edge[] = { x->win_off, x->off, x->end, x->win_end };
	int err = 0;

	for (int i = 0; i < 3 && !err; i++) {
		uint64_t lo = MAX(v->off, edge[i]), hi = MIN(vend, edge[i + 1]);

		if (lo >= hi)
			continue;
		err = add_place(x, v, v->start + (lo - v->off), v->start + (hi - v->off), lo);
		if (!err)
			x->place[x->n - 1].neighbour = i != 1;
	}
	return err;
}

/* The kernel makes one mapping of what the program and we have side by side without access. */
static int add_what_is_not_saved(struct exchange *x, const struct vma *v)
{
	struct vma part = *v;
	struct stretch t;
	int err = 0;

	for (uintptr_t at = v->start; at < v->end && !err; at = t.end) {
		t = first_stretch(x->f, at, v->end);
		part.start = at;
		part.end = t.end;
		part.off = v->off + (at - v->start);
		if (!t.saved)
			err = add_alias(x, &part);
	}
	return err;
}

/* Every shared mapping of the file that overlaps the window, whoever made it and however. */
static bool is_alias(const struct exchange *x, const struct vma *v)
{
	return vma_is_of(v, (struct vma_id){ x->dev, x->ino }) &&
	       (!x->hi || (v->end > x->lo && v->start < x->hi)) && v->off < x->win_end &&
	       v->off + (v->end - v->start) > x->win_off;
}

static int add_aliases(struct exchange *x, const struct vma *v)
{
	return v->flags & (VMA_READ | VMA_WRITE) ? add_alias(x, v)
						 : add_what_is_not_saved(x, v);
}

/* Every mapping at the addresses where the segment stands, in pieces of equal properties. By
 * some call that no hook saw something else may stand there. */
static bool is_segment(const struct exchange *x, const struct vma *v)
{
	return vma_is_of(v, x->s->mem_id);
}

static int add_staged(struct exchange *x, const struct vma *v)
{
	struct area *a;
	uintptr_t lo, hi;
	int err = 0;

	for (a = areas_first(&space.areas, v->start, v->end); a && !err;
	     a = areas_next(a, v->end)) {
		lo = MAX(a->start, v->start);
		hi = MIN(a->end, v->end);
		if (a->seg != x->s ||
		    v->off + (lo - v->start) != a->off - x->s->off + (lo - a->start))
			continue;
		err = add_place(x, v, lo, hi, a->off + (lo - a->start));
		if (!err)
			x->place[x->n - 1].saved = (void *)(a->saved + (lo - a->start));
	}
	return err;
}

static size_t max_map_count(void)
{
	static size_t count;
	char text[32];
	ssize_t n;
	int fd;

	if (count)
		return count;
	count = 65530; /* the kernel's default */
	fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : real.read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		real.close(fd);
	if (n > 0) {
		text[n] = '\0';
		count = strtoul(text, NULL, 10);
	}
	return count;
}

static int place_each(const struct vma *v, const char *path, void *arg)
{
	struct exchange *x = arg;
	int err = x->concerns(x, v) ? x->add(x, v) : 0;

	(void)path;
	return err ? err : v->end >= x->last;
}

/* What a line of maps does not say is asked for each that concerns us. */
static int outline_each(const struct vma *v, const char *path, void *arg)
{
	struct exchange *x = arg;
	struct vma whole = *v;

	(void)path;
	if (!x->concerns(x, v))
		return 0;
	x->last = v->end;
	if (!x->unasked && vmflags_add(&x->flags, &whole) < 0)
		x->unasked = true;
	return x->unasked ? 0 : x->add(x, &whole);
}

/* Where it cannot be had so, smaps is read as far as there is something that concerns us: it
 * comes in the order of addresses, and is long to read. */
static int look_for_places(struct exchange *x, char *buf, size_t *ret_count)
{
	int err = vmas_outline(buf, SCAN_BUFFER, outline_each, x, ret_count);

	if (!err && x->unasked) {
		x->n = 0;
		err = vmas_scan(VMAS_SMAPS, buf, SCAN_BUFFER, place_each, x, NULL);
	}
	return MIN(err, 0);
}

static int find_places(struct exchange *x,
		       bool (*concerns)(const struct exchange *, const struct vma *),
		       int (*add)(struct exchange *, const struct vma *))
{
	char *buf = scratch_get(x->scratch, SCAN_BUFFER);
	char *text = scratch_get(x->scratch, VMFLAGS_TEXT);
	size_t count = 0;
	int err;

	x->max = 4096;
	x->n = 0;
	x->why = REASON_NONE;
	x->concerns = concerns;
	x->add = add;
	x->last = 0;
	x->unasked = false;
	x->flags = vmflags_begin(text);
	x->place = scratch_get(x->scratch, x->max * sizeof(*x->place));
	if (!buf || !text || !x->place)
		return exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM);
	err = look_for_places(x, buf, &count);
	vmflags_end(&x->flags);
	if (err && x->why == REASON_NONE)
		x->why = policy_unseen(err);
	if (!err && x->n == 0)
		return exchange_fail(&x->why, REASON_CHANGED, -ESTALE);
	/* Opening a curtain must not meet the limit on mappings. */
	if (!err && count + 8 * x->n + 64 > max_map_count())
		return exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM);
	return err;
}

int exchange_prot(unsigned flags)
{
	return (flags & VMA_READ ? PROT_READ : 0) | (flags & VMA_WRITE ? PROT_WRITE : 0) |
	       (flags & VMA_EXEC ? PROT_EXEC : 0);
}

/* While the keeper tries the last word (F_SEAL_WRITE), the kernel lets nobody map the memory,
 * for up to some tenths of a second. A seal that is there stays. */
static void *map_writable(int memfd, size_t len, int prot, off_t at)
{
	const struct timespec pause = { .tv_nsec = 2 * 1000 * 1000 };
	void *m;

	for (int tries = 0; tries < 1000; tries++) {
		m = real.mmap(NULL, len, prot, MAP_SHARED, memfd, at);
		if (m != MAP_FAILED || errno != EPERM ||
		    fcntl(memfd, F_GET_SEALS) & F_SEAL_WRITE)
			break;
		nanosleep(&pause, NULL);
	}
	return m;
}

static bool hold(struct segment *s)
{
	void *m;

	if (s->hold)
		return true;
	m = map_writable(s->memfd, page_size(), PROT_NONE, 0);
	if (m == MAP_FAILED)
		return false;
	(void)real.madvise(m, page_size(), MADV_DONTDUMP);
	s->hold = m;
	return true;
}

void *exchange_map_to_read(struct exchange *x, const struct place *p, int prot)
{
	char name[64];
	void *m;

	if (x->memfd_ro < 0) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", x->s->memfd);
		x->memfd_ro = open(name, O_RDONLY | O_CLOEXEC);
	}
	m = real.mmap(NULL, p->span.len, prot, MAP_SHARED, x->memfd_ro,
		      (off_t)(p->off - x->s->off));
	return m == MAP_FAILED ? NULL : m;
}

static void *map_like(struct exchange *x, const struct place *p, int prot)
{
	void *m;

	if (!(p->flags & VMA_MAYWRITE))
		return hold(x->s) ? exchange_map_to_read(x, p, prot) : NULL;
	m = map_writable(x->s->memfd, p->span.len, prot, (off_t)(p->off - x->s->off));
	return m == MAP_FAILED ? NULL : m;
}

void *exchange_map_segment(struct exchange *x, const struct place *p)
{
	const int prot = exchange_prot(p->flags);
	void *m = map_like(x, p, prot);

	if (!m)
		return NULL;
	(void)real.madvise(m, p->span.len, MADV_DONTDUMP);
	if (p->flags & VMA_DONTFORK)
		(void)real.madvise(m, p->span.len, MADV_DONTFORK);
	if (p->flags & (VMA_HUGE | VMA_NOHUGE))
		(void)real.madvise(m, p->span.len,
				   p->flags & VMA_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (p->pkey)
		(void)real.pkey_mprotect(m, p->span.len, prot, (int)p->pkey);
	return m;
}

void *exchange_map_memory(const struct segment *s, uint64_t off, size_t len)
{
	void *m = map_writable(s->memfd, len, PROT_READ | PROT_WRITE, (off_t)(off - s->off));

	return m == MAP_FAILED ? NULL : m;
}

void exchange_lock(void *addr, size_t len, unsigned flags)
{
	if (flags & VMA_LOCKED)
		(void)real.mlock2(addr, len, flags & VMA_ONFAULT ? MLOCK_ONFAULT : 0);
}

void *exchange_map_again(const struct place *p)
{
	void *m = real.mremap(p->span.addr, 0, p->span.len, MREMAP_MAYMOVE, NULL);

	if (m == MAP_FAILED)
		return NULL;
	(void)real.munlock(m, p->span.len);
	return m;
}

int exchange_find_aliases(struct exchange *x)
{
	return find_places(x, is_alias, add_aliases);
}

/* All of it, or nothing is done. */
int exchange_find_staged(struct exchange *x)
{
	int err = find_places(x, is_segment, add_staged);
	size_t shown = 0;
	struct area *a;

	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX))
		shown += a->seg == x->s ? a->end - a->start : 0;
	for (size_t i = 0; i < x->n && !err; i++) {
		const struct place *p = &x->place[i];

		shown -= p->span.len;
		if (!kept_stands(x->s, p->off, (uintptr_t)p->saved, p->span.len))
			err = exchange_fail(&x->why, REASON_CHANGED, -ESTALE);
	}
	return !err && shown ? exchange_fail(&x->why, REASON_CHANGED, -ESTALE) : err;
}

int exchange_identify(struct segment *s)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	struct stat st;
	int err;

	err = fstat(s->memfd, &st) < 0 ? -errno : 0;
	for (int tries = 0; err && err != -EBADF && tries < 100; tries++) {
		nanosleep(&pause, NULL);
		err = fstat(s->memfd, &st) < 0 ? -errno : 0;
	}
	if (!err)
		s->mem_id =
			(struct vma_id){ (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev),
					 st.st_ino };
	return err;
}

void exchange_unmap_backward(struct exchange *x, bool drawn_too)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->place[i].span.backward && (drawn_too || !x->place[i].span.drawn))
			real.munmap(x->place[i].span.backward, x->place[i].span.len);
}

void exchange_hide(void *saved, size_t len)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (int tries = 0; real.mprotect(saved, len, PROT_NONE) < 0 && tries < 100; tries++)
		nanosleep(&pause, NULL);
}

/* Where the curtain is drawn, if system calls do not wait there: as many places as there is
 * room for, and what the last one lies in. */
static struct {
	_Atomic(uintptr_t) start, end;
} cuts[8];

static bool overlap(uintptr_t start, uintptr_t end, uintptr_t other, uintptr_t other_end)
{
	return start < other_end && end > other;
}

bool exchange_cuts(uintptr_t start, uintptr_t end)
{
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++)
		if (overlap(start, end, atomic_load(&cuts[i].start), atomic_load(&cuts[i].end)))
			return true;
	return false;
}

static void say_where(const struct exchange *x)
{
	for (size_t i = 0; i < x->n; i++) {
		const size_t at = MIN(i, ARRAY_SIZE(cuts) - 1);
		const uintptr_t start = (uintptr_t)x->place[i].span.addr;
		const uintptr_t end = start + x->place[i].span.len;

		atomic_store(&cuts[at].start, i == at ? start : MIN(start, cuts[at].start));
		atomic_store(&cuts[at].end, i == at ? end : MAX(end, cuts[at].end));
	}
}

static void say_nowhere(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++)
		atomic_store(&cuts[i].end, 0);
}

static bool meets(uintptr_t start, uintptr_t end, void *arg)
{
	const struct exchange *x = arg;
	bool yes = false;

	for (size_t i = 0; i < x->n && !yes; i++) {
		const uintptr_t at = (uintptr_t)x->place[i].span.addr;

		yes = overlap(start, end, at, at + x->place[i].span.len);
	}
	return yes;
}

static enum reason no_curtain(int err)
{
	if (is_no_files(err))
		return REASON_NO_FILES;
	return err == -EPERM || err == -ENOSYS ? REASON_NO_CURTAIN : REASON_NO_MEMORY;
}

int exchange_run(struct exchange *x, int (*act)(void *), void (*back)(void *))
{
	struct curtain_span *span = scratch_get(x->scratch, x->n * sizeof(*span));
	size_t i;
	bool cut;
	int err;

	if (!span)
		return exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM);
	for (i = 0; i < x->n; i++)
		span[i] = x->place[i].span;
	cut = !curtain_covers_kernel();
	if (cut)
		say_where(x);
	atomic_fetch_add(&space.swaps, 1);
	x->span = span;
	/* What is copied half way would end there, and another call could come in between. */
	if (cut)
		inflight_wait_for_copies(meets, x);
	err = curtain_swap(span, x->n, act, back, x);
	PROBE(swap, back != NULL, x->n, x->off, x->end - x->off, err);
	atomic_fetch_add(&space.swaps, 1);
	say_nowhere();
	for (i = 0; i < x->n; i++)
		x->place[i].span = span[i];
	if (err && x->why == REASON_NONE)
		x->why = no_curtain(err);
	for (i = 0; i < x->n; i++)
		exchange_lock(x->place[i].span.addr, x->place[i].span.len, x->place[i].flags);
	return err;
}

void exchange_close(struct exchange *x)
{
	if (x->memfd_ro >= 0)
		real.close(x->memfd_ro);
	x->memfd_ro = -1;
}
