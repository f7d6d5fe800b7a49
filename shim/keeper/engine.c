/* SPDX-License-Identifier: MIT */
/*
 * The sync engine. A page that differs from its base is copied to a private buffer, digested
 * there and written from there: what becomes the base is what the file got, even while a device
 * keeps writing to the page. Neighbours go out in one write.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "keeper/keeper.h"

#define RUN_BYTES (1UL << 20)

static __thread unsigned char bounce[RUN_BYTES];

struct run { /* neighbouring dirty pages in the bounce buffer */
	struct segment *g;
	uint64_t first, pages;
	struct ledger_base digest[RUN_BYTES / 4096];
};

static struct ledger_base digest(const struct segment *g, const void *page)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(page, page_size(), g->ledger->seed);

	return (struct ledger_base){ h.low64, h.high64 };
}

static bool same(struct ledger_base a, struct ledger_base b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

static int file_size(const struct stage *s, uint64_t *ret)
{
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return -errno;
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* Never beyond the end as it is now: staging does not grow a file, nor bring back what was cut
 * off. */
static int write_run(struct run *r)
{
	struct segment *g = r->g;
	const uint64_t page = page_size();
	const uint64_t at = g->off + r->first * page;
	uint64_t size, end, done = 0, pages, i;
	ssize_t n;
	int err;

	if (r->pages == 0)
		return 0;
	err = file_size(g->stage, &size);
	if (err)
		return err;
	end = MIN(at + r->pages * page, MAX(size, at));
	pages = (end - at + page - 1) / page;
	/* Whoever goes on from here, after an error or with another keeper, cannot know what
	 * the file got, and memory may go back to what the base says. */
	memset(segment_flags(g) + r->first, LEDGER_UNKNOWN, pages);
	while (at + done < end) {
		n = pwrite(g->stage->fd, bounce + done, end - at - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (uint64_t)n;
	}
	for (i = 0; i < pages; i++) {
		ledger_bases(g->ledger)[r->first + i] = r->digest[i];
		segment_flags(g)[r->first + i] = LEDGER_PENDING;
	}
	r->pages = 0;
	return 0;
}

/* Writes what changed in [off, off+len) of the file, as far as the segment covers it. */
int engine_sync(struct segment *g, uint64_t off, uint64_t len)
{
	const uint64_t page = page_size(), per_run = RUN_BYTES / page;
	const uint64_t end = off + len < off ? UINT64_MAX : off + len;
	const uint64_t lo = MAX(off, g->off), hi = MIN(end, g->off + g->len);
	struct ledger_base *base = ledger_bases(g->ledger);
	uint8_t *flags = segment_flags(g);
	static __thread struct run run;
	uint64_t p, last, size, dirty = 0;
	int err;

	if (lo >= hi)
		return 0;
	err = file_size(g->stage, &size);
	if (err)
		return err;
	run.g = g;
	run.pages = 0;
	last = (hi - g->off + page - 1) / page;
	for (p = (lo - g->off) / page; p < last && g->off + p * page < size; p++) {
		const unsigned char *mem = g->mem + p * page;

		if (!(flags[p] & LEDGER_UNKNOWN) && same(digest(g, mem), base[p]))
			continue;
		if (run.pages == per_run || (run.pages && run.first + run.pages != p)) {
			err = write_run(&run);
			if (err)
				break;
		}
		if (run.pages == 0)
			run.first = p;
		memcpy(bounce + run.pages * page, mem, page);
		run.digest[run.pages] = digest(g, bounce + run.pages * page);
		run.pages++;
		dirty += page;
	}
	if (!err)
		err = write_run(&run);
	g->dirty = err ? MAX(dirty, page) : 0;
	return err;
}

static void settle(struct segment *g, int err)
{
	const uint64_t pages = segment_pages(g);
	uint8_t *flags = segment_flags(g);

	for (uint64_t p = 0; p < pages; p++)
		if (flags[p] & LEDGER_PENDING)
			flags[p] = err ? LEDGER_UNKNOWN : 0;
}

/* The kernel may drop pages whose write-back failed: what was written since the last success is
 * then written again. */
int engine_flush(struct stage *s)
{
	struct segment *g;
	int err = fdatasync(s->fd) < 0 ? -errno : 0;

	LIST_FOREACH(g, &s->segments, link)
		if (g->state != SEGMENT_FILLING)
			settle(g, err);
	return err;
}

void engine_record_bases(struct segment *g)
{
	const uint64_t page = page_size(), pages = segment_pages(g);
	struct ledger_base *base = ledger_bases(g->ledger);

	for (uint64_t p = 0; p < pages; p++)
		base[p] = digest(g, g->mem + p * page);
	memset(segment_flags(g), 0, pages);
}

void engine_forget_bases(struct segment *g, uint64_t off, uint64_t len)
{
	const uint64_t lo = MAX(off, g->off), page = page_size();
	uint64_t end, hi;

	if (__builtin_add_overflow(off, len, &end))
		end = UINT64_MAX;
	hi = MIN(end, g->off + g->len);
	if (lo < hi)
		memset(segment_flags(g) + (lo - g->off) / page, LEDGER_UNKNOWN,
		       (hi - g->off + page - 1) / page - (lo - g->off) / page);
}
