/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/digest.h"
#include "keeper/outsiders.h"

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

#define CHUNK (1UL << 20)

struct merge {
	struct segment *g;
	unsigned char *file; /* CHUNK bytes */
	unsigned char *old;  /* a page: memory's, which may change while it is compared */
	bool write_out;	     /* first: the file's times say that somebody stores to it */
	uint64_t conflicts, first_conflict;
};

/* What is not in the page cache already need not stay there for us. */
static ssize_t read_file(struct stage *s, void *buf, size_t len, uint64_t at)
{
	struct iovec iov = { buf, len };
	ssize_t n;

	board_begin_read(s);
	n = preadv2(s->fd, &iov, 1, (off_t)at, RWF_DONTCACHE);
	if (n < 0)
		n = pread(s->fd, buf, len, (off_t)at);
	board_end_read(s);
	return n;
}

/* What we wrote, and the device did not take, the kernel may have dropped: the file reads what
 * was there before then, which is nobody's change. Asked after the file was read. */
static bool was_dropped(struct segment *g, uint64_t p)
{
	const uint8_t *flags = segment_flags(g);

	if (flags[p] & LEDGER_PENDING)
		stage_hear(g->stage);
	return flags[p] & LEDGER_UNKNOWN;
}

static void copy_memory(struct merge *m, uint64_t p)
{
	memcpy(m->old, m->g->mem + p * page_size(), page_size());
}

/* `n` bytes of the file's page p differ from `old`. `file` has room for a page. */
static void merge_page(struct merge *m, uint64_t p, unsigned char *file, size_t n)
{
	struct segment *g = m->g;
	const size_t page = page_size();
	const struct ledger_base *base = &ledger_bases(g->ledger)[p];
	struct ledger_base now;
	const uint64_t seed = g->ledger->seed;

	/* What the program itself writes is brought into memory by the library. */
	if (segment_flags(g)[p] & (LEDGER_UNKNOWN | LEDGER_COMPARE))
		return;
	now = digest_page(m->old, page, seed);
	if (now.lo == base->lo && now.hi == base->hi) {
		if (was_dropped(g, p))
			return;
		/* Behind the end of the file memory has what the program stored there. */
		memcpy(file + n, m->old + n, page - n);
		words_take(g, p, m->old, file);
		return;
	}
	/* Memory behind the end of the file is in the base, too, and may be what changed. */
	if (!all_zero(m->old + n, page - n))
		return;
	memset(file + n, 0, page - n);
	now = digest_page(file, page, seed);
	if (now.lo == base->lo && now.hi == base->hi)
		return; /* only memory changed */
	/* Or the library is between writing the one and the other. */
	if (read_file(g->stage, file, page, g->off + p * page) != (ssize_t)n)
		return;
	copy_memory(m, p);
	if (memcmp(file, m->old, n) == 0)
		return;
	if (!m->conflicts++)
		m->first_conflict = g->off + p * page;
}

/* [p, last) of the segment's pages; whole chunks are read, and compared page by page. */
static void merge_pages(struct merge *m, uint64_t p, uint64_t last)
{
	const size_t page = page_size(), per_chunk = CHUNK / page;
	struct segment *g = m->g;
	uint64_t i, pages;
	size_t n, part;
	ssize_t got;

	while (p < last) {
		pages = MIN(last - p, (uint64_t)per_chunk);
		got = read_file(g->stage, m->file, pages * page, g->off + p * page);
		if (got <= 0)
			return;
		n = (size_t)got;
		for (i = 0; i < pages && i * page < n; i++) {
			part = MIN(page, n - i * page);
			copy_memory(m, p + i);
			if (memcmp(m->file + i * page, m->old, part) != 0)
				merge_page(m, p + i, m->file + i * page, part);
		}
		if (n < pages * page)
			return;
		p += pages;
	}
}

/* Not by the description whose errors fdatasync() is asked for: waiting takes them off it.
 * Written pages are write-protected: a store that comes after we have looked faults, and
 * changes the file's times once more. */
static void write_out(const struct merge *m, uint64_t p, uint64_t last)
{
	const size_t page = page_size();

	(void)stage_write_out(m->g->stage, m->g->off + p * page, (last - p) * page);
}

/* Only what the page cache holds. */
static void merge_resident(struct merge *m, uint64_t p, uint64_t last)
{
	const size_t page = page_size();
	const uint64_t pages = last - p;
	cleanup_free unsigned char *in = xcalloc(pages, 1);
	uint64_t from, to;
	void *map;
	int err;

	map = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, m->g->stage->fd,
		   (off_t)(m->g->off + p * page));
	if (map == MAP_FAILED)
		return;
	err = mincore(map, pages * page, in);
	munmap(map, pages * page);
	for (from = 0; !err && from < pages; from = to) {
		for (to = from; to < pages && in[to] & 1; to++)
			;
		if (to > from)
			merge_pages(m, p + from, p + to);
		for (; to < pages && !(in[to] & 1); to++)
			;
	}
}

void merge_outside(struct stage *s, enum touched how, uint64_t off, uint64_t len)
{
	const uint64_t end = off + len < off ? UINT64_MAX : off + len, page = page_size();
	uint64_t first, last;
	cleanup_free unsigned char *file = xcalloc(1, CHUNK);
	cleanup_free unsigned char *old = xcalloc(1, page);
	struct merge m = { .file = file, .old = old, .write_out = s->stored && s->gently };
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link) {
		const uint64_t lo = MAX(off, g->off), hi = MIN(end, g->off + g->len);

		if (g->state != SEGMENT_LIVE || lo >= hi)
			continue;
		m.g = g;
		first = (lo - g->off) / page;
		last = (hi - g->off + page - 1) / page;
		if (m.write_out)
			write_out(&m, first, last);
		if (how == TOUCHED_ANYWHERE)
			merge_pages(&m, first, last);
		else
			merge_resident(&m, first, last);
	}
	if (m.conflicts)
		keeper_say(
			"%s: changed by another process and in memory; memory's version is kept "
			"(pages: %lu, the first at offset %lu)",
			s->name, m.conflicts, m.first_conflict);
}
