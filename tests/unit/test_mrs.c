/* SPDX-License-Identifier: MIT */
/* links: shim/lib/mrs.c shim/lib/real.c */
#include "unit.h"

#include <pthread.h>

#include "lib/mrs.h"
#include "lib/real.h"

/* Made-up addresses, as far apart as malloc() would have them. */
static const void *mr(size_t i)
{
	return (const void *)(0x7f0000001000 + i * 112);
}

static void assert_has(size_t i, unsigned access)
{
	unsigned found;

	assert_true(mrs_access(mr(i), &found));
	assert_int_equal(found, access);
}

static void assert_has_not(size_t i)
{
	unsigned found;

	assert_false(mrs_access(mr(i), &found));
}

static void note__access_until_forgotten(void **state)
{
	(void)state;
	assert_has_not(0);
	mrs_forget(mr(0));
	mrs_note(mr(0), 0);
	mrs_note(mr(1), 1u << 31);
	assert_has(0, 0);
	assert_has(1, 1u << 31);
	mrs_note(mr(0), 7); /* changed, or another one at its address */
	assert_has(0, 7);
	mrs_forget(mr(0));
	assert_has_not(0);
	assert_has(1, 1u << 31);
	mrs_forget(mr(1));
}

static void note__many(void **state)
{
	enum { N = 100000 };

	(void)state;
	for (size_t i = 0; i < N; i++)
		mrs_note(mr(i), (unsigned)i);
	for (size_t i = 0; i < N; i += 2)
		mrs_forget(mr(i));
	for (size_t i = 1; i < N; i += 2)
		assert_has(i, (unsigned)i);
	for (size_t i = 0; i < N; i += 2)
		assert_has_not(i);
	for (size_t i = 1; i < N; i += 2)
		mrs_forget(mr(i));
}

static int no_memory_calls;

static void *no_memory(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	(void)addr, (void)len, (void)prot, (void)flags, (void)fd, (void)off;
	no_memory_calls++;
	errno = ENOMEM;
	return MAP_FAILED;
}

static void note__without_memory(void **state)
{
	enum { FIRST = 1000000, N = 100000 };
	void *(*mmap_was)(void *, size_t, int, int, int, off_t) = real.mmap;
	unsigned found;
	size_t known = 0;

	(void)state;
	/* What many MRs left is used up first: that must be more than there was. */
	real.mmap = no_memory;
	for (size_t i = FIRST; i < FIRST + 2 * N; i++)
		mrs_note(mr(i), 3);
	real.mmap = mmap_was;
	assert_true(no_memory_calls > 0);
	for (size_t i = FIRST; i < FIRST + 2 * N; i++) {
		known += mrs_access(mr(i), &found);
		mrs_forget(mr(i));
	}
	assert_true(known < 2 * N);
}

enum { THREADS = 4, EACH = 64, ROUNDS = 500 };

/* Each about MRs of its own, in the same buckets as the others'. */
static void *thread(void *arg)
{
	const size_t mine = 2000000 + (uintptr_t)arg;
	unsigned found;
	uintptr_t wrong = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < EACH; i++)
			mrs_note(mr(mine + i * THREADS), round + (unsigned)i);
		for (size_t i = 0; i < EACH; i++) {
			wrong += !mrs_access(mr(mine + i * THREADS), &found) ||
				 found != round + i;
			mrs_forget(mr(mine + i * THREADS));
			wrong += mrs_access(mr(mine + i * THREADS), &found);
		}
	}
	return (void *)wrong;
}

static void note__from_several_threads(void **state)
{
	pthread_t t[THREADS];
	void *wrong;

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, thread, (void *)i), 0);
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(t[i], &wrong), 0);
		assert_null(wrong);
	}
}

static int child_knows(void *arg)
{
	unsigned found;

	(void)arg;
	if (!mrs_access(mr(0), &found) || found != 5)
		return 1;
	mrs_forget(mr(0));
	mrs_note(mr(1), 6);
	return 0;
}

static void fork__the_child_has_its_own(void **state)
{
	(void)state;
	mrs_note(mr(0), 5);
	assert_int_equal(in_child(child_knows, NULL), 0);
	assert_has(0, 5);
	assert_has_not(1);
	mrs_forget(mr(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(note__access_until_forgotten),
		cmocka_unit_test(note__many),
		cmocka_unit_test(note__without_memory),
		cmocka_unit_test(note__from_several_threads),
		cmocka_unit_test(fork__the_child_has_its_own),
	};

	real_bind();
	return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
