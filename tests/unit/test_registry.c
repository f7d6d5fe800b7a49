/* SPDX-License-Identifier: MIT */
/* links: shim/keeper/words.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/registry.c shim/keeper/segment.c shim/keeper/board.c */
/* links: shim/common/board.c shim/common/sys.c */
#include "unit.h"

#include "keeper/outsiders.h"
#include "keeper_parts.h"

/* No file is written here. */
void outsiders_write_begins(struct stage *s)
{
	(void)s;
}

void outsiders_write_ends(struct stage *s)
{
	(void)s;
}

static const struct inode_key key = { 1, 100 }, neighbour = { 1, 101 }, elsewhere = { 2, 100 };

static struct segment *add(struct stage *s, uint64_t first, uint64_t pages)
{
	const uint64_t page = page_size();
	struct segment *g = NULL;

	assert_int_equal(segment_create(s, first * page, pages * page, &g), 0);
	g->id = keeper.next_id++;
	keeper.staged += g->len;
	LIST_INSERT_HEAD(&s->segments, g, link);
	return g;
}

static void destroy(struct segment *g)
{
	segment_unlink(g);
	segment_free(g);
}

static int nothing_left(void **state)
{
	struct stage *s;

	(void)state;
	while ((s = LIST_FIRST(&keeper.stages))) {
		while (!LIST_EMPTY(&s->segments))
			destroy(LIST_FIRST(&s->segments));
		s->busy = s->queued = false;
		stage_drop_if_unused(s);
	}
	assert_int_equal(keeper.staged, 0);
	return 0;
}

static void stage__one_per_inode(void **state)
{
	struct stage *a, *b, *c;

	(void)state;
	assert_null(stage_find(key, false));
	a = stage_find(key, true);
	b = stage_find(neighbour, true);
	c = stage_find(elsewhere, true);
	assert_true(a && b && c && a != b && a != c && b != c);
	assert_ptr_equal(stage_find(key, true), a);
	assert_ptr_equal(stage_find(key, false), a);
	assert_ptr_equal(stage_find(elsewhere, false), c);
	assert_int_equal(a->fd, -1);
	assert_true(LIST_EMPTY(&a->segments) && STAILQ_EMPTY(&a->jobs));
}

/* Whoever comes first says when the first pass is; later ones what they cannot wait for. */
static void pass__for_the_shortest_interval(void **state)
{
	struct client slow = { .interval_ms = 600000 }, fast = { .interval_ms = 1000 };
	struct stage *s = stage_find(key, true);
	struct segment *g = add(s, 0, 1);
	const uint64_t now = now_ms(), minute = 60000;

	(void)state;
	g->stage = s;
	segment_use(g, &slow);
	assert_in_range(s->next_pass, now + 600000, now + 600000 + minute);
	segment_use(g, &fast);
	assert_in_range(s->next_pass, now + 1000, now + 1000 + minute);
	segment_unuse(g, &slow);
	s->next_pass = now + 1;
	segment_use(g, &slow);
	assert_int_equal(s->next_pass, now + 1);
	/* The last one took its time. */
	segment_unuse(g, &fast);
	s->next_pass = now + 600000;
	s->not_before = now + 2 * minute;
	segment_use(g, &fast);
	assert_int_equal(s->next_pass, now + 2 * minute);
}

/* The last word is due at once, unless it was refused within the last second. */
static void last_word__when_it_is_due(void **state)
{
	struct stage *s = stage_find(key, true);
	struct segment *g = add(s, 0, 1);
	const uint64_t now = now_ms();

	(void)state;
	s->next_pass = now + 5000;
	segment_try_now(g);
	assert_true(g->next_try <= now);
	segment_try_soon(g);
	assert_true(g->next_try <= now);
	assert_int_equal(s->next_pass, now + 5000);
	g->refused_at = now;
	g->retry_ms = 5000;
	segment_try_soon(g);
	assert_true(g->next_try > now && g->next_try <= now + 1000);
	assert_int_equal(s->next_pass, g->next_try); /* and somebody comes then */
	assert_true(g->retry_ms < 1000);
	segment_try_now(g);
	assert_true(g->next_try <= now);
}

/* One that is stuck delays only those of the same file system. */
static void stage__lane_of_its_file_system(void **state)
{
	struct stage *a = stage_find(key, true), *b = stage_find(neighbour, true);
	struct stage *c = stage_find(elsewhere, true);
	struct lane *first = a->lane;

	(void)state;
	assert_ptr_equal(a->lane, b->lane);
	assert_ptr_not_equal(a->lane, c->lane);
	assert_int_equal(a->lane->dev, 1);
	assert_int_equal(c->lane->dev, 2);
	assert_true(TAILQ_EMPTY(&a->lane->ready));
	stage_drop_if_unused(a);
	stage_drop_if_unused(b);
	assert_ptr_equal(stage_find(key, true)->lane, first); /* lanes stay */
}

