/* SPDX-License-Identifier: MIT */
#include "lib/eager.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/probe.h"
#include "lib/custody.h"
#include "lib/exchange.h"
#include "lib/inflight.h"
#include "lib/init.h"
#include "lib/join.h"
#include "lib/log.h"
#include "lib/native.h"
#include "lib/policy.h"
#include "lib/real.h"
#include "lib/record.h"
#include "lib/stage.h"

#define FILL_CHUNK  (1UL << 20)
#define PATIENCE_MS 2000
#define RACES_MOST  1000 /* with others that stage parts of the same range */

static bool path_of(int fd, char *path, size_t size)
{
	char name[32];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, path, size - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return true;
}

bool eager_wanted(int fd)
{
	char path[PATH_MAX];

	return options.eager && options.mode == MODE_STAGE && path_of(fd, path, sizeof(path)) &&
	       globs_match(options.eager, path);
}

/* Mappings of our own that nobody told us of, too. */
static int mapped_here(struct exchange *x, int fd, struct scratch *scratch)
{
	const size_t mark = scratch->used;
	struct vma v;
	void *probe;
	int err;

	probe = real.mmap(NULL, page_size(), PROT_NONE, MAP_SHARED, fd, (off_t)x->off);
	if (probe == MAP_FAILED)
		return exchange_fail(&x->why, REASON_NO_MEMORY, -errno);
	err = stage_vma_at((uintptr_t)probe, &v, NULL, 0, scratch);
	real.munmap(probe, page_size());
	scratch->used = mark;
	if (err)
		return exchange_fail(&x->why, REASON_NO_MEMORY, err);
	x->dev = v.dev;
	x->ino = v.ino;
	x->scratch = scratch;
	err = exchange_find_aliases(x);
	scratch->used = mark;
	if (err == -ESTALE && x->why == REASON_CHANGED) {
		x->why = REASON_NONE;
		return 0;
	}
	return err ? err : 1;
}

/* By this process, so that its control group is charged. What lies behind the end of the file
 * stays zero. */
static int fill(struct exchange *x, int fd)
{
	const uint64_t len = x->end - x->off;
	uint64_t at = 0;
	ssize_t n = 1;
	char *p;

	p = real.mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, x->s->memfd, 0);
	if (p == MAP_FAILED)
		return -errno;
	while (at < len && n > 0) {
		n = real.pread(fd, p + at, MIN(len - at, FILL_CHUNK), (off_t)(x->off + at));
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			at += (uint64_t)n;
	}
	n = n < 0 ? -errno : 0;
	real.munmap(p, len);
	return (int)n;
}

static int fill_and_commit(struct exchange *x, struct custody *c)
{
	int err = stage_ask(x, MSG_CLEAN);

	if (!err) {
		err = fill(x, c->fd);
		if (err)
			return exchange_fail(
				&x->why,
				err == -ENOMEM ? REASON_NO_MEMORY : REASON_NO_DESCRIPTOR, err);
		err = stage_ask(x, MSG_COMMIT);
	}
	if (err != -EBUSY || x->why != REASON_IN_USE)
		return err;
	/* Folios that reach beyond the range; or direct I/O under way. */
	x->win_off = x->off - MIN(x->off, LARGEST_FOLIO);
	x->win_end = MIN(x->end + LARGEST_FOLIO, page_up(c->size));
	x->patience_ms = PATIENCE_MS;
	return stage_ask(x, MSG_COMMIT);
}

static int stage_one(struct exchange *x, struct custody *c)
{
	enum reason why;
	int err = stage_open(x, c);

	if (!err)
		err = fill_and_commit(x, c);
	if (!err) {
		x->s->joined = true;
		segment_link(x->f, x->s);
		return 0;
	}
	why = x->why;
	if (x->s && x->s->id)
		stage_ask(x, MSG_ABORT);
	if (x->s)
		segment_free(x->s);
	x->why = why;
	return err;
}

/* The first part of [*off, end) that no segment of ours covers. */
static bool find_gap(struct file *f, uint64_t *off, uint64_t *end)
{
	struct segment *s;

	for (s = f->segments; s && *off < *end; s = s->next) {
		if (s->off + s->len <= *off)
			continue;
		if (s->off > *off) {
			*end = MIN(*end, s->off);
			break;
		}
		*off = s->off + s->len;
	}
	return *off < *end;
}

/* 1: behind a curtain, later. */
static int stage_all(struct file *f, struct custody *c, uint64_t off, uint64_t end,
		     struct scratch *scratch, enum reason *ret_why)
{
	struct exchange x = { .f = f, .memfd_ro = -1, .patience_ms = 20 };
	int races = 0, err = stage_keeper_ready(ret_why);

