/* SPDX-License-Identifier: MIT */
/*
 * Before a segment is in force, nobody may hold the file's old pages: whoever does would go on
 * reading or writing what nobody else sees. The program's own mappings are behind the curtain.
 *
 *   evict_clean()   writes the dirty pages. Whatever writes to an old page from now on (direct
 *                   I/O that was under way) leaves it dirty, or still referenced.
 *   ... the program copies the content, and says how far it is ...
 *   evict_copied()  evicts that, and records it.
 *   evict_commit()  evicts all, and records the rest. What stayed is dirty or referenced: it
 *                   is waited for, evicted, and copied and recorded once more. What does not go
 *                   away in time has a lasting holder.
 *
 * The first eviction must not write: what is dirty may be what came after it was copied, and
 * would go with the rest as soon as it is clean. posix_fadvise() begins with writing; reclaim
 * (MADV_PAGEOUT) leaves alone what is dirty or referenced. (docs/reliability.md)
 *
 * The page cache keeps and drops whole folios. A folio that reaches beyond the segment goes
 * only if the window that is evicted covers it: the client says how far it drew its curtain.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/newer.h"
#include "keeper/keeper.h"
#include "keeper/parts.h"

#define PART_BYTES (4UL << 20)	/* what is worth a thread */
#define AROUND	   (64UL << 10) /* what is mapped with a page, unless set otherwise */

static void *map_file(const struct segment *g, uint64_t off, uint64_t len)
{
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, stage_aside(g->stage), (off_t)off);

	if (map != MAP_FAILED)
		(void)madvise(map, len, MADV_RANDOM); /* no reading ahead */
	return map;
}

/* sync_file_range() does nothing on overlayfs, whose pages belong to another inode. What is
 * written here may be what was synced to the file beside the segment. */
static int write_out(const struct segment *g, void *map, const struct window *w)
{
	int err;

	if (!g->stage->overlay)
		return stage_write_out(g->stage, w->off, w->len);
	stage_wait_begins(g->stage);
	err = msync(map, w->len, MS_SYNC) < 0 ? -errno : 0;
	stage_wait_ends(g->stage, err);
	return err;
}

static void begin(struct segment *g)
{
	if (!g->stayed) /* or there was an attempt before */
		g->stayed = xcalloc(segment_pages(g), 1);
}

/* Pages that are resident: mincore() tells those who may write the file. */
static ssize_t count_resident(void *map, uint64_t pages, unsigned char *now)
{
	ssize_t n = 0;

	if (mincore(map, pages * page_size(), now) < 0)
		return -errno;
	for (uint64_t p = 0; p < pages; p++)
		n += now[p] & 1;
	return n;
}

/* Marks the pages of the segment that are resident still: they are copied again whenever they
 * are gone. Returns how many. */
static ssize_t mark_stayed(struct segment *g, void *map, unsigned char *now)
{
	const uint64_t pages = segment_pages(g);
	const ssize_t n = count_resident(map, pages, now);

	for (uint64_t p = 0; p < pages && n > 0; p++)
		g->stayed[p] |= now[p] & 1;
	return n;
}

/* It cleans what direct I/O has left dirty since it was copied: all that is there now is copied
 * again. */
void evict_before_flush(struct segment *g)
{
	const uint64_t pages = segment_pages(g);
	cleanup_free unsigned char *now = xcalloc(pages, 1);
	void *map;

	if (!g->stayed)
		return; /* and nothing was copied */
	map = map_file(g, g->off, g->len);
	if (map == MAP_FAILED || mark_stayed(g, map, now) < 0)
		memset(g->stayed, 1, pages);
	if (map != MAP_FAILED)
		munmap(map, g->len);
}

/* What is written and evicted around this one may be what another one is filled from. */
static void remember_others(const struct segment *g)
{
	struct segment *o;

	LIST_FOREACH(o, &g->stage->segments, link)
		if (o != g && o->state == SEGMENT_FILLING)
			evict_before_flush(o);
}

int evict_clean(struct segment *g, const struct window *w)
{
	void *map = map_file(g, w->off, w->len);
	int err;

	if (map == MAP_FAILED)
		return -errno;
	begin(g);
	remember_others(g);
	err = write_out(g, map, w);
	munmap(map, w->len);
	return err;
}

/* What the page cache holds of [at, at + len). The kernel maps what lies around a page with it
 * (fault_around_bytes): from the last multiple of that on, or from the mapping's start, so that
 * it is the last page which is asked for. All that takes a third of what it takes to ask for
 * each. */
