/* SPDX-License-Identifier: MIT */
#include "lib/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/probe.h"
#include "lib/init.h"
#include "lib/log.h"
#include "lib/policy.h"
#include "lib/room.h"
#include "lib/reconcile.h"
#include "lib/record.h"
#include "lib/stage.h"

#define SCAN_BUFFER (64UL * 1024)
#define IOV_MOST    16384 /* IORING_MAX_REG_BUFFERS */
#define PIECES_MOST 131072
#define TRIES_MOST  32
#define MET_MOST    100

/* A stretch of one mapping that the request covers. */
struct piece {
	struct vma v; /* start, end and off cut to the stretch */
	enum piece_kind kind;
	const char *path;
};

struct request {
	const struct iovec *iov; /* our copy */
	uintptr_t lo, hi;	 /* of all ranges, page-aligned */
	size_t n;
	struct piece *piece;
	size_t pieces, next;
	struct scratch *scratch;
	uint64_t path_dev, path_ino; /* of the path copied last */
	const char *path;
	bool staged;  /* some of it shows a segment already */
	bool reading; /* see struct pin_access */
	int verdict;  /* what pin_beforehand() returns */
};

/* The same path for all pieces of a file: copied once. */
static const char *keep_path(struct request *r, const struct vma *v, const char *path)
{
	char *copy;

	if (r->path && r->path_dev == v->dev && r->path_ino == v->ino)
		return r->path;
	copy = scratch_get(r->scratch, strlen(path) + 1);
	if (!copy)
		return "";
	strcpy(copy, path);
	r->path_dev = v->dev;
	r->path_ino = v->ino;
	return r->path = copy;
}

static int piece_each(const struct vma *v, const char *path, void *arg)
{
	struct request *r = arg;
	uintptr_t lo = MAX(v->start, r->lo), hi = MIN(v->end, r->hi);
	struct piece *p;

	if (r->pieces == PIECES_MOST)
		return -ENOMEM;
	p = &r->piece[r->pieces++];
	p->v = *v;
	p->v.start = lo;
	p->v.end = hi;
	p->v.off = v->off + (lo - v->start);
	p->kind = policy_classify(v, path);
	p->path = p->kind == PIECE_OFFENDER ? keep_path(r, v, path) : "";
	return 0;
}

static enum reason copy_ranges(struct request *r, const struct iovec *iov, size_t n)
{
	struct iovec *copy;
	uintptr_t start;
	size_t i;

	if (n == 0 || n > IOV_MOST)
		return REASON_BAD_RANGE;
	copy = scratch_get(r->scratch, n * sizeof(*copy));
	if (!copy || !pin_copy_in(copy, iov, n * sizeof(*copy)))
		return REASON_BAD_RANGE;
	r->iov = copy;
	r->n = n;
	r->lo = UINTPTR_MAX;
	r->hi = 0;
	for (i = 0; i < n; i++) {
		start = (uintptr_t)copy[i].iov_base;
		if (copy[i].iov_len == 0 && start == 0)
			continue; /* an empty slot */
		if (copy[i].iov_len == 0 || start + copy[i].iov_len < start ||
		    start + copy[i].iov_len > UINTPTR_MAX - page_size())
			return REASON_BAD_RANGE;
		r->lo = MIN(r->lo, page_down(start));
		r->hi = MAX(r->hi, page_up(start + copy[i].iov_len));
	}
	return r->lo < r->hi ? REASON_NONE : REASON_BAD_RANGE;
}

/* The first piece that ends behind addr. Pieces are in order. */
static struct piece *piece_at(struct request *r, uintptr_t addr)
{
	size_t lo = 0, hi = r->pieces, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (r->piece[mid].v.end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < r->pieces ? &r->piece[lo] : NULL;
}

/* What stands in the way of one range; *ret_offender says whether it has any. */
static enum reason check_range(struct request *r, const struct iovec *iov, bool *ret_offender)
{
	uintptr_t at = page_down((uintptr_t)iov->iov_base);
	const uintptr_t end = page_up((uintptr_t)iov->iov_base + iov->iov_len);
	bool other = false;
	struct piece *p;
	struct area *a;