	while (!err) {
		err = join_range(f, c->fd, 0, off, end);
		x.off = x.win_off = off;
		x.end = end;
		if (err || !find_gap(f, &x.off, &x.end)) {
			*ret_why = REASON_STAGED_ELSEWHERE;
			break;
		}
		x.win_off = x.off;
		x.win_end = x.end;
		err = mapped_here(&x, c->fd, scratch);
		if (!err)
			err = stage_one(&x, c);
		*ret_why = x.why;
		if (err == -EBUSY && x.why == REASON_STAGED_ELSEWHERE && races++ < RACES_MOST)
			err = 0; /* somebody was faster: join that */
		/* Neighbours of ours that hold folios are curtained off with the range. */
		if (err == -EBUSY && x.why == REASON_IN_USE)
			err = 1;
	}
	return err;
}

/* The program has asked for no pin yet: `ctx` tells of its mmap(). */
static void say(enum log_event_kind kind, const struct pin_context *ctx, const char *path,
		uint64_t off, uint64_t len, enum reason why, int err)
{
	record_say(&(struct record){ .kind = kind,
				     .ctx = ctx,
				     .path = path,
				     .off = off,
				     .len = len,
				     .why = why,
				     .cause = err },
		   NULL);
}

/* Who maps it first may be one that only reads. The keeper wants a descriptor that may write.
 */
static bool is_writable(int fd)
{
	const int flags = fcntl(fd, F_GETFL);

	return flags < 0 || (flags & O_ACCMODE) == O_RDWR;
}

/* Once no call that changes the file is under way any more. */
static bool stage_quietly(struct file *f, int fd, uint64_t off, size_t len,
			  const struct pin_context *ctx)
{
	struct custody c = { .key = f->key, .fd = fd, .lot = -1, .anew = !is_writable(fd) };
	enum reason why = REASON_NO_MEMORY;
	char path[PATH_MAX] = "";
	struct scratch scratch;
	struct statfs sfs;
	struct stat st;
	int err = -ENOMEM;
	uint64_t end;
	bool quiet;

	if (off % page_size() || fstatfs(fd, &sfs) < 0 || policy_fs_in_memory(sfs.f_type))
		return false;
	space_expect(f->key);
	quiet = inflight_wait(f->key);
	if (fstat(fd, &st) < 0)
		return false;
	c.size = (uint64_t)st.st_size;
	end = MIN(off + page_up(len), page_up(c.size));
	if (off >= end)
		return false;
	(void)path_of(fd, path, sizeof(path));
	c.path = path;
	if (!policy_fs_allowed(sfs.f_type, options.fs)) {
		err = exchange_fail(&why, REASON_FILE_SYSTEM, -EOPNOTSUPP);
	} else if (native_overlaps(f->key, off, end)) {
		err = exchange_fail(&why, REASON_NATIVE_PIN, -EBUSY);
	} else if (!quiet) {
		err = exchange_fail(&why, REASON_CALL_IN_FLIGHT, -EBUSY);
	} else if (scratch_open(&scratch) == 0) {
		err = stage_all(f, &c, off, end, &scratch, &why);
		scratch_close(&scratch);
	}
	if (err < 0) {
		say(EV_REFUSE, ctx, path, off, 0, why, err);
	} else if (err == 0) {
		PROBE(stage, path, off, end - off, 0);
		say(EV_STAGE, ctx, path, off, end - off, REASON_NONE, 0);
	}
	return err > 0;
}

bool eager_stage(struct file *f, int fd, uint64_t off, size_t len, const struct trace *trace)
{
	const struct pin_context ctx = {
		.call = "mmap", .len = len, .ranges = 1, .bytes = len, .trace = trace
	};
	bool late;

	atomic_fetch_add(&space.staged, 1); /* as in stage_range() */
	late = stage_quietly(f, fd, off, len, &ctx);
	atomic_fetch_sub(&space.staged, 1);
	return late;
}

void eager_late(uintptr_t start, uintptr_t end, const struct trace *trace)
{
	const struct pin_context ctx = { .call = "mmap",
					 .addr = start,
					 .len = end - start,
					 .ranges = 1,
					 .bytes = end - start,
					 .trace = trace };
	uintptr_t at, stop = end;
	char path[PATH_MAX];
	struct scratch scratch;
	uint64_t off, until;
	enum reason why;
	struct stat st;
	struct area *a;
	struct vma v;
	int err = 0;

	if (scratch_open(&scratch) < 0)
		return;
	for (at = start; !err && (a = areas_first(&space.areas, at, end)); at = stop) {
		stop = a->end;
		off = a->off;
		if (a->seg || fstat(a->file->fd, &st) < 0)
			continue;
		until = MIN(off + (stop - a->start), page_up((uint64_t)st.st_size));
		if (off >= until ||
		    stage_vma_at(a->start, &v, path, sizeof(path), &scratch) < 0 ||
		    !(v.flags & VMA_WRITE))
			continue;
		err = stage_range(&v, path, off, until, &ctx, &scratch, &why);
		if (err)
			say(EV_REFUSE, &ctx, path, off, 0, why, err);
	}
	scratch_close(&scratch);
}
