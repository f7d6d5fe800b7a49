/* SPDX-License-Identifier: MIT */
/*
 * Before a segment is in force, nobody may hold the file's old pages: whoever does would go on
 * reading or writing what nobody else sees. The program's own mappings are behind the curtain.
 *
 *   evict_clean()   writes the dirty pages. Whatever writes to an old page from now on (direct
 *                   I/O that was under way) leaves it dirty, or still referenced.
 *   ... the program copies the content ...
 *   evict_commit()  evicts, and records what was copied. What stays is dirty or referenced: it
 *                   is waited for, evicted, and copied and recorded once more. What does not go
 *                   away in time has a lasting holder.
 *
 * The page cache keeps and drops whole folios. A folio that reaches beyond the segment goes
 * only if the window that is evicted covers it: the client says how far it drew its curtain.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"

#define LARGE (16UL << 20) /* what is worth a thread */

/* Never touched, only asked about: mincore() tells those who may write the file. */
static void *map_file(const struct segment *g, const struct window *w)
{
	return mmap(NULL, w->len, PROT_READ, MAP_SHARED, g->stage->fd, (off_t)w->off);
}

/* sync_file_range() does nothing on overlayfs, whose pages belong to another inode. */
static int write_out(const struct segment *g, void *map, const struct window *w)
{
	const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			     SYNC_FILE_RANGE_WAIT_AFTER;

	if (g->stage->overlay)
		return msync(map, w->len, MS_SYNC) < 0 ? -errno : 0;
	return sync_file_range(g->stage->fd, (off_t)w->off, (off_t)w->len, all) < 0 ? -errno
										    : 0;
}

int evict_clean(struct segment *g, const struct window *w)
{
	void *map = map_file(g, w);
	int err;

	if (map == MAP_FAILED)
		return -errno;
	err = write_out(g, map, w);
	munmap(map, w->len);
	return err;
}

struct eviction {
	struct segment *g;
	const struct window *w;
	char *map;	       /* of the window */
	unsigned char *now;    /* per page of the segment: what mincore() says */
	unsigned char *stayed; /* 1: was still there after an eviction */
	ssize_t left;	       /* pages, after the last one; or -errno */
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

/* Evicts the window; the number of the segment's pages that are resident still, or -errno. */
static ssize_t evict(const struct eviction *e)
{
	const uint64_t pages = segment_pages(e->g);
	int err =
		posix_fadvise(e->g->stage->fd, (off_t)e->w->off, reach(e), POSIX_FADV_DONTNEED);
	ssize_t n = 0;

	if (err)
		return -err;
	if (mincore(e->map + (e->g->off - e->w->off), e->g->len, e->now) < 0)
		return -errno;
	for (uint64_t p = 0; p < pages; p++) {
		if (e->now[p] & 1) {
			e->stayed[p] = 1;
			n++;
		}
	}
	return n;
}

static int copy_again(struct segment *g, uint64_t p, unsigned char *page)
{
	const size_t size = page_size();
	ssize_t n;

	memset(page, 0, size);
	n = pread(g->stage->fd, page, size, (off_t)(g->off + p * size));
	if (n < 0)
		return -errno;
	if (!memcmp(g->mem + p * size, page, size))
		return 0;
	return pwrite(g->memfd, page, size, (off_t)(p * size)) == (ssize_t)size ? 0 : -EIO;
}

static void *evict_first(void *arg)
{
	struct eviction *e = arg;

	e->left = evict(e);
	return NULL;
}

/* Of a large segment the one beside the other. */
static void evict_and_record(struct eviction *e)
{
	pthread_t thread;
	bool beside;

	beside = e->g->len >= LARGE && pthread_create(&thread, NULL, evict_first, e) == 0;
	if (!beside)
		evict_first(e);
	engine_record_bases(e->g);
	if (beside)
		pthread_join(thread, NULL);
}

/* Old pages stay for a moment when direct I/O is under way, for ever under somebody's mapping
 * or pin. */
static int wait_until_evicted(struct eviction *e)
{
	struct timespec pause = { .tv_nsec = 1000 * 1000 };
	const uint64_t until = now_ms() + e->w->patience_ms;
	int err;

	while (e->left > 0) {
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

int evict_commit(struct segment *g, const struct window *w)
{
	const uint64_t pages = segment_pages(g);
	cleanup_free unsigned char *now = xcalloc(pages, 1);
	cleanup_free unsigned char *stayed = xcalloc(pages, 1);
	cleanup_free unsigned char *page = xcalloc(1, page_size());
	struct eviction e = { g, w, map_file(g, w), now, stayed, 0 };
	int err;

	if (e.map == MAP_FAILED)
		return -errno;
	evict_and_record(&e);
	err = wait_until_evicted(&e);
	munmap(e.map, w->len);
	for (uint64_t p = 0; p < pages && !err; p++) {
		if (!stayed[p])
			continue;
		err = copy_again(g, p, page);
		engine_record_base(g, p);
	}
	return err;
}