	*ret_offender = false;
	for (p = piece_at(r, at); at < end; at = p->v.end, p++) {
		if (!p || p == r->piece + r->pieces || p->v.start > at)
			return REASON_NOT_MAPPED;
		if (p->kind == PIECE_READ_ONLY || !(p->v.flags & VMA_WRITE))
			return REASON_READ_ONLY;
		a = areas_first(&space.areas, p->v.start, p->v.end);
		if (p->kind == PIECE_OFFENDER)
			*ret_offender = true;
		else if (!a)
			other = true; /* not what we staged earlier */
		else if (a->seg)
			r->staged = true;
	}
	return *ret_offender && other ? REASON_MIXED : REASON_NONE;
}

/* The arguments and the stack of the thread that waits must not lie behind the curtain. */
static bool stack_inside(const struct request *r)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	for (size_t i = 0; i < r->pieces; i++)
		if (r->piece[i].kind == PIECE_OFFENDER && here >= r->piece[i].v.start &&
		    here < r->piece[i].v.end)
			return true;
	return false;
}

/* Stages one range; ranges that lie side by side in one mapping are taken together. */
static int stage_ranges(struct request *r, struct pin_context *ctx, enum reason *ret_why)
{
	size_t i = 0, j;
	int err = 0;

	while (i < r->n && !err) {
		uintptr_t at = page_down((uintptr_t)r->iov[i].iov_base), end, stop;
		struct piece *p;

		if (r->iov[i].iov_len == 0) {
			i++;
			continue;
		}
		end = page_up((uintptr_t)r->iov[i].iov_base + r->iov[i].iov_len);
		for (j = i + 1; j < r->n; j++) {
			uintptr_t next = page_down((uintptr_t)r->iov[j].iov_base);

			if (r->iov[j].iov_len == 0 || next > end || next < at)
				break;
			end = MAX(end,
				  page_up((uintptr_t)r->iov[j].iov_base + r->iov[j].iov_len));
		}
		ctx->addr = (uintptr_t)r->iov[i].iov_base;
		ctx->len = end - at;
		for (p = piece_at(r, at); p && p < r->piece + r->pieces && at < end && !err;
		     p++) {
			stop = MIN(end, p->v.end);
			if (p->kind == PIECE_OFFENDER)
				err = stage_range(&p->v, p->path, p->v.off + (at - p->v.start),
						  p->v.off + (stop - p->v.start), ctx,
						  r->scratch, ret_why);
			at = stop;
		}
		i = j;
	}
	return err;
}

static enum reason check(struct request *r, bool *ret_any)
{
	enum reason why = REASON_NONE;
	bool offender;
	int err;
	char *buf = scratch_get(r->scratch, SCAN_BUFFER);

	r->piece = scratch_get(r->scratch, PIECES_MOST * sizeof(*r->piece));
	*ret_any = false;
	if (!buf || !r->piece)
		return REASON_NO_MEMORY;
	reconcile_between(r->lo, r->hi);
	err = vmas_between(r->lo, r->hi, buf, SCAN_BUFFER, piece_each, r);
	if (err < 0)
		return policy_unseen(err);
	for (size_t i = 0; i < r->n && why == REASON_NONE; i++) {
		if (r->iov[i].iov_len == 0)
			continue;
		why = check_range(r, &r->iov[i], &offender);
		*ret_any |= offender;
	}
	/* Nothing is in the way, but something is staged: another thread did that after the
	 * kernel had refused us. */
	if (why == REASON_NONE && !*ret_any)
		return r->staged ? REASON_NONE : REASON_NOT_SHARED_FILE;
	if (why == REASON_NONE && stack_inside(r))
		return REASON_STACK;
	return why;
}

static const struct piece *first_offender(const struct request *r)
{
	for (size_t i = 0; i < r->pieces; i++)
		if (r->piece[i].kind == PIECE_OFFENDER)
			return &r->piece[i];
	return NULL;
}

