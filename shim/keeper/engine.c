/* SPDX-License-Identifier: MIT */
/*
 * The sync engine. A page that differs from its base is copied to a private buffer, digested
 * there and written from there: what becomes the base is what the file got, even while a device
 * keeps writing to the page. Neighbours go out in one write.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/newer.h"
#include "common/probe.h"
#include "keeper/digest.h"
#include "keeper/keeper.h"
#include "keeper/parts.h"

#define PAGE_MOST  65536 /* with larger ones nothing is compared */
#define RUN_BYTES  (1UL << 20)
#define PART_BYTES (16UL << 20) /* what is worth a thread */
#define AT_ONCE	   1024		/* pages, a few milliseconds */
#define SPAN_PAGES 2048		/* that are looked at for one batch */
/* The folios of the page cache become as large as the writes that make them, and ext4 looks at
 * each block of a folio when one of them is written. A write is a run of its own: the file may
 * have been cut since the last one. */
#define WRITE_MOST (256UL << 10)

static __thread unsigned char bounce[RUN_BYTES];
static __thread unsigned char copy[PAGE_MOST], file[PAGE_MOST]; /* pages to be compared */

/* Dirty pages in the bounce buffer, in the order of the file. To take our turn and to look at
 * the file's times costs as much as to write a page: it is done once for all of them. */
struct batch {
	struct segment *g;
	unsigned n;
	uint64_t page[RUN_BYTES / 4096];
	struct ledger_base digest[RUN_BYTES / 4096];
};

