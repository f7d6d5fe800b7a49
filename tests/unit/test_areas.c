/* SPDX-License-Identifier: MIT */
/* links: shim/lib/areas.c shim/lib/pool.c shim/lib/real.c */
#include "unit.h"

#include "lib/areas.h"
#include "lib/real.h"

#define PAGE 4096UL

static char names[8];

/* The map never looks into these. */
static struct file *file(size_t i)
{
	return (struct file *)(void *)&names[i];
}

static struct segment *segment(size_t i)
{
	return (struct segment *)(void *)&names[i];
}

static void *no_memory(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	(void)addr, (void)len, (void)prot, (void)flags, (void)fd, (void)off;
	errno = ENOMEM;
	return MAP_FAILED;
}

static void memory_ends(void)
{
	real.mmap = no_memory;
}

static int memory_is_back(void **state)
{
	(void)state;
	return real_bind();
}

static void pool_get__zeroed_after_use(void **state)
{
	struct pool p = { .size = 48 };
	char zero[48] = { 0 }, *node;

	(void)state;
	node = pool_get(&p);
	assert_non_null(node);
	assert_memory_equal(node, zero, sizeof(zero));
	memset(node, 0xff, sizeof(zero));
	pool_put(&p, node);
	assert_ptr_equal(pool_get(&p), node);
	assert_memory_equal(node, zero, sizeof(zero));
}

static void pool_get__nodes_do_not_overlap(void **state)
{
	enum { N = 3000 };
	struct pool p = { .size = 56 };
	static unsigned char *node[N];

	(void)state;
	for (size_t i = 0; i < N; i++) {
		node[i] = pool_get(&p);
		assert_non_null(node[i]);
		assert_int_equal((uintptr_t)node[i] % sizeof(void *), 0);
		memset(node[i], (int)(i % 251), p.size);
	}
	for (size_t i = 0; i < N; i++)
		for (size_t b = 0; b < p.size; b++)
			assert_int_equal(node[i][b], i % 251);
}

static void pool_get__no_memory(void **state)
{
	struct pool p = { .size = 64 };

	(void)state;
	memory_ends();
	assert_null(pool_get(&p));
	assert_int_equal(pool_reserve(&p, 1), -ENOMEM);
	assert_int_equal(pool_reserve(&p, 0), 0);
}

static void pool_reserve__holds_without_memory(void **state)
{
	static const size_t count[] = { 1, 4, 1023, 1024, 1025, 5000 };

	(void)state;
	for (size_t c = 0; c < sizeof(count) / sizeof(count[0]); c++) {
		struct pool p = { .size = 64 };

		assert_non_null(pool_get(&p));
		assert_int_equal(pool_reserve(&p, count[c]), 0);
		memory_ends();
		for (size_t i = 0; i < count[c]; i++)
			assert_non_null(pool_get(&p));
		real_bind();
	}
}

static void first__empty(void **state)
{
	struct areas m = AREAS_INIT;

	(void)state;
	assert_null(areas_first(&m, 0, UINTPTR_MAX));
}

static void first__touching_is_not_overlapping(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, 4 * PAGE, 6 * PAGE, 0, file(0));

	(void)state;
	assert_non_null(a);
	assert_null(areas_first(&m, 0, 4 * PAGE));
	assert_null(areas_first(&m, 6 * PAGE, 9 * PAGE));
	assert_ptr_equal(areas_first(&m, 0, 4 * PAGE + 1), a);
	assert_ptr_equal(areas_first(&m, 6 * PAGE - 1, 9 * PAGE), a);
	assert_ptr_equal(areas_first(&m, 5 * PAGE, 5 * PAGE + 1), a);
}

static void first__top_of_the_address_space(void **state)
{
	const uintptr_t top = UINTPTR_MAX - PAGE + 1;
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, top - PAGE, top, 0, file(0));

	(void)state;
	assert_ptr_equal(areas_first(&m, 0, UINTPTR_MAX), a);
	assert_null(areas_first(&m, top, UINTPTR_MAX));
	assert_null(areas_next(a, UINTPTR_MAX));
}