static void say(enum log_event_kind kind, const struct pin_context *ctx,
		const struct request *r, enum reason why, int cause)
{
	struct record record = { .kind = kind, .ctx = ctx, .why = why, .cause = cause };
	const struct piece *p = r ? first_offender(r) : NULL;

	if (p) {
		record.path = p->path;
		record.v = &p->v;
		record.off = p->v.off;
	}
	record_say(&record, r ? r->scratch : NULL);
}

/* EINVAL and EOVERFLOW have many causes; a range that cannot be is the one to speak of. So has
 * EOPNOTSUPP, where no file system with direct access (DAX) is concerned. */
static bool worth_a_line(const struct request *r, int err, enum reason why)
{
	if (err == 0) /* the kernel has still to see it */
		return r->path && why != REASON_NOT_SHARED_FILE;
	if (err == -EINVAL || err == -EOVERFLOW)
		return why == REASON_BAD_RANGE && r->n;
	return err != -EOPNOTSUPP || why != REASON_NOT_SHARED_FILE;
}

/* Files that nothing is wrong with pinning. One that was removed cannot be asked here. */
static bool in_memory(const char *path)
{
	struct statfs st;

	return statfs(path, &st) == 0 && policy_fs_in_memory(st.f_type);
}

/* Whether any of it has no page cache, and so cannot even be pinned for reading; the same holds
 * of a file that was removed. */
static bool on_dax(const struct request *r)
{
	const char *asked = NULL;
	struct statx sx;

	for (size_t i = 0; i < r->pieces; i++) {
		const struct piece *p = &r->piece[i];

		if (p->kind != PIECE_OFFENDER || p->path == asked)
			continue;
		asked = p->path;
		if (statx(AT_FDCWD, asked, 0, 0, &sx) == 0 &&
		    (sx.stx_attributes & STATX_ATTR_DAX))
			return true;
	}
	return false;
}

static bool resolve(struct request *r, struct pin_context *ctx, const struct iovec *iov,
		    size_t n, int err)
{
	enum reason why = copy_ranges(r, iov, n);
	bool any = false;
	int cause = 0;

	if (r->n) {
		ctx->addr = (uintptr_t)r->iov[0].iov_base;
		ctx->len = r->iov[0].iov_len;
		ctx->ranges = r->n;
		for (size_t i = 0; i < r->n; i++)
			ctx->bytes += r->iov[i].iov_len;
	}
	if (why == REASON_NONE && (err == -EINVAL || err == -EOVERFLOW))
		return false;
	if (why == REASON_NONE)
		why = check(r, &any);
	/* These two only staging minds. */
	if (any && options.mode != MODE_STAGE && (why == REASON_MIXED || why == REASON_STACK))
		why = REASON_NONE;
	if (why == REASON_NONE && err == 0 && r->path && in_memory(r->path))
		why = REASON_NOT_SHARED_FILE;
	if (r->reading && !on_dax(r))
		why = REASON_NOT_SHARED_FILE;
	if (why == REASON_NONE)
		PROBE(detect, ctx->call, ctx->addr, ctx->bytes, err);
	if (why == REASON_NONE && options.mode != MODE_STAGE) {
		r->verdict = options.mode == MODE_DENY ? -EFAULT : 0;
		say(options.mode == MODE_LOG ? EV_PIN : EV_DENY, ctx, r, why, 0);
		return false;
	}
	if (why == REASON_NONE) {
		cause = stage_ranges(r, ctx, &why);
		if (!cause)
			return true;
	}
	if (worth_a_line(r, err, why)) {
		r->verdict = -EBUSY;
		say(EV_REFUSE, ctx, r, why, cause);
	}
	return false;
}

