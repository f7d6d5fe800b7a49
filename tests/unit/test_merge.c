// SPDX-License-Identifier: MIT
/* links: shim/keeper/words.c */
/* links: shim/keeper/merge.c shim/keeper/outsiders.c shim/keeper/segment.c */
/* links: shim/keeper/engine.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/parts.c shim/keeper/thread.c shim/keeper/aside.c */
/*
 * What others write to a staged file, and how the keeper hears of it. fanotify_init() is ours:
 * it can be told to fail.
 */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/fanotify.h>
#include <sys/syscall.h>

#include "flipper.h"
#include "keeper/outsiders.h"
#include "keeper_parts.h"

#define PAGES 4

static bool no_fanotify;
static unsigned passes;
static struct stage
	*volatile current; /* for those who look for memory that nothing points to */
struct keeper keeper = { .lock = PTHREAD_MUTEX_INITIALIZER };

int fanotify_init(unsigned flags, unsigned event_flags)
{
	if (no_fanotify) {
		errno = EPERM;
		return -1;
	}
	return (int)syscall(SYS_fanotify_init, flags, event_flags);
}

/* A device that takes everything. */
void stage_hear(struct stage *s)
{
	(void)s;
}

void board_begin_read(struct stage *s)
{
	(void)s;
}

void board_end_read(struct stage *s)
{
	(void)s;
}

void board_begin_write(struct stage *s)
{
	outsiders_write_begins(s);
}

void board_end_write(struct stage *s)
{
	outsiders_write_ends(s);
}

void lane_post_pass(struct stage *s)
{
	(void)s;
	passes++;
}

static struct stage *new_stage(void)
{
	struct stage *s = xcalloc(1, sizeof(*s));
	struct segment *g;

	current = s;
	s->ear = -1;
	s->fd = unnamed_file();
	assert_int_equal(ftruncate(s->fd, PAGES * (off_t)page_size()), 0);
	outsiders_watch(s);
	assert_int_equal(segment_create(s, 0, PAGES * page_size(), &g), 0);
	g->state = SEGMENT_LIVE;
	LIST_INSERT_HEAD(&s->segments, g, link);
	engine_record_bases(g);
	return s;
}

static void free_stage(struct stage *s)
{
	segment_free(LIST_FIRST(&s->segments));
	close(s->fd);
	close(s->ear);
	free(s);
	current = NULL;
}

