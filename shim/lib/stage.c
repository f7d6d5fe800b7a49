/* SPDX-License-Identifier: MIT */
#include "lib/stage.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "common/probe.h"
#include "lib/custody.h"
#include "lib/exchange.h"
#include "lib/fill.h"
#include "lib/inflight.h"
#include "lib/init.h"
#include "lib/keeper.h"
#include "lib/kept.h"
#include "lib/log.h"
#include "lib/native.h"
#include "lib/ownfd.h"
#include "lib/policy.h"
#include "lib/real.h"
#include "lib/reconcile.h"
#include "lib/record.h"
#include "lib/recover.h"
#include "lib/room.h"
#include "lib/wake.h"

#define PATIENCE_MS 2000 /* for direct I/O under way */

/* What maps say of the segment's file and memory. */
static int identify(struct exchange *x)
{
	int err = exchange_identify(x->s);

	if (err)
		return exchange_fail(&x->why, REASON_NO_MEMORY, err);
	if (x->ino)
		x->s->file_id = (struct vma_id){ x->dev, x->ino };
	return 0;
}

/* Mappings that were prepared and are not where the program sees them. */
static void unmap_forward(struct exchange *x)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->place[i].span.forward && !x->place[i].neighbour)
			real.munmap(x->place[i].span.forward, x->place[i].span.len);
}

static int prepare_stage(struct exchange *x)
{
	size_t i;

	for (i = 0; i < x->n; i++) {
		struct place *p = &x->place[i];

		p->span.backward = exchange_map_again(p);
		p->span.forward = p->neighbour ? p->span.backward : exchange_map_segment(x, p);
		p->saved = p->span.backward;
		if (!p->span.forward || !p->span.backward)
			return exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM);
	}
	return 0;
}

int stage_ask(struct exchange *x, enum msg_type type)
{
	struct msg m;

	msg_init(&m, type);
	m.id = x->s->id;
	m.off = x->win_off;
	m.len = x->win_end - x->win_off;
	m.arg[0] = x->patience_ms;
	return keeper_ask(&m, NULL, &x->why);
}

/*
 * Behind the curtain. The order is what makes it exact (see docs/architecture.md): first the
 * file's dirty pages are written, so that whatever touches the old pages afterwards (direct I/O
 * in flight) leaves them dirty or referenced, which COMMIT finds.
 */
static int act_stage(void *arg)
{
	struct exchange *x = arg;
	size_t i;
	int err;

	err = stage_ask(x, MSG_CLEAN);
	if (err)
		return err;
	err = fill_segment(x);
	if (err)
		return exchange_fail(&x->why,
				     err == -ENOMEM ? REASON_NO_MEMORY : REASON_PAST_EOF, err);
	for (i = 0; i < x->n; i++)
		fill_let_go(x->place[i].saved, x->place[i].span.len);
	return stage_ask(x, MSG_COMMIT);
}

/* The file's own mapping is still readable where it is kept. A page that this brings in again
 * must not stay: it would look like a holder of the range next time. */
static void wake_those_on_file(struct exchange *x)
{
	struct wake_span *w = scratch_get(x->scratch, x->n * sizeof(*w));
	size_t i, n = 0;

	for (i = 0; w && i < x->n; i++)
		if (!x->place[i].neighbour)
			w[n++] = (struct wake_span){ (uintptr_t)x->place[i].span.addr,
						     x->place[i].span.len, x->place[i].saved };
	wake_sleepers(w, n);
	for (i = 0; i < n; i++)
		(void)real.madvise(w[i].old, w[i].len, MADV_DONTNEED);
}