static bool attempt(const char *call, const struct pin_access *access, const struct iovec *iov,
		    size_t n, int err, int *ret_verdict)
{
	struct pin_context ctx = { .call = call, .addr = (uintptr_t)iov, .err = err };
	struct request r = { 0 };
	struct trace trace;
	struct scratch scratch;
	struct space_guard g;
	int saved = errno;
	bool yes = false;

	if (!enabled)
		return false;
	if (access) {
		ctx.has_access = true;
		ctx.access = access->flags;
		ctx.iova = access->iova;
		r.reading = access->reading;
	}
	trace_take(&trace);
	ctx.trace = &trace;
	if (!space_lock(&g)) {
		say(EV_REFUSE, &ctx, NULL, REASON_FOREIGN_PROCESS, 0);
		errno = saved;
		return false;
	}
	reconcile_inherited();
	room_new_call();
	if (scratch_open(&scratch) == 0) {
		r.scratch = &scratch;
		yes = resolve(&r, &ctx, iov, n, err);
		*ret_verdict = r.verdict;
		scratch_close(&scratch);
	} else {
		say(EV_REFUSE, &ctx, NULL, REASON_NO_MEMORY, 0);
	}
	space_unlock(&g);
	errno = saved;
	return yes;
}

bool pin_resolve_mr(const char *call, const struct pin_access *access,
		    const struct iovec *range, int err)
{
	int verdict;

	return attempt(call, access, range, 1, err, &verdict);
}

/* Whether the records know of a file's own mapping in the range. */
static bool shows_file(const struct iovec *range)
{
	const uintptr_t start = (uintptr_t)range->iov_base, end = start + range->iov_len;
	struct space_guard g;
	struct area *a;
	bool yes = false;

	if (!space.tracked || end <= start || !space_lock(&g))
		return false;
	for (a = areas_first(&space.areas, start, end); a && !yes; a = areas_next(a, end))
		yes = !a->seg;
	space_unlock(&g);
	return yes;
}

static bool any_shows_file(const struct iovec *iov, size_t n)
{
	struct iovec range;
	bool yes = false;

	for (size_t i = 0; i < n && !yes; i++)
		yes = pin_copy_in(&range, iov + i, sizeof(range)) && shows_file(&range);
	return yes;
}

static void say_still_refused(const char *call, int err)
{
	struct pin_context ctx = { .call = call, .err = err };
	struct trace trace;

	trace_take(&trace);
	ctx.trace = &trace;
	say(EV_REFUSE, &ctx, NULL, REASON_STILL_REFUSED, 0);
}

bool pin_met_exchange(int err, struct pin_tries *t)
{
	if (err != -EFAULT || !enabled || t->met >= MET_MOST ||
	    !space_exchange_between(t->exchanges))
		return false;
	t->met++;
	t->exchanges = space_exchanges();
	return true;
}

/* Whether there is something to be staged, or, the first time, to be looked at. */
static bool is_to_be_staged(const struct iovec *iov, size_t n, int err,
			    const struct pin_tries *t)
{
	if (t->staged == 0 && !space_exchange_since(t->exchanges))
		return true;
	return err == -EFAULT && t->staged < TRIES_MOST && any_shows_file(iov, n);
}

static bool again(const char *call, const struct pin_access *access, const struct iovec *iov,
		  size_t n, int err, struct pin_tries *t)
{
	const int saved = errno;
	bool yes = false, stage;
	int verdict;

	if (err >= 0)
		return false;
	stage = is_to_be_staged(iov, n, err, t);
	if (!stage && pin_met_exchange(err, t)) {
		errno = saved;
		return true;
	}
	if (stage || t->staged == 0)
		yes = attempt(call, access, iov, n, err, &verdict);
	else
		say_still_refused(call, err);
	t->staged++;
	t->exchanges = space_exchanges();
	errno = saved;
	return yes;
}

bool pin_again(const char *call, const struct iovec *iov, size_t n, int err,
	       struct pin_tries *tries)
{
	return (tries->staged || pin_refused(err)) && again(call, NULL, iov, n, err, tries);
}

bool pin_again_mr(const char *call, const struct pin_access *access, const struct iovec *range,
		  int err, struct pin_tries *tries)
{
	return again(call, access, range, 1, err, tries);
}

int pin_beforehand(const char *call, const struct pin_access *access, const struct iovec *range)
{
	int verdict = 0;

	if (enabled && shows_file(range))
		(void)attempt(call, access, range, 1, 0, &verdict);
	return verdict;
}