static unsigned char *memory(struct stage *s)
{
	void *p = mmap(NULL, PAGES * page_size(), PROT_READ | PROT_WRITE, MAP_SHARED,
		       LIST_FIRST(&s->segments)->memfd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void we_write(struct stage *s)
{
	board_begin_write(s);
	assert_int_equal(pwrite(s->fd, "ours", 4, 0), 4);
	s->writes++;
	board_end_write(s);
}

/* As a store through a mapping does, whose page is gone by now. */
static void times_move(struct stage *s)
{
	static time_t when = 1000;
	const struct timespec old[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = when++ } };

	assert_int_equal(futimens(s->fd, old), 0);
}

static int write_again(void *arg)
{
	struct stage *s = arg;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && pwrite(fd, "theirs", 6, 10) == 6 && close(fd) == 0 ? 0 : 1;
}

static void others_are_heard(bool fanotify)
{
	struct stage *s;

	no_fanotify = !fanotify;
	s = new_stage();
	assert_true(s->ear >= 0);
	assert_int_equal(s->ear_tells, fanotify);
	assert_int_equal(s->touched, UNTOUCHED);
	/* What we write ourselves is no hint. */
	outsiders_before(s);
	we_write(s);
	outsiders_after(s);
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	passes = 0;
	outsiders_heard();
	assert_int_equal(passes, 0);
	assert_int_equal(in_child(write_again, s), 0);
	outsiders_heard();
	assert_int_equal(passes, 1);
	assert_int_equal(s->touched, TOUCHED_ANYWHERE);
	free_stage(s);
}

static void others__heard_by_fanotify(void **state)
{
	int fd = (int)syscall(SYS_fanotify_init, FAN_REPORT_FID, O_RDONLY);

	(void)state;
	if (fd < 0)
		skip();
	close(fd);
	others_are_heard(true);
}

static void others__heard_by_inotify(void **state)
{
	(void)state;
	others_are_heard(false);
}

/* Stores through a mapping tell nobody; the file's times do. Direct I/O moves them when it
 * begins: two passes that nobody waits for look again, of which the first may come at once. */
static void others__seen_by_the_files_times(void **state)
{
	struct stage *s = new_stage();

	(void)state;
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	times_move(s);
	outsiders_before(s);
	assert_int_equal(s->touched, TOUCHED_ANYWHERE);
	assert_true(s->stored);
	s->touched = UNTOUCHED;
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	s->gently = true;
	for (int i = 0; i < 2; i++) {
		outsiders_before(s);
		assert_int_equal(s->touched, TOUCHED_ANYWHERE);
		s->touched = UNTOUCHED;
	}
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	free_stage(s);
}

/* Passes while a segment is filled do not count: there is nothing to bring it to. */
static void others__change_times_while_it_is_filled(void **state)
{
	struct stage *s = new_stage();
	struct segment *g = LIST_FIRST(&s->segments);

	(void)state;
	s->gently = true;
	g->state = SEGMENT_FILLING;
	times_move(s);
	for (int i = 0; i < 5; i++) {
		outsiders_before(s);
		assert_int_equal(s->touched, TOUCHED_ANYWHERE);
		s->touched = UNTOUCHED;
	}
	g->state = SEGMENT_LIVE;
	for (int i = 0; i < 2; i++) {
		outsiders_before(s);
		assert_int_equal(s->touched, TOUCHED_ANYWHERE);
		s->touched = UNTOUCHED;
	}
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	free_stage(s);
}

/* While a pass looks at the file others go on, and between two writes of ours. */
static void others__change_times_during_a_pass(void **state)
{
	struct stage *s = new_stage();

	(void)state;
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	times_move(s);
	outsiders_after(s);
	outsiders_before(s);
	assert_int_equal(s->touched, TOUCHED_ANYWHERE);
	free_stage(s);
}

static void others__change_times_between_our_writes(void **state)
{
	struct stage *s = new_stage();

	(void)state;
	outsiders_before(s);
	we_write(s);
	times_move(s);
	we_write(s);
	outsiders_after(s);
	outsiders_before(s);
	assert_int_equal(s->touched, TOUCHED_ANYWHERE);
	free_stage(s);
}

/* Their times may hide behind ours: a pass that nobody waits for looks once more. */
static void others__may_hide_behind_our_writes(void **state)
{
	struct stage *s = new_stage();

	(void)state;
	outsiders_before(s);
	we_write(s);
	outsiders_after(s);
	outsiders_before(s);
	assert_int_equal(s->touched, UNTOUCHED);
	usleep(100 * 1000); /* none of that is recent any more */
	outsiders_after(s);
	s->gently = true;
	outsiders_before(s);
	assert_int_equal(s->touched, TOUCHED_RESIDENT);
	free_stage(s);
}

static void merge__takes_what_only_the_file_changed(void **state)
{
	struct stage *s = new_stage();
	const size_t page = page_size();
	unsigned char *mem = memory(s);

	(void)state;
	mem[page + 1] = 'm'; /* dirty: its page stays */
	assert_int_equal(pwrite(s->fd, "file", 4, 5), 4);
	assert_int_equal(pwrite(s->fd, "file", 4, (off_t)page + 5), 4);
	assert_int_equal(pwrite(s->fd, "file", 4, (off_t)(2 * page + 4092)), 4);
	merge_outside(s, TOUCHED_ANYWHERE, 0, 2 * page);
	assert_memory_equal(mem + 5, "file", 4);
	assert_int_equal(mem[page + 1], 'm');
	assert_int_equal(mem[page + 5], 0);
	assert_int_equal(mem[2 * page + 4092], 0); /* not asked for */
	merge_outside(s, TOUCHED_RESIDENT, 0, UINT64_MAX);
	assert_memory_equal(mem + 2 * page + 4092, "file", 4);
	/* And nothing of it is written again. */
	assert_int_equal(engine_sync(LIST_FIRST(&s->segments), 0, page), 0);
	assert_int_equal(LIST_FIRST(&s->segments)->dirty, 0);
	munmap(mem, PAGES * page);
	free_stage(s);
}

/* The file ends in the middle of the last page. Who changed it is known as long as memory has
 * nothing behind the end: what base and memory differ in may be that. */
static void merge__both_changed_the_page_of_the_end(void **state)
{
	struct stage *s = new_stage();
	const size_t page = page_size(), last = (PAGES - 1) * page;
	unsigned char *mem = memory(s);

	(void)state;
	assert_int_equal(ftruncate(s->fd, (off_t)last + 100), 0);
	said = 0;
	mem[last + 1] = 'm';
	merge_outside(s, TOUCHED_ANYWHERE, 0, UINT64_MAX);
	assert_int_equal(said, 0); /* only memory did */
	assert_int_equal(pwrite(s->fd, "file", 4, (off_t)last + 5), 4);
	merge_outside(s, TOUCHED_ANYWHERE, 0, UINT64_MAX);
	assert_int_equal(said, 1);
	assert_int_equal(mem[last + 1], 'm');
	assert_int_equal(mem[last + 5], 0);
	assert_int_equal(engine_sync(LIST_FIRST(&s->segments), 0, UINT64_MAX), 0);
	mem[last + 1] = 'n';
	mem[last + 200] = 'n';
	merge_outside(s, TOUCHED_ANYWHERE, 0, UINT64_MAX);
	assert_int_equal(said, 1);
	munmap(mem, PAGES * page);
	free_stage(s);
}

struct counter {
	_Atomic uint64_t *at;
	_Atomic bool stop;
	uint64_t done;
};

static void *count_slowly(void *arg)
{
	struct counter *c = arg;

	for (; !atomic_load(&c->stop); c->done++) {
		atomic_fetch_add(c->at, 1);
		for (volatile unsigned i = 0; i < 3000; i++)
			;
	}
	return NULL;
}

/* The other words of the page change in the file all the time, and the page is clean now and
 * then: what is stored between looking and taking must not be lost. */
static void merge__loses_no_store(void **state)
{
	struct stage *s = new_stage();
	struct segment *g = LIST_FIRST(&s->segments);
	unsigned char *mem = memory(s);
	struct counter c = { .at = (void *)mem };
	uint64_t taken = 0, before, n;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, count_slowly, &c), 0);
	for (n = 1; n < 1000; n++) {
		assert_int_equal(engine_sync(g, 0, page_size()), 0);
		before = *(uint64_t *)(void *)(mem + 8);
		assert_int_equal(pwrite(s->fd, &n, sizeof(n), 8), sizeof(n));
		merge_outside(s, TOUCHED_ANYWHERE, 0, page_size());
		taken += *(uint64_t *)(void *)(mem + 8) != before;
	}
	atomic_store(&c.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(c.at), c.done);
	assert_true(taken > 0);
	munmap(mem, PAGES * page_size());
	free_stage(s);
}