static void record_staged(struct exchange *x)
{
	struct segment *orphans = NULL;
	struct area *a;
	uintptr_t start;
	size_t i;

	for (i = 0; i < x->n; i++) {
		struct place *p = &x->place[i];

		if (p->neighbour)
			continue;
		exchange_hide(p->saved, p->span.len);
		start = (uintptr_t)p->span.addr;
		if (start >= x->shown->start && start < x->shown->end)
			x->shown->flags |= p->flags | VMA_ASKED;
		/* Cannot fail: nodes were reserved. */
		(void)space_set(start, start + p->span.len, x->f, p->off, &orphans);
		a = areas_first(&space.areas, start, start + 1);
		a->seg = x->s;
		a->saved = (uintptr_t)p->saved;
		x->s->areas++;
	}
	segment_link(x->f, x->s);
	if (orphans)
		stage_release(orphans);
}

/* A keeper may be more confined than we are, by what confined the program that started it: one
 * that is in nobody's use makes way for ours, another one takes a description of the file that
 * we open for it. */
static int ask_for_segment(struct msg *m, struct custody *c, int *fds, enum reason *ret_why)
{
	const struct msg request = *m;
	const bool anew = c->anew;
	bool lost;
	uint32_t flags = 0;
	int err, times = 0;

	for (;;) {
		*m = request;
		m->flags = flags;
		err = keeper_call_via(m, custody_send, c, fds, ret_why);
		lost = err == -EPIPE || err == -ECONNRESET;
		if (lost && times++ < 2 && recover(ret_why) == 0) {
			flags &= ~STAGE_OR_LEAVE;
		} else if (custody_denied(err, *ret_why) && !flags) {
			c->anew = true;
			flags = FILE_AS_IS | STAGE_OR_LEAVE;
		} else {
			break;
		}
	}
	if (c->anew && err && !lost && *ret_why == REASON_KEEPER_LOST) /* nothing was sent */
		*ret_why = REASON_NO_DESCRIPTOR;
	/* Of an answer without its descriptors, for which there was no room, it says -EPROTO.
	 */
	if ((is_no_files(err) || err == -EPROTO) && *ret_why == REASON_KEEPER_LOST)
		*ret_why = REASON_NO_FILES;
	c->anew = anew;
	return err;
}

int stage_open(struct exchange *x, struct custody *c)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, err;
	struct msg m;

	msg_init(&m, MSG_STAGE);
	m.key = c->key;
	m.off = x->off;
	m.len = x->end - x->off;
	if (c->path)
		snprintf(m.text, sizeof(m.text), "%s", c->path);
	x->s = segment_new();
	if (!x->s)
		return exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM);
	x->s->off = x->off;
	x->s->len = x->end - x->off;
	err = ask_for_segment(&m, c, fds, &x->why);
	x->s->memfd = ownfd_adopt(fds[0]);
	x->s->ledger = ownfd_adopt(fds[1]);
	if (!err && (x->s->memfd < 0 || x->s->ledger < 0))
		err = exchange_fail(&x->why, REASON_NO_FILES, -EMFILE);
	x->s->id = m.id;
	return err ? err : identify(x);
}

/* One gap, wholly unstaged, with a curtain over it and `margin` bytes to either side. */
static int stage_with_margin(struct exchange *x, struct custody *c, struct scratch *scratch,
			     uint64_t margin)
{
	int err;

	x->scratch = scratch;
	x->memfd_ro = -1;
	x->s = NULL;
	x->win_off = x->off - MIN(x->off, margin);
	x->win_end = MIN(x->end + margin, page_up(c->size));
	x->patience_ms = margin ? PATIENCE_MS : 20;
	err = exchange_find_aliases(x);
	if (!err)
		err = pool_reserve(&space.areas.pool, 4 * x->n)
			      ? exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM)
			      : 0;
	if (err)
		return err;
	err = stage_open(x, c);
	if (!err) {
		err = prepare_stage(x);
		if (!err)
			err = exchange_run(x, act_stage, NULL);
		if (err) {
			unmap_forward(x);
			exchange_unmap_backward(x, false);
		}
	}
	exchange_close(x);
	if (!err) {
		wake_those_on_file(x);
		record_staged(x);
		return 0;
	}
	if (x->s && x->s->id) {
		enum reason why = x->why;

		stage_ask(x, MSG_ABORT);
		x->why = why;
	}
	if (x->s)
		segment_free(x->s);
	return err;
}

