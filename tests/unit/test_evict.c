// SPDX-License-Identifier: MIT
/* links: shim/keeper/words.c */
/* links: shim/keeper/evict.c shim/keeper/segment.c */
/* links: shim/keeper/engine.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/parts.c shim/keeper/thread.c shim/keeper/aside.c */
/*
 * Eviction of what was copied, while something else still writes to the old pages: direct I/O
 * that was under way, whose page is dirty when it is done. That is a write() here, between the
 * steps. posix_fadvise() is ours: what it begins to write is written when it begins to evict,
 * as with a device that is fast enough.
 */
#include "unit.h"

#include <sys/syscall.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "keeper/digest.h"
#include "keeper_no_turns.h"
#include "keeper_parts.h"

#define PAGES 64

struct keeper keeper = { .lock = PTHREAD_MUTEX_INITIALIZER };
static unsigned advised;
static int cleaned_fd;		       /* the file */
static unsigned asked, cleaned_before; /* of questions, which one; 0: none */

int posix_fadvise(int fd, off_t off, off_t len, int advice)
{
	advised++;
	if (fdatasync(fd) < 0 || syscall(SYS_fadvise64, fd, off, len, advice) < 0)
		return errno;
	return 0;
}

/* Somebody else, sync() or the kernel itself, has the file written before a question. */
int mincore(void *at, size_t len, unsigned char *vec)
{
	if (++asked == cleaned_before)
		assert_int_equal(fdatasync(cleaned_fd), 0);
	return (int)syscall(SYS_mincore, at, len, vec);
}

static struct stage stage;
static struct segment *g;
static size_t page;

static void write_page(uint64_t p, int c)
{
	unsigned char buf[65536];

	memset(buf, c, page);
	assert_int_equal(pwrite(stage.fd, buf, page, (off_t)(p * page)), page);
}

static int begin(void **state)
{
	struct statfs fs;

	(void)state;
	page = page_size();
	stage = (struct stage){ .fd = unnamed_file(), .ear = -1 };
	LIST_INIT(&stage.segments);
	assert_int_equal(fstatfs(stage.fd, &fs), 0);
	if (fs.f_type == TMPFS_MAGIC)
		skip();
	for (uint64_t p = 0; p < PAGES; p++)
		write_page(p, 'a');
	assert_int_equal(segment_create(&stage, 0, PAGES * page, &g), 0);
	g->state = SEGMENT_FILLING;
	advised = 0;
	cleaned_fd = stage.fd;
	asked = cleaned_before = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	segment_free(g);
	close(stage.fd);
	return 0;
}

/* As the client does behind the curtain. */
static void copy(uint64_t p, uint64_t last)
{
	unsigned char buf[65536];

	for (; p < last; p++) {
		assert_int_equal(pread(stage.fd, buf, page, (off_t)(p * page)), page);
		assert_int_equal(pwrite(g->memfd, buf, page, (off_t)(p * page)), page);
	}
}

static const struct window *all_of_it(uint64_t patience_ms)
{
	static struct window w;

	w = (struct window){ 0, PAGES * page, patience_ms };
	return &w;
}

static unsigned char in_memory(uint64_t p)
{
	const unsigned char *mem = g->mem + p * page;

	assert_memory_equal(mem, mem + 1, page - 1);
	return *mem;
}

static void assert_recorded(void)
{
	for (uint64_t p = 0; p < PAGES; p++) {
		const struct ledger_base is =
			digest_page(g->mem + p * page, page, g->ledger->seed);

		assert_memory_equal(&ledger_bases(g->ledger)[p], &is, sizeof(is));
	}
	assert_null(g->stayed);
}

static void assert_evicted(void)
{
	unsigned char now[PAGES];
	void *map = mmap(NULL, PAGES * page, PROT_READ, MAP_SHARED, stage.fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mincore(map, PAGES * page, now), 0);
	munmap(map, PAGES * page);
	for (uint64_t p = 0; p < PAGES; p++)
		assert_false(now[p] & 1);
}

static void assert_only(uint64_t p, int c)
{
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(in_memory(i), i == p ? c : 'a');
	assert_recorded();
}

static void commit__nobody_writes(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(PAGES, 0);
	assert_evicted();
	assert_int_equal(advised, 0);
}

static void commit__page_written_after_it_was_copied(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	write_page(7, 'b');
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(7, 'b');
}