/* The file's page differs from memory at byte 3000, whatever the byte before it is just now: it
 * is taken, or told as a conflict. */
static void merge__overlooks_no_page(void **state)
{
	struct stage *s = new_stage();
	struct ledger_base *base = ledger_bases(LIST_FIRST(&s->segments)->ledger);
	const struct ledger_base zeroes = *base;
	unsigned char *mem = memory(s);
	struct flipper f = { .byte = mem + 448 };

	(void)state;
	said = 0;
	assert_int_equal(pwrite(s->fd, "\1", 1, 448), 1);
	assert_int_equal(pwrite(s->fd, "\11", 1, 3000), 1);
	flipper_start(&f);
	for (unsigned i = 0, before; i < 100000; i++) {
		before = said;
		*base = zeroes;
		mem[3000] = 0;
		merge_outside(s, TOUCHED_ANYWHERE, 0, page_size());
		if (mem[3000] != 9 && said == before)
			fail_msg("overlooked in round %u", i);
	}
	flipper_stop(&f);
	munmap(mem, PAGES * page_size());
	free_stage(s);
}

static int begin(void **state)
{
	(void)state;
	outsiders_begin();
	return 0;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(others__heard_by_fanotify),
	cmocka_unit_test(others__heard_by_inotify),
	cmocka_unit_test(others__seen_by_the_files_times),
	cmocka_unit_test(others__change_times_while_it_is_filled),
	cmocka_unit_test(others__change_times_during_a_pass),
	cmocka_unit_test(others__change_times_between_our_writes),
	cmocka_unit_test(others__may_hide_behind_our_writes),
	cmocka_unit_test(merge__takes_what_only_the_file_changed),
	cmocka_unit_test(merge__both_changed_the_page_of_the_end),
	cmocka_unit_test(merge__loses_no_store),
	cmocka_unit_test(merge__overlooks_no_page),
};

UNIT_MAIN(tests, begin, NULL)