static void next__in_order_and_to_the_end(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *c = areas_add(&m, 8 * PAGE, 9 * PAGE, 0, file(2));
	struct area *a = areas_add(&m, 1 * PAGE, 3 * PAGE, 0, file(0));
	struct area *b = areas_add(&m, 3 * PAGE, 5 * PAGE, 0, file(1));

	(void)state;
	assert_ptr_equal(areas_first(&m, 2 * PAGE, 9 * PAGE), a);
	assert_ptr_equal(areas_next(a, 9 * PAGE), b);
	assert_ptr_equal(areas_next(b, 9 * PAGE), c);
	assert_null(areas_next(b, 8 * PAGE));
	assert_null(areas_next(c, UINTPTR_MAX));
}

static void add__is_not_joined(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, PAGE, 2 * PAGE, 0, file(0));
	struct area *b = areas_add(&m, 2 * PAGE, 3 * PAGE, PAGE, file(0));

	(void)state;
	assert_ptr_not_equal(a, b);
	assert_int_equal(a->end, 2 * PAGE);
	assert_ptr_equal(areas_next(a, 3 * PAGE), b);
}

static void add__no_memory(void **state)
{
	struct areas m = AREAS_INIT;

	(void)state;
	memory_ends();
	assert_null(areas_add(&m, PAGE, 2 * PAGE, 0, file(0)));
	assert_null(areas_first(&m, 0, UINTPTR_MAX));
}

static void split__inside_area(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, 10 * PAGE, 20 * PAGE, 7 * PAGE, file(1)), *b;

	(void)state;
	a->seg = segment(3);
	a->saved = 1000 * PAGE;
	assert_int_equal(areas_split(&m, 13 * PAGE, &b), 0);
	assert_non_null(b);
	assert_int_equal(a->start, 10 * PAGE);
	assert_int_equal(a->end, 13 * PAGE);
	assert_int_equal(a->off, 7 * PAGE);
	assert_int_equal(a->saved, 1000 * PAGE);
	assert_int_equal(b->start, 13 * PAGE);
	assert_int_equal(b->end, 20 * PAGE);
	assert_int_equal(b->off, 10 * PAGE);
	assert_int_equal(b->saved, 1003 * PAGE);
	assert_ptr_equal(b->file, file(1));
	assert_ptr_equal(b->seg, segment(3));
	assert_ptr_equal(areas_next(a, 20 * PAGE), b);
}

static void split__nothing_saved(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *b;

	(void)state;
	areas_add(&m, 10 * PAGE, 20 * PAGE, 0, file(1));
	assert_int_equal(areas_split(&m, 13 * PAGE, &b), 0);
	assert_int_equal(b->saved, 0);
	assert_null(b->seg);
}

static void split__is_a_boundary_already(void **state)
{
	static const uintptr_t at[] = { 0, 9 * PAGE, 10 * PAGE, 20 * PAGE, 21 * PAGE };
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, 10 * PAGE, 20 * PAGE, 0, file(0)), *b;

	(void)state;
	memory_ends(); /* and takes none */
	m.pool.free = NULL;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		b = a;
		assert_int_equal(areas_split(&m, at[i], &b), 0);
		assert_null(b);
	}
	assert_int_equal(a->end, 20 * PAGE);
	assert_null(areas_next(a, UINTPTR_MAX));
}

static void split__no_memory(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, 10 * PAGE, 20 * PAGE, 0, file(0)), *b = a;

	(void)state;
	memory_ends();
	m.pool.free = NULL;
	assert_int_equal(areas_split(&m, 13 * PAGE, &b), -ENOMEM);
	assert_null(b);
	assert_int_equal(a->start, 10 * PAGE);
	assert_int_equal(a->end, 20 * PAGE);
}

static void remove__leaves_the_others(void **state)
{
	struct areas m = AREAS_INIT;
	struct area *a = areas_add(&m, PAGE, 2 * PAGE, 0, file(0));
	struct area *b = areas_add(&m, 2 * PAGE, 3 * PAGE, 0, file(0));
	struct area *c = areas_add(&m, 3 * PAGE, 4 * PAGE, 0, file(0));

	(void)state;
	areas_remove(&m, b);
	assert_ptr_equal(areas_first(&m, 0, UINTPTR_MAX), a);
	assert_ptr_equal(areas_next(a, UINTPTR_MAX), c);
	assert_null(areas_first(&m, 2 * PAGE, 3 * PAGE));
}

/* The same in an array without any order. */
enum { PAGES = 200, MOST = PAGES };

static struct {
	struct area a[MOST];
	size_t n;
} model;

static size_t model_first(uintptr_t start, uintptr_t end)
{
	size_t found = MOST;

	for (size_t i = 0; i < model.n; i++)
		if (model.a[i].start < end && model.a[i].end > start &&
		    (found == MOST || model.a[i].start < model.a[found].start))
			found = i;
	return found;
}