static void drop__only_when_unused(void **state)
{
	struct stage *s = stage_find(key, true);
	struct job job = { .kind = JOB_PASS };
	int fd = unnamed_file();

	(void)state;
	s->fd = fd;
	s->busy = true;
	stage_drop_if_unused(s);
	assert_ptr_equal(stage_find(key, false), s);
	s->busy = false;
	s->queued = true;
	stage_drop_if_unused(s);
	assert_ptr_equal(stage_find(key, false), s);
	s->queued = false;
	STAILQ_INSERT_TAIL(&s->jobs, &job, link);
	stage_drop_if_unused(s);
	assert_ptr_equal(stage_find(key, false), s);
	STAILQ_REMOVE_HEAD(&s->jobs, link);
	add(s, 0, 1);
	stage_drop_if_unused(s);
	assert_ptr_equal(stage_find(key, false), s);
	destroy(LIST_FIRST(&s->segments));
	assert_true(fd_is_open(fd));
	stage_drop_if_unused(s);
	assert_null(stage_find(key, false));
	assert_false(fd_is_open(fd));
}

static void segment__by_id(void **state)
{
	struct stage *s = stage_find(key, true), *other = stage_find(elsewhere, true);
	struct segment *a = add(s, 0, 1), *b = add(s, 5, 1), *c = add(other, 0, 1);

	(void)state;
	assert_ptr_equal(segment_by_id(a->id), a);
	assert_ptr_equal(segment_by_id(b->id), b);
	assert_ptr_equal(segment_by_id(c->id), c);
	assert_null(segment_by_id(0));
	assert_null(segment_by_id(keeper.next_id));
	assert_null(segment_by_id(UINT64_MAX));
}

/* Not what only has the number. */
static void segment__meant(void **state)
{
	struct segment *a = add(stage_find(key, true), 1, 2);
	struct msg m = { .key = key, .id = a->id, .off = a->off, .len = a->len };

	(void)state;
	assert_ptr_equal(segment_meant(&m), a);
	m.key = neighbour;
	assert_null(segment_meant(&m));
	m.key = key;
	m.off += page_size();
	assert_null(segment_meant(&m));
	m.off = a->off;
	m.len += page_size();
	assert_null(segment_meant(&m));
	m = (struct msg){ .id = a->id }; /* nothing else is said */
	assert_ptr_equal(segment_meant(&m), a);
	m.id++;
	assert_null(segment_meant(&m));
}

static void segment__overlapping(void **state)
{
	const uint64_t page = page_size();
	struct stage *s = stage_find(key, true);
	struct segment *a = add(s, 10, 5), *b = add(s, 20, 1);

	(void)state;
	assert_null(segment_overlapping(s, 0, 10 * page));
	assert_null(segment_overlapping(s, 15 * page, 5 * page));
	assert_null(segment_overlapping(s, 21 * page, 100 * page));
	assert_ptr_equal(segment_overlapping(s, 0, 10 * page + 1), a);
	assert_ptr_equal(segment_overlapping(s, 12 * page, page), a);
	assert_ptr_equal(segment_overlapping(s, 14 * page, 6 * page), a);
	assert_ptr_equal(segment_overlapping(s, 15 * page, 6 * page), b);
	assert_non_null(segment_overlapping(s, 0, 100 * page));
	assert_null(segment_overlapping(stage_find(elsewhere, true), 0, 100 * page));
}

static void use__once_per_client(void **state)
{
	struct stage *s = stage_find(key, true);
	struct segment *a = add(s, 0, 1), *b = add(s, 1, 1);
	struct client x = { .token = 1 }, y = { .token = 2 };

	(void)state;
	segment_unuse(a, &x);
	segment_use(a, &x);
	segment_use(a, &x);
	segment_use(a, &y);
	assert_true(segment_used_by(a, &x));
	assert_true(segment_used_by(a, &y));
	assert_false(segment_used_by(b, &x));
	segment_unuse(a, &x);
	assert_false(segment_used_by(a, &x));
	assert_true(segment_used_by(a, &y));
	segment_unuse(a, &x);
	segment_unuse(a, &y);
	assert_true(LIST_EMPTY(&a->users));
}

static void destroy__gives_everything_back(void **state)
{
	const unsigned fds = open_fds();
	struct stage *s = stage_find(key, true);
	struct segment *a = add(s, 0, 3), *b = add(s, 10, 2);
	const uint64_t id = a->id;
	struct client x = { .token = 1 };

	(void)state;
	segment_use(a, &x);
	segment_use(b, &x);
	assert_int_equal(keeper.staged, 5 * page_size());
	destroy(a);
	assert_int_equal(keeper.staged, 2 * page_size());
	assert_null(segment_by_id(id));
	assert_true(segment_used_by(b, &x));
	destroy(b);
	assert_int_equal(keeper.staged, 0);
	assert_int_equal(open_fds(), fds);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_teardown(stage__one_per_inode, nothing_left),
	cmocka_unit_test_teardown(stage__lane_of_its_file_system, nothing_left),
	cmocka_unit_test_teardown(pass__for_the_shortest_interval, nothing_left),
	cmocka_unit_test_teardown(last_word__when_it_is_due, nothing_left),
	cmocka_unit_test_teardown(drop__only_when_unused, nothing_left),
	cmocka_unit_test_teardown(segment__by_id, nothing_left),
	cmocka_unit_test_teardown(segment__meant, nothing_left),
	cmocka_unit_test_teardown(segment__overlapping, nothing_left),
	cmocka_unit_test_teardown(use__once_per_client, nothing_left),
	cmocka_unit_test_teardown(destroy__gives_everything_back, nothing_left),
};

UNIT_MAIN(tests, NULL, NULL)