static void map_resident(char *at, size_t len, size_t around)
{
	const size_t page = page_size();
	char *const end = at + len, *stop;

	for (; at < end; at = stop) {
		stop = at + (around - (uintptr_t)at % around);
		stop = MIN(stop, end);
		(void)madvise(stop - page, page, MADV_POPULATE_READ);
	}
}

static void page_out_runs(char *map, uint64_t pages, const unsigned char *now, size_t around)
{
	const size_t page = page_size();
	uint64_t p, end;

	for (p = 0; p < pages; p = end) {
		for (end = p; end < pages && now[end] & 1; end++)
			;
		if (end > p) {
			map_resident(map + p * page, (end - p) * page, around);
			(void)madvise(map + p * page, (end - p) * page, MADV_PAGEOUT);
		}
		for (; end < pages && !(now[end] & 1); end++)
			;
	}
}

/* Reclaims what is clean and what nobody holds, by mapping it: not even we may go on to.
 * Returns how many pages stayed, and in `now` which. */
static ssize_t page_out(char *map, uint64_t pages, unsigned char *now, size_t around)
{
	ssize_t n = count_resident(map, pages, now);

	if (n <= 0)
		return n;
	page_out_runs(map, pages, now, around);
	return count_resident(map, pages, now);
}

/* Where folios reach beyond what was to go, or pages are not mapped with what lies around them.
 * Others of the neighbourhood may go, too: they are only read again. */
static void page_out_around(struct segment *g, uint64_t off, uint64_t len)
{
	const uint64_t lo = off - MIN(off, LARGEST_FOLIO);
	cleanup_free unsigned char *now = NULL;
	struct stat st;
	uint64_t hi;
	char *map;

	if (fstat(g->stage->fd, &st) < 0)
		return;
	hi = MIN(off + len + LARGEST_FOLIO, MAX(page_up((uint64_t)st.st_size), off + len));
	map = map_file(g, lo, hi - lo);
	if (map == MAP_FAILED)
		return;
	now = xcalloc((hi - lo) / page_size(), 1);
	(void)page_out(map, (hi - lo) / page_size(), now, page_size());
	munmap(map, hi - lo);
}

struct eviction {
	struct segment *g;
	const struct window *w;
	char *map;	    /* of the window */
	unsigned char *now; /* per page of the window: what mincore() says */
	ssize_t left;	    /* pages of the segment, after the last one; or -errno */
};

/* A folio may reach beyond the end of the file since that was cut, where nobody has anything: a
 * window up to the end stands for all that comes. 0 means that, too. */
static off_t reach(const struct eviction *e)
{
	struct stat st;

	if (fstat(e->g->stage->fd, &st) == 0 &&
	    e->w->off + e->w->len >= page_up((uint64_t)st.st_size))
		return 0;
	return (off_t)e->w->len;
}

static ssize_t look(const struct eviction *e)
{
	return mark_stayed(e->g, e->map + (e->g->off - e->w->off), e->now);
}

static ssize_t evict(const struct eviction *e)
{
	int err =
		posix_fadvise(e->g->stage->fd, (off_t)e->w->off, reach(e), POSIX_FADV_DONTNEED);

	return err ? -err : look(e);
}

/* By way of the mapping: on xfs a read() waits for a write() under way, which may itself wait,
 * for whoever is behind the curtain. Not by looking through it, for the file may be cut. */
static ssize_t read_page(const struct segment *g, const char *map, uint64_t p, void *page)
{
	const size_t size = page_size();
	struct iovec to = { page, size }, from = { (void *)(uintptr_t)(map + p * size), size };

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)size)
		return (ssize_t)size;
	return pread(g->stage->fd, page, size, (off_t)(g->off + p * size));
}

/* `map` is of the segment. */
static int copy_again(struct segment *g, const char *map, uint64_t p, unsigned char *page)
{
	const size_t size = page_size();

	memset(page, 0, size);
	if (read_page(g, map, p, page) < 0)
		return -errno;
	if (!memcmp(g->mem + p * size, page, size))
		return 0;
	return pwrite(g->memfd, page, size, (off_t)(p * size)) == (ssize_t)size ? 0 : -EIO;
}

static size_t around(void)
{
	return MAX(AROUND, page_size());
}

static int evict_part(struct part *part)
{
	const struct eviction *e = part->of;
	const uint64_t before = (e->g->off - e->w->off) / page_size();

	(void)page_out(e->map + (before + part->first) * page_size(), part->last - part->first,
		       e->now + before + part->first, around());
	for (uint64_t p = part->first; p < part->last; p++) {
		e->g->stayed[p] |= e->now[before + p] & 1;
		engine_record_base(e->g, p);
	}
	return 0;
}

