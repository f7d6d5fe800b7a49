/* SPDX-License-Identifier: MIT */
#include "lib/keeper.h"
#include "lib/record.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/probe.h"
#include "lib/modules.h"
#include "lib/mounts.h"
#include "lib/sites.h"
#include "lib/who.h"

#define TEXT_MOST   (2UL * LOG_LINE_MOST)
#define STACK_MOST  512
#define MOUNT_WORDS (16UL * 1024)
#define SCAN_BUFFER (64UL * 1024)

void record_start(bool arguments)
{
	if (!log_wanted())
		return;
	who_start(arguments);
	trace_prepare();
	sites_counting = true;
}

void record_after_fork(void)
{
	who_after_fork();
	sites_forget();
}

/* Stagings are told apart by what was staged, too; and each is what was asked for only once. */
static uint64_t key_of(const struct record *r)
{
	const struct pin_context *c = r->ctx;
	const uint64_t what[] = { r->kind, r->why, (uint64_t)c->err,
				  r->kind == EV_STAGE ? r->off : 0,
				  r->kind == EV_STAGE ? r->len : 0 };
	uint64_t key = hash_bytes(HASH_SEED, what, sizeof(what));

	key = hash_bytes(key, c->call, strlen(c->call));
	if (r->path)
		key = hash_bytes(key, r->path, strlen(r->path));
	return c->trace ? trace_hash(key, c->trace) : key;
}

struct text {
	char *buf;
	size_t len;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->len, TEXT_MOST - t->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len = MIN(t->len + (size_t)n, TEXT_MOST - 1);
}

static void add_call(struct text *t, const struct pin_context *c)
{
	add(t, "call=%s addr=%#lx len=%zu ranges=%zu bytes=%zu ", c->call, c->addr, c->len,
	    c->ranges, c->bytes);
	if (c->has_access)
		add(t, "access=%#x iova=%#lx ", c->access, c->iova);
	add(t, "errno=%d ", -c->err);
}

static void add_file(struct text *t, const struct record *r, struct scratch *scratch)
{
	char name[512], point[512];
	struct mount m = { "", "" };
	char *words = scratch_get(scratch, MOUNT_WORDS);

	if (words)
		mount_of(r->path, &m, words, MOUNT_WORDS);
	add(t, "file=\"%s\" fs=%s mount=\"%s\" ", log_escape(name, sizeof(name), r->path),
	    *m.fs ? m.fs : "unknown", log_escape(point, sizeof(point), m.point));
}

struct details {
	uintptr_t addr;
	unsigned flags;
};

static int details_each(const struct vma *v, const char *path, void *arg)
{
	struct details *d = arg;

	(void)path;
	if (v->end <= d->addr)
		return 0;
	d->flags = v->start <= d->addr ? v->flags : 0;
	return 1;
}

/* What only smaps knows: it is long, and read for lines of the log alone. */
static unsigned details(const struct vma *v, struct scratch *scratch)
{
	struct details d = { .addr = v->start };
	char *buf = NULL;

	if (!(v->flags & VMA_ASKED))
		buf = scratch_get(scratch, SCAN_BUFFER);
	if (buf)
		(void)vmas_scan(VMAS_SMAPS, buf, SCAN_BUFFER, details_each, &d, NULL);
	return v->flags | d.flags;
}

static void add_mapping(struct text *t, const struct vma *v, struct scratch *scratch)
{
	static const struct {
		unsigned flag;
		const char *name;
	} more[] = { { VMA_LOCKED, ",locked" },
		     { VMA_DONTFORK, ",dontfork" },
		     { VMA_UFFD, ",userfaultfd" } };
	const unsigned flags = details(v, scratch);

	add(t, "mapping=%#lx-%#lx at=%lu flags=%c%c%c%c", v->start, v->end, v->off,
	    v->flags & VMA_READ ? 'r' : '-', v->flags & VMA_WRITE ? 'w' : '-',
	    v->flags & VMA_EXEC ? 'x' : '-', v->flags & VMA_SHARED ? 's' : 'p');
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		if (flags & more[i].flag)
			add(t, "%s", more[i].name);
	add(t, " ");
}

/* At the end of the line, where it may be cut off. */
static void add_stacks(struct text *t, const struct record *r, struct scratch *scratch)
{
	struct area *a = r->v ? areas_first(&space.areas, r->v->start, r->v->end) : NULL;
	const struct trace *made = trace_kept(a ? a->made : 0);
	const struct trace *both[] = { r->ctx->trace, made };
	struct modules *ms = scratch_get(scratch, sizeof(*ms));
	char stack[STACK_MOST], *names = scratch_get(scratch, TEXT_MOST);

	if (!ms || !names || !r->ctx->trace || modules_find(ms, both, 2, scratch) < 0)
		return;
	modules_print_trace(stack, sizeof(stack), ms, r->ctx->trace);
	add(t, " stack=\"%s\"", stack);
	modules_print_trace(stack, sizeof(stack), ms, made);
	add(t, " mmap_stack=\"%s\"", stack);
	modules_print(names, TEXT_MOST, ms);
	add(t, " modules=\"%s\"", names);
}