static void copied__in_pieces(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	for (uint64_t p = 0; p < PAGES - 16; p += 16) {
		copy(p, p + 16);
		evict_copied(g, p * page, 16 * page);
		assert_int_equal(g->recorded, p + 16);
	}
	copy(PAGES - 16, PAGES);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(PAGES, 0);
	assert_evicted();
	assert_int_equal(advised, 0);
}

/* What stayed once is copied again, also if it is clean by then. */
static void copied__page_written_after_it_was_copied(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	write_page(3, 'b');
	evict_copied(g, 0, 32 * page);
	assert_int_equal(fdatasync(stage.fd), 0);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(3, 'b');
}

/* While the rest is evicted and recorded; then it goes with what lies around. */
static void commit__page_stayed_and_was_cleaned(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	write_page(7, 'b');
	asked = 0;
	cleaned_before = 3;
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_true(asked > cleaned_before);
	assert_only(7, 'b');
}

static void copied__end_stayed_and_was_cleaned(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	write_page(31, 'b');
	evict_copied(g, 0, 32 * page);
	assert_int_equal(g->recorded, 31);
	assert_int_equal(fdatasync(stage.fd), 0);
	evict_copied(g, 0, PAGES * page);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(31, 'b');
}

/* What stays at the end may be of a folio that reaches into the next part: it waits for that.
 */
static void copied__end_that_stays(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	write_page(31, 'b');
	evict_copied(g, 0, 32 * page);
	assert_int_equal(g->recorded, 31);
	evict_copied(g, 32 * page, 32 * page); /* beyond that */
	assert_int_equal(g->recorded, 31);
	evict_copied(g, 16 * page, 48 * page);
	assert_int_equal(g->recorded, PAGES);
	assert_int_equal(fdatasync(stage.fd), 0);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(31, 'b');
}

/* By the keeper itself, for another part of the file. */
static void flush__page_written_after_it_was_copied(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	write_page(50, 'b');
	evict_before_flush(g);
	assert_int_equal(fdatasync(stage.fd), 0);
	evict_copied(g, 0, 32 * page);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(50, 'b');
}

static void copied__page_written_in_the_rest(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	evict_copied(g, 0, 32 * page);
	write_page(40, 'b');
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(40, 'b');
}

/* A mapping of somebody else holds a page; whatever comes to it before the second try is taken.
 */
static void commit__tried_again(void **state)
{
	volatile unsigned char *held;
	unsigned char was;

	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	held = mmap(NULL, page, PROT_READ, MAP_SHARED, stage.fd, (off_t)(9 * page));
	assert_ptr_not_equal(held, MAP_FAILED);
	was = *held;
	assert_int_equal(was, 'a');
	write_page(9, 'b');
	assert_int_equal(evict_commit(g, all_of_it(5)), -EBUSY);
	assert_int_equal(munmap((void *)(uintptr_t)held, page), 0);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(9, 'b');
}

static void copied__what_is_no_next_piece(void **state)
{
	(void)state;
	assert_int_equal(evict_clean(g, all_of_it(0)), 0);
	copy(0, PAGES);
	evict_copied(g, page, page);
	evict_copied(g, 0, 0);
	evict_copied(g, 0, page + 1);
	evict_copied(g, 0, (PAGES + 1) * page);
	evict_copied(g, 0, UINT64_MAX & ~(uint64_t)(page - 1));
	evict_copied(g, UINT64_MAX & ~(uint64_t)(page - 1), page);
	assert_int_equal(g->recorded, 0);
	evict_copied(g, 0, PAGES * page);
	evict_copied(g, PAGES * page, page);
	assert_int_equal(g->recorded, PAGES);
	assert_int_equal(evict_commit(g, all_of_it(1000)), 0);
	assert_only(PAGES, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

static const struct CMUnitTest tests[] = {
	T(commit__nobody_writes),
	T(commit__page_written_after_it_was_copied),
	T(commit__tried_again),
	T(copied__end_that_stays),
	T(copied__end_stayed_and_was_cleaned),
	T(commit__page_stayed_and_was_cleaned),
	T(copied__in_pieces),
	T(copied__page_written_after_it_was_copied),
	T(copied__page_written_in_the_rest),
	T(copied__what_is_no_next_piece),
	T(flush__page_written_after_it_was_copied),
};

UNIT_MAIN(tests, NULL, NULL)