/* In parts; what stayed may be of a folio that reaches into another one, or beyond them all. */
static void evict_and_record(struct eviction *e)
{
	const uint64_t pages = segment_pages(e->g), left = pages - e->g->recorded;

	(void)in_parts(e, evict_part, e->g->recorded, left,
		       parts_worth(left * page_size(), PART_BYTES), NULL);
	memset(segment_flags(e->g), 0, pages);
	e->left = count_resident(e->map, e->w->len / page_size(), e->now);
	if (e->left <= 0)
		return;
	(void)madvise(e->map, e->w->len, MADV_DONTNEED);
	page_out_around(e->g, e->w->off, e->w->len);
	e->left = look(e);
}

/* Old pages stay for a moment when direct I/O is under way, for ever under somebody's mapping
 * or pin. */
static int wait_until_evicted(struct eviction *e)
{
	struct timespec pause = { .tv_nsec = 1000 * 1000 };
	const uint64_t until = now_ms() + e->w->patience_ms;
	int err;

	while (e->left > 0) {
		remember_others(e->g);
		err = write_out(e->g, e->map, e->w);
		if (err)
			return err;
		e->left = evict(e);
		if (e->left > 0 && now_ms() > until)
			return -EBUSY;
		if (e->left > 0)
			nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec * 2, 50 * 1000 * 1000L);
	}
	return (int)e->left;
}

static int copy_what_stayed(struct segment *g, const char *map)
{
	const uint64_t pages = segment_pages(g);
	cleanup_free unsigned char *page = xcalloc(1, page_size());
	int err = 0;

	for (uint64_t p = 0; p < pages && !err; p++) {
		if (!g->stayed[p])
			continue;
		err = copy_again(g, map, p, page);
		engine_record_base(g, p);
	}
	return err;
}

/* Whether something has arrived in these pages that is not on the device yet. */
static bool may_be_dirty(const struct segment *g, uint64_t first, uint64_t last)
{
	const uint64_t page = page_size();
	const struct {
		uint64_t off, len;
	} range = { g->off + first * page, (last - first) * page };
	struct {
		uint64_t cache, dirty, writeback, evicted, evicted_lately;
	} is = { 0 };

	/* The pages are another inode's there; or a kernel before 6.5. */
	if (g->stage->overlay || syscall(SYS_cachestat, g->stage->fd, &range, &is, 0) < 0)
		return true;
	return is.dirty || is.writeback;
}

/* While the rest is still copied. What stays at the end may be of a folio that reaches into the
 * next part, and goes with that. */
void evict_copied(struct segment *g, uint64_t off, uint64_t len)
{
	const uint64_t page = page_size(), first = g->recorded;
	const uint64_t at = g->off + first * page;
	cleanup_free unsigned char *now = NULL;
	uint64_t pages, end;
	char *map;

	if (off % page || len % page || off < g->off || off > at ||
	    len > g->off + g->len - off || off + len <= at)
		return;
	begin(g);
	pages = (off + len - at) / page;
	map = map_file(g, at, pages * page);
	if (map == MAP_FAILED)
		return;
	now = xcalloc(pages, 1);
	if (page_out(map, pages, now, around()) < 0)
		memset(now, 1, pages);
	end = pages;
	while (pages && now[pages - 1] & 1)
		pages--;
	/* Of a folio that goes with the next part, unless it came to be dirty: somebody may
	 * clean it before that. */
	if (may_be_dirty(g, first + pages, first + end))
		memset(g->stayed + first + pages, 1, end - pages);
	for (uint64_t p = 0; p < pages; p++) {
		g->stayed[first + p] |= now[p] & 1;
		engine_record_base(g, first + p);
	}
	munmap(map, off + len - at);
	g->recorded = first + pages;
}

int evict_commit(struct segment *g, const struct window *w)
{
	cleanup_free unsigned char *now = xcalloc(w->len / page_size(), 1);
	struct eviction e = { g, w, map_file(g, w->off, w->len), now, 0 };
	int err;

	if (e.map == MAP_FAILED)
		return -errno;
	begin(g);
	evict_and_record(&e);
	err = wait_until_evicted(&e);
	if (!err)
		err = copy_what_stayed(g, e.map + (g->off - w->off));
	munmap(e.map, w->len);
	if (!err) {
		free(g->stayed);
		g->stayed = NULL;
	}
	return err;
}
