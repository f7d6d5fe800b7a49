/* SPDX-License-Identifier: MIT */
/*
 * Before a segment is in force, nobody may hold the file's old pages: whoever does would go on
 * reading or writing what nobody else sees. The program's own mappings are behind the curtain.
 *
 *   evict_clean()   writes the dirty pages. Whatever writes to an old page from now on (direct
 *                   I/O that was under way) leaves it dirty, or still referenced.
 *   ... the program copies the content ...
 *   evict_commit()  evicts. What stays is dirty or referenced: it is waited for, evicted, and
 *                   copied once more. What does not go away in time has a lasting holder.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"

#define PATIENCE_MS 2000

static void *map_file(const struct segment *g)
{
	/* Never touched: only asked about. Write permission is what mincore() wants to see. */
	return mmap(NULL, g->len, PROT_READ, MAP_SHARED, g->stage->fd, (off_t)g->off);
}

/* sync_file_range() does nothing on overlayfs, whose pages belong to another inode. */
static int write_out(const struct segment *g, void *map)
{
	const unsigned all =
		SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

	if (g->stage->overlay)
		return msync(map, g->len, MS_SYNC) < 0 ? -errno : 0;
	return sync_file_range(g->stage->fd, (off_t)g->off, (off_t)g->len, all) < 0 ? -errno : 0;
}

int evict_clean(struct segment *g)
{
	void *map = map_file(g);
	int err;

	if (map == MAP_FAILED)
		return -errno;
	err = write_out(g, map);
	munmap(map, g->len);
	return err;
}

/* Marks in `stayed` the pages that are resident; their number, or -errno. */
static ssize_t resident(const struct segment *g, void *map, unsigned char *now, unsigned char *stayed)
{
	ssize_t n = 0;

	if (mincore(map, g->len, now) < 0)
		return -errno;
	for (uint64_t p = 0; p < g->ledger->pages; p++) {
		if (now[p] & 1) {
			stayed[p] = 1;
			n++;
		}
	}
	return n;
}

static ssize_t evict(const struct segment *g, void *map, unsigned char *now, unsigned char *stayed)
{
	int err = posix_fadvise(g->stage->fd, (off_t)g->off, (off_t)g->len, POSIX_FADV_DONTNEED);

	return err ? -err : resident(g, map, now, stayed);
}

static int copy_again(struct segment *g, uint64_t p, unsigned char *page)
{
	const size_t size = g->ledger->page;
	ssize_t n;

	memset(page, 0, size);
	n = pread(g->stage->fd, page, size, (off_t)(g->off + p * size));
	if (n < 0)
		return -errno;
	if (!memcmp(g->mem + p * size, page, size))
		return 0;
	return pwrite(g->memfd, page, size, (off_t)(p * size)) == (ssize_t)size ? 0 : -EIO;
}

/* Old pages stay for a moment when direct I/O is under way, for ever under somebody's mapping or
 * pin. */
static int wait_until_evicted(const struct segment *g, void *map, unsigned char *now, unsigned char *stayed)
{
	struct timespec pause = { .tv_nsec = 1000 * 1000 };
	const uint64_t until = now_ms() + PATIENCE_MS;
	ssize_t n = evict(g, map, now, stayed);
	int err;

	while (n > 0) {
		err = write_out(g, map);
		if (err)
			return err;
		n = evict(g, map, now, stayed);
		if (n > 0 && now_ms() > until)
			return -EBUSY;
		if (n > 0)
			nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec * 2, 50 * 1000 * 1000L);
	}
	return (int)n;
}

int evict_commit(struct segment *g)
{
	cleanup_free unsigned char *now = xcalloc(g->ledger->pages, 1);
	cleanup_free unsigned char *stayed = xcalloc(g->ledger->pages, 1);
	cleanup_free unsigned char *page = xcalloc(1, g->ledger->page);
	void *map = map_file(g);
	int err;

	if (map == MAP_FAILED)
		return -errno;
	err = wait_until_evicted(g, map, now, stayed);
	munmap(map, g->len);
	for (uint64_t p = 0; p < g->ledger->pages && !err; p++)
		if (stayed[p])
			err = copy_again(g, p, page);
	return err;
}