static void assert_same(const struct area *a, const struct area *want)
{
	assert_non_null(a);
	assert_int_equal(a->start, want->start);
	assert_int_equal(a->end, want->end);
	assert_int_equal(a->off, want->off);
	assert_ptr_equal(a->file, want->file);
	assert_ptr_equal(a->seg, want->seg);
	assert_int_equal(a->saved, want->saved);
}

static void compare(struct areas *m, uintptr_t start, uintptr_t end)
{
	struct area *a = areas_first(m, start, end);
	size_t i;

	for (i = model_first(start, end); i < MOST; i = model_first(model.a[i].end, end)) {
		assert_same(a, &model.a[i]);
		a = areas_next(a, end);
		if (model.a[i].end >= end)
			break;
	}
	assert_null(a);
}

static void random_add(struct areas *m, uint64_t *rng, uintptr_t lo, uintptr_t hi)
{
	struct area *want = &model.a[model.n];
	struct area *a;

	if (model_first(lo, hi) != MOST)
		return;
	memset(want, 0, sizeof(*want));
	want->start = lo;
	want->end = hi;
	want->off = random_below(rng, 1000) * PAGE;
	want->file = file(random_below(rng, 8));
	a = areas_add(m, lo, hi, want->off, want->file);
	assert_non_null(a);
	if (random_below(rng, 2)) {
		a->seg = want->seg = segment(random_below(rng, 8));
		a->saved = want->saved = (5000 + random_below(rng, 1000)) * PAGE;
	}
	model.n++;
}

static void random_split(struct areas *m, uintptr_t at)
{
	const size_t i = model_first(at, at + 1);
	struct area *made, *want;

	assert_int_equal(areas_split(m, at, &made), 0);
	if (i == MOST || model.a[i].start == at) {
		assert_null(made);
		return;
	}
	want = &model.a[model.n++];
	*want = model.a[i];
	want->start = at;
	want->off += at - model.a[i].start;
	if (want->saved)
		want->saved += at - model.a[i].start;
	model.a[i].end = at;
	assert_same(made, want);
}

static void random_remove(struct areas *m, uint64_t *rng)
{
	size_t i;

	if (!model.n)
		return;
	i = random_below(rng, model.n);
	areas_remove(m, areas_first(m, model.a[i].start, model.a[i].end));
	model.a[i] = model.a[--model.n];
}

static void random__like_an_array(void **state)
{
	struct areas m = AREAS_INIT;
	uint64_t *rng = random_start();

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uintptr_t lo = 1 + random_below(rng, PAGES - 1);
		uintptr_t hi = lo + 1 + random_below(rng, PAGES - lo > 12 ? 12 : PAGES - lo);

		switch (random_below(rng, 8)) {
		case 0 ... 2:
			random_add(&m, rng, lo * PAGE, hi * PAGE);
			break;
		case 3 ... 4:
			random_split(&m, lo * PAGE);
			break;
		case 5 ... 6:
			random_remove(&m, rng);
			break;
		}
		compare(&m, lo * PAGE, hi * PAGE);
		compare(&m, lo * PAGE + 1, hi * PAGE - 1);
		if (i % 64 == 0)
			compare(&m, 0, UINTPTR_MAX);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(pool_get__zeroed_after_use),
	cmocka_unit_test(pool_get__nodes_do_not_overlap),
	cmocka_unit_test_teardown(pool_get__no_memory, memory_is_back),
	cmocka_unit_test_teardown(pool_reserve__holds_without_memory, memory_is_back),
	cmocka_unit_test(first__empty),
	cmocka_unit_test(first__touching_is_not_overlapping),
	cmocka_unit_test(first__top_of_the_address_space),
	cmocka_unit_test(next__in_order_and_to_the_end),
	cmocka_unit_test(add__is_not_joined),
	cmocka_unit_test_teardown(add__no_memory, memory_is_back),
	cmocka_unit_test(split__inside_area),
	cmocka_unit_test(split__nothing_saved),
	cmocka_unit_test_teardown(split__is_a_boundary_already, memory_is_back),
	cmocka_unit_test_teardown(split__no_memory, memory_is_back),
	cmocka_unit_test(remove__leaves_the_others),
	cmocka_unit_test(random__like_an_array),
};

UNIT_MAIN(tests, memory_is_back, NULL)