static bool same(struct ledger_base a, struct ledger_base b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

/* Not by fstat(), which asks for the times, too: since Linux 6.13 the next write then gets one
 * of its own, and the inode is written for it. */
static int file_size(const struct stage *s, uint64_t *ret)
{
	struct statx sx;
	struct stat st;

	if (statx(s->fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx) == 0) {
		*ret = sx.stx_size;
		return 0;
	}
	if (fstat(s->fd, &st) < 0) /* a filter may know that one only */
		return -errno;
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* A description that is the program's, too, for want of one of our own, may be in append mode
 * by now. */
static bool writes_in_place(const struct stage *s)
{
	const int flags = s->aside > 0 ? 0 : fcntl(s->fd, F_GETFL);

	return flags < 0 || !(flags & (O_APPEND | O_DIRECT));
}

/* Or come to be from one moment to the next. */
static ssize_t write_in_place(const struct stage *s, const unsigned char *from, size_t len,
			      off_t at)
{
	const struct iovec iov = { (void *)(uintptr_t)from, len };
	ssize_t n;

	if (s->aside > 0)
		return pwrite(s->fd, from, len, at);
	n = pwritev2(s->fd, &iov, 1, at, RWF_NOAPPEND);
	if (n >= 0 || (errno != EOPNOTSUPP && !wait_denied(-errno)))
		return n;
	if (writes_in_place(s)) /* that is all there is to say before Linux 6.9 */
		return pwrite(s->fd, from, len, at);
	errno = EACCES;
	return -1;
}

static int write_all(const struct stage *s, const unsigned char *from, uint64_t len,
		     uint64_t at)
{
	uint64_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write_in_place(s, from + done, len - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (uint64_t)n;
	}
	return 0;
}

/* Neighbours in the batch, [i, stop), in one write. Never beyond the end as it is now: staging
 * does not grow a file, nor bring back what was cut off. */
static int write_run(struct batch *b, unsigned i, unsigned stop)
{
	struct segment *g = b->g;
	const uint64_t page = page_size(), first = b->page[i];
	const uint64_t at = g->off + first * page;
	uint64_t size, end, pages;
	int err;

	err = file_size(g->stage, &size);
	if (err)
		return err;
	end = MIN(at + (stop - i) * page, MAX(size, at));
	pages = (end - at + page - 1) / page;
	/* Whoever goes on from here, after an error or with another keeper, cannot know what
	 * the file got, and memory may go back to what the base says. */
	memset(segment_flags(g) + first, LEDGER_UNKNOWN, pages);
	atomic_fetch_add(&g->stage->writes, 1);
	err = write_all(g->stage, bounce + i * page, end - at, at);
	for (uint64_t p = 0; p < pages && !err; p++) {
		ledger_bases(g->ledger)[first + p] = b->digest[i + p];
		segment_flags(g)[first + p] = LEDGER_PENDING;
	}
	return err;
}

static bool run_goes_on(const struct batch *b, unsigned i)
{
	return i < b->n && b->page[i] == b->page[i - 1] + 1 &&
	       (b->g->off + b->page[i] * page_size()) % WRITE_MOST != 0;
}

static int write_runs(struct batch *b)
{
	unsigned i, stop;
	int err = 0;

	for (i = 0; i < b->n && !err; i = stop) {
		for (stop = i + 1; run_goes_on(b, stop); stop++)
			;
		err = write_run(b, i, stop);
	}
	return err;
}

/* What was written there may not be what the file has: it is written again. */
static void doubt(struct segment *g, uint64_t first, uint64_t last)
{
	uint8_t *flags = segment_flags(g);

	for (uint64_t p = first; p < last; p++)
		if (flags[p] & LEDGER_PENDING)
			flags[p] = LEDGER_UNKNOWN;
}

void engine_doubt(struct stage *s)
{
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		if (g->state != SEGMENT_FILLING)
			doubt(g, 0, segment_pages(g));
	s->unflushed = true;
}

/* The device need not wait for the flush. Nothing is waited for, so that the flush hears of
 * what fails later. What fails at once nobody else hears of: ext4 drops the pages that it has
 * no blocks for. So it has failed until the answer is there, also for who comes after us. */
static int begin_write_out(const struct batch *b)
{
	const uint64_t page = page_size(), first = b->page[0], last = b->page[b->n - 1] + 1;
	static __thread uint8_t before[SPAN_PAGES];
	uint8_t *flags = segment_flags(b->g) + first;
	int err;

	memcpy(before, flags, last - first);
	doubt(b->g, first, last);
	err = sync_file_range(b->g->stage->fd, (off_t)(b->g->off + first * page),
			      (off_t)((last - first) * page), SYNC_FILE_RANGE_WRITE) < 0
		      ? -errno
		      : 0;
	if (!err || wait_denied(err)) {
		memcpy(flags, before, last - first);
		return 0;
	}
	__atomic_store_n(&b->g->stage->unflushed, true, __ATOMIC_RELAXED); /* by any thread */
	return err;
}

/* `more`: to come. */
static int write_batch(struct batch *b, bool more)
{
	int err;

	if (b->n == 0)
		return 0;
	if (!writes_in_place(b->g->stage))
		return -EACCES;
	board_begin_write(b->g->stage);
	err = write_runs(b);
	board_end_write(b->g->stage);
	if (!err && more && b->g->stage->to_flush && !stage_is_filling(b->g->stage))
		err = begin_write_out(b);
	b->n = 0;
	return err;
}

/* Where the last page was dirty, the next one most likely is: it is copied at once, and
 * digested only there. */
static bool looks_clean(const struct segment *g, uint64_t p, const unsigned char *mem)
{
	return same(digest_page(mem, page_size(), g->ledger->seed), ledger_bases(g->ledger)[p]);
}

/* The program wrote to the file here, and the library the same to the memory: most likely they
 * agree, which is seen by looking. A write would fill a hole that was just punched. */
static bool file_agrees(struct segment *g, uint64_t p, const unsigned char *mem)
{
	const uint64_t page = page_size();
	ssize_t n;

	if (page > PAGE_MOST)
		return false;
	board_begin_read(g->stage);
	n = pread(g->stage->fd, file, page, (off_t)(g->off + p * page));
	board_end_read(g->stage);
	memcpy(copy, mem, page);
	if (n < 0 || memcmp(copy, file, (size_t)n) != 0)
		return false;
	ledger_bases(g->ledger)[p] = digest_page(copy, page, g->ledger->seed);
	segment_flags(g)[p] = LEDGER_PENDING;
	return true;
}

/* What was copied is not to grow old: a moment of scanning at most. */
static bool is_due(const struct batch *b, uint64_t p)
{
	return b->n && (b->n == RUN_BYTES / page_size() || p - b->page[0] >= SPAN_PAGES);
}

/* Pages [p, last) of the segment; *ret_dirty grows by the bytes that differed. */
static int sync_pages(struct segment *g, uint64_t p, uint64_t last, uint64_t *ret_dirty)
{
	const struct ledger_base *base = ledger_bases(g->ledger);
	const uint8_t *flags = segment_flags(g);
	const uint64_t page = page_size();
	static __thread struct batch b;
	bool unknown;
	int err;

	b.g = g;
	b.n = 0;
	for (; p < last; p++) {
		const unsigned char *mem = g->mem + p * page;
		const bool follows = b.n && b.page[b.n - 1] + 1 == p;
		unsigned char *to;

		if (is_due(&b, p)) {
			err = write_batch(&b, true);
			if (err)
				return err;
		}
		unknown = flags[p] & (LEDGER_UNKNOWN | LEDGER_COMPARE);
		if (flags[p] & LEDGER_COMPARE && file_agrees(g, p, mem))
			continue;
		if (!unknown && !follows && looks_clean(g, p, mem))
			continue;
		/* As after a truncation: what was cut off comes back as a hole. */
		if (!unknown && all_zero(mem, page) && file_agrees(g, p, mem))
			continue;
		to = bounce + b.n * page;
		memcpy(to, mem, page);
		b.digest[b.n] = digest_page(to, page, g->ledger->seed);
		if (!unknown && same(b.digest[b.n], base[p]))
			continue;
		b.page[b.n++] = p;
		*ret_dirty += page;
	}
	return write_batch(&b, false);
}

static unsigned parts_of(const struct segment *g, uint64_t pages)
{
	return g->stage->gently ? 1 : parts_worth(pages * page_size(), PART_BYTES);
}

static int sync_part(struct part *part)
{
	return sync_pages(part->of, part->first, part->last, &part->sum);
}

int engine_sync(struct segment *g, uint64_t off, uint64_t len)
{
	const uint64_t page = page_size();
	const uint64_t end = off + len < off ? UINT64_MAX : off + len;
	const uint64_t lo = MAX(off, g->off), stop = MIN(end, g->off + g->len);
	uint64_t size, hi, first, pages, dirty;
	int err;

	if (lo >= stop)
		return 0;
	err = file_size(g->stage, &size);
	if (err)
		return err;
	hi = MIN(stop, page_up(size));
	if (lo >= hi) {
		g->dirty = 0;
		return 0;
	}
	first = (lo - g->off) / page;
	pages = (hi - g->off + page - 1) / page - first;
	err = in_parts(g, sync_part, first, pages, parts_of(g, pages), &dirty);
	g->dirty = err ? MAX(dirty, page) : 0;
	g->changed += dirty;
	PROBE(sync, g->stage->key.ino, lo, hi - lo, dirty, err);
	return err;
}

/* Most pages have no flags: those are passed over many at a time. Whether any is still to be
 * written again: what is behind the end of the file is not. */
static bool settle(struct segment *g, int err, uint64_t size)
{
	const uint64_t pages = segment_pages(g), at_a_time = 512;
	uint8_t *flags = segment_flags(g);
	bool again = false;
	uint64_t stop;

	for (uint64_t p = 0; p < pages; p = stop) {
		stop = MIN(p + at_a_time, pages);
		if (all_zero(flags + p, stop - p))
			continue;
		for (; p < stop; p++) {
			if (flags[p] & LEDGER_PENDING)
				flags[p] = err ? LEDGER_UNKNOWN : flags[p] & LEDGER_COMPARE;
			again |= flags[p] & LEDGER_UNKNOWN && g->off + p * page_size() < size;
		}
	}
	return again;
}

void engine_flushing(struct stage *s, bool flushing)
{
	struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		g->ledger->flushing = flushing;
}

/* The kernel may drop pages whose write-back failed, and says so once: what was written since
 * the last success is then written again; also by who comes after us, if we die over it. A
 * success says nothing of those that were not written again before it.
 */
int engine_flush(struct stage *s)
{
	uint64_t size = UINT64_MAX;
	bool again = false;
	struct segment *g;
	int err;

	engine_flushing(s, true);
	err = fdatasync(s->fd) < 0 ? -errno : 0;
	(void)file_size(s, &size);
	LIST_FOREACH(g, &s->segments, link)
		if (g->state != SEGMENT_FILLING)
			again |= settle(g, err, size);
	s->unflushed = err || (s->unflushed && again);
	engine_flushing(s, false);
	return err;
}

/* Written through a description that is gone, which may have been the one to hear that the
 * device failed. What the file still has is written once more, for this one to hear of it; what
 * it has otherwise may be somebody else's. */
void engine_write_again(struct segment *g)
{
	const uint64_t page = page_size(), pages = segment_pages(g);
	ssize_t n;

	if (!writes_in_place(g->stage) || page > PAGE_MOST) {
		doubt(g, 0, pages);
		return;
	}
	for (uint64_t p = 0; p < pages; p++) {
		const off_t at = (off_t)(g->off + p * page);

		if (!(segment_flags(g)[p] & LEDGER_PENDING))
			continue;
		board_begin_write(g->stage);
		memcpy(copy, g->mem + p * page, page);
		n = pread(g->stage->fd, file, page, at);
		if (n > 0 && !memcmp(copy, file, (size_t)n) &&
		    write_all(g->stage, copy, (size_t)n, (uint64_t)at) < 0)
			segment_flags(g)[p] = LEDGER_UNKNOWN;
		board_end_write(g->stage);
	}
}

void engine_record_base(struct segment *g, uint64_t p)
{
	const uint64_t page = page_size();

	ledger_bases(g->ledger)[p] = digest_page(g->mem + p * page, page, g->ledger->seed);
}

static int record_part(struct part *part)
{
	for (uint64_t p = part->first; p < part->last; p++)
		engine_record_base(part->of, p);
	return 0;
}

void engine_record_bases_of(struct segment *g, const unsigned char *mem)
{
	const uint64_t page = page_size(), pages = segment_pages(g);

	for (uint64_t p = 0; p < pages; p++) {
		ledger_bases(g->ledger)[p] = digest_page(mem + p * page, page, g->ledger->seed);
		segment_flags(g)[p] &= LEDGER_UNKNOWN | LEDGER_PENDING;
	}
}

/* Whoever goes on from here with other memory sees in the ledger what the file has never had.
 */
void engine_mark_unwritten(struct segment *g)
{
	const uint64_t pages = segment_pages(g);

	for (uint64_t p = 0; p < pages; p++)
		if (!looks_clean(g, p, g->mem + p * page_size()))
			segment_flags(g)[p] = LEDGER_UNKNOWN;
}

void engine_record_bases(struct segment *g)
{
	const uint64_t pages = segment_pages(g);

	(void)in_parts(g, record_part, 0, pages, parts_of(g, pages), NULL);
	memset(segment_flags(g), 0, pages);
}

/*
 * The program wrote to the file here, and the library the same to the memory. Both are looked
 * at at once, as long as that is a matter of a moment: from then on what others write is theirs
 * again. False: not all of it was. *ret_differs: a write of ours came between, or a store of
 * the program's.
 */
bool engine_forget_bases(struct segment *g, uint64_t off, uint64_t len, bool *ret_differs)
{
	const uint64_t lo = MAX(off, g->off), page = page_size();
	uint8_t *flags = segment_flags(g);
	uint64_t end, hi, p, last;

	if (__builtin_add_overflow(off, len, &end))
		end = UINT64_MAX;
	hi = MIN(end, g->off + g->len);
	if (lo >= hi)
		return true;
	p = (lo - g->off) / page;
	last = (hi - g->off + page - 1) / page;
	for (uint64_t i = p; i < last; i++)
		if (!(flags[i] & LEDGER_UNKNOWN))
			flags[i] |= LEDGER_COMPARE; /* pending stays pending */
	board_begin_read(g->stage);		    /* once for all of them */
	for (uint64_t i = p; i < MIN(last, p + AT_ONCE); i++)
		if (flags[i] & LEDGER_COMPARE)
			*ret_differs |= !file_agrees(g, i, g->mem + i * page);
	board_end_read(g->stage);
	return last - p <= AT_ONCE;
}