int stage_keeper_ready(enum reason *ret_why)
{
	int err = keeper_connect(ret_why);

	if (!err && !keeper_is_told())
		err = recover(ret_why);
	return err;
}

/*
 * The page cache holds folios of many pages. If one reaches beyond the range, it stays as long
 * as the process uses any page of it; then the curtain is drawn over the neighbourhood, too, as
 * far as the largest folio may reach.
 */
static int stage_gap(struct exchange *x, struct custody *c, struct scratch *scratch)
{
	const size_t mark = scratch->used;
	int err;

	do {
		err = stage_with_margin(x, c, scratch, 0);
		scratch->used = mark;
		if (err == -EBUSY && x->why == REASON_IN_USE) {
			err = stage_with_margin(x, c, scratch, LARGEST_FOLIO);
			scratch->used = mark;
		}
	} while (err && x->why == REASON_BUDGET && room_make(x->end - x->off));
	if (!err)
		room_needed_now(x->s);
	return err;
}

/* The path is the keeper's, for people only: it is not opened where there is a descriptor. */
static int find(struct custody *c, const struct vma *v, const char *path, struct file *f,
		struct scratch *scratch, enum reason *ret_why)
{
	const int err = custody_find(c, v, path, f, scratch, ret_why);

	if (!c->path)
		c->path = path;
	return err;
}

/* What is there to know of the file, its size among it, once no call that changes it is under
 * way any more. Twice for a mapping that the records do not know, or no longer. */
static int find_quiet(struct custody *c, const struct vma *v, const char *path,
		      const struct area *a, struct scratch *scratch, enum reason *ret_why)
{
	struct inode_key quiet = { 0 };
	struct file *f = a ? a->file : NULL;
	int err;

	if (f)
		quiet = f->key;
	do {
		if (quiet.ino) {
			space_expect(quiet);
			if (!inflight_wait(quiet))
				return exchange_fail(ret_why, REASON_CALL_IN_FLIGHT, -EBUSY);
		}
		err = find(c, v, path, f, scratch, ret_why);
		if (err && f) { /* another file stands there now than the records say */
			f = NULL;
			err = find(c, v, path, NULL, scratch, ret_why);
		}
		if (err || !inode_key_cmp(quiet, c->key))
			return err;
		quiet = c->key;
	} while (true);
}

static int stage_quietly(const struct vma *v, const char *path, uint64_t off, uint64_t end,
			 const struct pin_context *ctx, struct scratch *scratch,
			 enum reason *ret_why)
{
	struct vma shown = *v;
	struct exchange x = { .dev = v->dev, .ino = v->ino, .shown = &shown };
	struct area *a = areas_first(&space.areas, v->start, v->end);
	struct scratch own = *scratch; /* what is used here is free again for the next range */
	struct custody c;
	struct segment *s;
	int err, tries = 0;

	err = find_quiet(&c, v, path, a, &own, ret_why);
	if (err)
		return err;
	if (ctx->err == -EOPNOTSUPP && !c.dax)
		return exchange_fail(ret_why, REASON_NOT_SHARED_FILE, -EOPNOTSUPP);
	if (!policy_fs_allowed(c.fs_type, options.fs))
		return exchange_fail(ret_why, REASON_FILE_SYSTEM, -EOPNOTSUPP);
	if (end > page_up(c.size))
		return exchange_fail(ret_why, REASON_PAST_EOF, -EFAULT);
	if (native_overlaps(c.key, off, end))
		return exchange_fail(ret_why, REASON_NATIVE_PIN, -EBUSY);
	x.f = space_file(c.key, true);
	if (!x.f)
		return exchange_fail(ret_why, REASON_NO_MEMORY, -ENOMEM);
	x.f->areas++;
	/* What the file's own mapping shows is not staged, unless of segments elsewhere that
	 * may have been unmapped unseen. */
	if (segment_find(x.f, off, end))
		reconcile();
	for (err = stage_keeper_ready(ret_why); !err && off < end; off = x.end) {
		s = segment_find(x.f, off, end);
		if (s && s->off <= off) {
			x.end = s->off + s->len;
			room_needed_now(s);
			continue;
		}
		x.off = off;
		x.end = s ? s->off : end;
		err = stage_gap(&x, &c, &own);
		*ret_why = x.why;
		if (custody_vanished(&c, err, &tries)) {
			x.end = off;
			err = find(&c, v, path, x.f, &own, ret_why);
			continue;
		}
		if (!err) {
			PROBE(stage, path, x.off, x.end - x.off, x.n);
			record_say(&(struct record){ .kind = EV_STAGE,
						     .ctx = ctx,
						     .path = path,
						     .v = &shown,
						     .off = x.off,
						     .len = x.end - x.off,
						     .places = x.n },
				   &own);
		}
	}
	x.f->areas--;
	space_file_put(x.f);
	return err;
}