static void add_who(struct text *t)
{
	who_print(t->buf + t->len, TEXT_MOST - t->len);
	t->len += strlen(t->buf + t->len);
}

static void say_all(const struct record *r, uint64_t key, struct scratch *scratch)
{
	struct text t = { .buf = scratch_get(scratch, TEXT_MOST) };

	if (!t.buf)
		return;
	*t.buf = '\0';
	add(&t, "site=%016lx ", key);
	add_call(&t, r->ctx);
	if (r->path)
		add_file(&t, r, scratch);
	if (r->len)
		add(&t, "offset=%lu staged=%lu places=%zu ", r->off, r->len, r->places);
	else if (r->path)
		add(&t, "offset=%lu ", r->off);
	if (r->kind == EV_STAGE)
		add(&t, "fate=%s ", keeper_fate_shared() ? "shared" : "own");
	if (r->v)
		add_mapping(&t, r->v, scratch);
	if (r->why != REASON_NONE)
		add(&t, "cause=%d reason=\"%s\" remedy=\"%s\" ", -r->cause, reason_text(r->why),
		    reason_remedy(r->why));
	add_who(&t);
	add_stacks(&t, r, scratch);
	log_event(r->kind, "%s", t.buf);
}

static void say_briefly(const struct record *r)
{
	char name[512];

	log_event(
		r->kind,
		"call=%s file=\"%s\" addr=%#lx len=%zu errno=%d cause=%d reason=\"%s\" remedy=\"%s\"",
		r->ctx->call, log_escape(name, sizeof(name), r->path ? r->path : ""),
		r->ctx->addr, r->ctx->len, -r->ctx->err, -r->cause, reason_text(r->why),
		reason_remedy(r->why));
}

/* Of refusals of more kinds than are kept apart, one in a second. */
static bool refusal_is_due(uint64_t now)
{
	static _Atomic(uint64_t) last;
	uint64_t was = last;

	return (was == 0 || now - was >= 1000000000ULL) &&
	       atomic_compare_exchange_strong(&last, &was, now);
}

static bool to_be_written(const struct record *r, uint64_t key)
{
	const uint64_t now = log_now();
	const uint64_t bytes = r->len ? r->len : r->ctx->bytes;

	switch (sites_note(key, bytes, now, r->kind == EV_STAGE ? SITES_STAGES : SITES_MOST)) {
	case SITE_FIRST:
		return true;
	case SITE_LEFT_OUT:
		return r->kind == EV_REFUSE && refusal_is_due(now);
	case SITE_AGAIN:
		break;
	}
	return false;
}

void record_say(const struct record *r, struct scratch *scratch)
{
	const uint64_t key = key_of(r);
	const int saved = errno;
	struct scratch own;
	size_t mark;

	if (r->kind == EV_REFUSE)
		PROBE(refuse, r->ctx->call, r->ctx->addr, reason_text(r->why), r->cause);
	if (r->kind != EV_REFUSE && !log_wanted())
		return;
	if (!to_be_written(r, key)) {
		errno = saved;
	} else if (log_wanted() && scratch) {
		mark = scratch->used;
		say_all(r, key, scratch);
		scratch->used = mark;
	} else if (log_wanted() && scratch_open(&own) == 0) {
		say_all(r, key, &own);
		scratch_close(&own);
	} else {
		say_briefly(r);
	}
	errno = saved;
}

/* In a child that shares our memory (vfork) they are its parent's. */
void record_end(void)
{
	char first[LOG_TIME_SIZE], last[LOG_TIME_SIZE], name[512];
	uint64_t all = 0, bytes = 0;
	const struct site *s;
	unsigned i = 0, n = 0;

	if (!sites_counting || !space_is_ours())
		return;
	who_print_name(name, sizeof(name));
	while ((s = sites_next(&i))) {
		n++;
		all += s->n;
		bytes += s->bytes;
		if (s->n > 1)
			log_event(EV_AGAIN, "%s site=%016lx n=%lu bytes=%lu first=%s last=%s",
				  name, s->key, s->n, s->bytes, log_time(first, s->first),
				  log_time(last, s->last));
	}
	if (all || sites_fine || sites_left_out())
		log_event(EV_COUNT,
			  "%s sites=%u offenders=%lu bytes=%lu left_out=%lu fine=%lu "
			  "lost=%lu",
			  name, n, all, bytes, sites_left_out(), sites_fine, log_lost());
}