int stage_range(const struct vma *v, const char *path, uint64_t off, uint64_t end,
		const struct pin_context *ctx, struct scratch *scratch, enum reason *ret_why)
{
	int err;

	/* From before the file is looked at: whatever happens from here on to file or memory,
	 * the hooks on files look at it when this is done. What began before ends before. */
	atomic_fetch_add(&space.staged, 1);
	err = stage_quietly(v, path, off, end, ctx, scratch, ret_why);
	atomic_fetch_sub(&space.staged, 1);
	return err;
}

/* The program has just made a mapping of a file that is staged in part. Nobody else knows its
 * addresses yet, so no curtain is needed. */
static int show_segment(struct exchange *x)
{
	struct segment *orphans = NULL;
	struct area *a;
	uintptr_t start;
	int err;

	err = exchange_find_aliases(x);
	if (err || pool_reserve(&space.areas.pool, 4 * x->n))
		return err ? err : -ENOMEM;
	err = identify(x);
	if (!err)
		err = prepare_stage(x);
	for (size_t i = 0; i < x->n && !err; i++) {
		struct place *p = &x->place[i];

		start = (uintptr_t)p->span.addr;
		(void)real.madvise(p->saved, p->span.len, MADV_DONTNEED);
		exchange_hide(p->saved, p->span.len);
		if (real.mremap(p->span.forward, p->span.len, p->span.len,
				MREMAP_MAYMOVE | MREMAP_FIXED, p->span.addr) == MAP_FAILED) {
			err = -errno;
			break;
		}
		p->span.forward = p->span.backward = NULL;
		exchange_lock(p->span.addr, p->span.len, p->flags);
		(void)space_set(start, start + p->span.len, x->f, p->off, &orphans);
		a = areas_first(&space.areas, start, start + 1);
		a->seg = x->s;
		a->saved = (uintptr_t)p->saved;
		x->s->areas++;
	}
	if (err) {
		unmap_forward(x);
		exchange_unmap_backward(x, true);
	}
	return err;
}

int stage_show(struct file *f, uintptr_t start, uintptr_t end)
{
	struct area *a = areas_first(&space.areas, start, end);
	const uint64_t off = a ? a->off + (start - MIN(start, a->start)) : 0;
	const uint64_t stop = off + (end - start);
	struct scratch scratch, whole;
	struct segment *s;
	struct vma v;
	int err;

	if (!segment_find(f, off, stop))
		return 0;
	if (scratch_open(&whole) < 0)
		return -ENOMEM;
	err = stage_vma_at(start, &v, NULL, 0, &whole);
	for (s = f->segments; s && !err; s = s->next) {
		struct exchange x = { .s = s,
				      .f = f,
				      .dev = v.dev,
				      .ino = v.ino,
				      .lo = start,
				      .hi = end,
				      .memfd_ro = -1 };

		x.off = x.win_off = MAX(s->off, off);
		x.end = x.win_end = MIN(s->off + s->len, stop);
		if (x.off >= x.end)
			continue;
		scratch = whole;
		x.scratch = &scratch;
		err = show_segment(&x);
		exchange_close(&x);
	}
	scratch_close(&whole);
	return err;
}
