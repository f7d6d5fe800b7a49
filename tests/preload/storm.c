/* SPDX-License-Identifier: MIT */
/*
 * Invariant I7 through everything: a range is staged by registering it and given back to the
 * file, over and over, while threads add to it, store in it, read it, and have the kernel copy
 * into it, through the page cache and by direct I/O. Everything is counted exactly.
 */
#include <pthread.h>
#include <stdatomic.h>

#include <pinstage.h>

#include "testlib.h"

#define SIZE	(256 * KIB)
#define PAGE	4096ul
#define PAGES	(SIZE / PAGE)
#define SECTOR	512ul
#define SECONDS 4 /* unless STORM_SECONDS is set: make soak */

static unsigned char *range, *alias;
static atomic_bool stop;
static atomic_ulong errors, adds, copies, direct_copies;
static atomic_bool no_direct; /* on this file system */
static char first_error[256];

static void wrong(const char *what, size_t page, unsigned long want, unsigned long got)
{
	if (atomic_fetch_add(&errors, 1) == 0)
		snprintf(first_error, sizeof(first_error),
			 "%s, page %zu: %lu, not %lu (errno %s)", what, page, got, want,
			 strerror(errno));
}

/* Of each page: word 0 is added to, words 1 and 2 belong to a storer each, sectors 2, 3 and 4
 * are what the kernel copies to. */
static _Atomic(uint64_t) *word(unsigned char *base, size_t page, size_t w)
{
	return (_Atomic(uint64_t) *)(void *)(base + page * PAGE) + w;
}

static void *adder(void *arg)
{
	unsigned char *base = arg;
	unsigned long n = 0;

	for (size_t p = 0; !stop; p = (p + 7) % PAGES, n++)
		atomic_fetch_add_explicit(word(base, p, 0), 1, memory_order_relaxed);
	atomic_fetch_add(&adds, n);
	return NULL;
}

static void *storer(void *arg)
{
	const size_t w = 1 + (arg != range);
	uint64_t mine[PAGES] = { 0 }, got;

	for (size_t p = 0; !stop; p = (p + 3) % PAGES) {
		got = atomic_load_explicit(word(arg, p, w), memory_order_relaxed);
		if (got != mine[p])
			wrong("a store is lost", p, mine[p], got);
		atomic_store_explicit(word(arg, p, w), ++mine[p], memory_order_relaxed);
	}
	return NULL;
}

static void *reader(void *arg)
{
	uint64_t seen[PAGES] = { 0 }, now;

	(void)arg;
	for (size_t p = 0; !stop; p = (p + 1) % PAGES) {
		now = atomic_load_explicit(word(p % 2 ? alias : range, p, 0),
					   memory_order_relaxed);
		if (now < seen[p])
			wrong("a counter went back", p, seen[p], now);
		seen[p] = now;
	}
	return NULL;
}

/* `sector` sectors into each page; the source holds a page of every byte value in turn. */
static void copy_into(int fd, size_t sector, const char *what, atomic_ulong *count)
{
	unsigned char value = 0;

	for (size_t p = 0; !stop; p = (p + 5) % PAGES, value++) {
		unsigned char *to = range + p * PAGE + sector * SECTOR;
		ssize_t got = pread(fd, to, SECTOR, (off_t)(value * PAGE));

		if (got != (ssize_t)SECTOR)
			wrong(what, p, SECTOR, (unsigned long)got);
		else if (to[0] != value || to[SECTOR - 1] != value ||
			 memcmp(to, to + 1, SECTOR - 1))
			wrong(what, p, value, to[0]);
		atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	}
}

static void *preader(void *arg)
{
	int fd = open_file("values", O_RDONLY);

	copy_into(fd, arg == range ? 2 : 3, "pread", &copies);
	close(fd);
	return NULL;
}

static void *direct(void *arg)
{
	int fd = open(path_of("values"), O_RDONLY | O_DIRECT | O_CLOEXEC);

	(void)arg;
	if (fd < 0) {
		no_direct = true;
		return NULL;
	}
	copy_into(fd, 4, "direct read", &direct_copies);
	close(fd);
	return NULL;
}

static void make_values(void)
{
	unsigned char page[PAGE];
	int fd;

	make_file("values", 256 * PAGE);
	fd = open_file("values", O_RDWR);
	for (int i = 0; i < 256; i++) {
		memset(page, i, sizeof(page));
		assert_int_equal(pwrite(fd, page, PAGE, i * (off_t)PAGE), PAGE);
	}
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static void stage_and_give_back(struct io_uring *ring)
{
	struct iovec one = { range, SIZE };
	const uint64_t until = now_ms() + 20000;
	int ret;

	/* A direct read in flight, which the swap waits for, may be in the way for too long. */
	do {
		ret = io_uring_register_buffers(ring, &one, 1);
	} while (ret == -EFAULT && now_ms() < until);
	assert_int_equal(ret, 0);
	assert_int_equal(pinstage_query(range, SIZE), PINSTAGE_STAGED);
	assert_int_equal(io_uring_unregister_buffers(ring), 0);
	do {
		ret = pinstage_release(range, SIZE);
	} while (ret == -EBUSY && now_ms() < until);
	assert_int_equal(ret, 0);
	assert_int_equal(pinstage_query(range, SIZE), PINSTAGE_NATIVE);
}

static void threads__lose_no_store(void **state)
{
	static void *(*const role[])(void *) = { adder,	 adder,	  storer,  storer,
						 reader, preader, preader, direct };
	pthread_t thread[ARRAY_SIZE(role)];
	unsigned long swaps = 0, sum = 0;
	const char *given = getenv("STORM_SECONDS");
	const unsigned long seconds = given ? strtoul(given, NULL, 10) : SECONDS;
	struct io_uring ring;
	uint64_t until;
	int fd;

	(void)state;
	make_values();
	make_sparse("data", SIZE);
	fd = open_file("data", O_RDWR);
	range = map_fd(fd, SIZE, 0);
	alias = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	if (!with_shim() || !kernel_refuses()) {
		struct iovec one = { range, SIZE };

		assert_int_equal(io_uring_register_buffers(&ring, &one, 1),
				 kernel_refuses() ? -EFAULT : 0);
		io_uring_queue_exit(&ring);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(role); i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, role[i], i % 2 ? alias : range), 0);
	for (until = now_ms() + 1000 * seconds; now_ms() < until && !errors; swaps++)
		stage_and_give_back(&ring);
	stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(role); i++)
		pthread_join(thread[i], NULL);
	if (errors)
		fail_test("%lu errors in %lu swaps; the first: %s\n", errors, swaps,
			  first_error);
	assert_int_equal(msync(range, SIZE, MS_SYNC), 0);
	for (size_t p = 0; p < PAGES; p++) {
		uint64_t value;

		assert_int_equal(pread(fd, &value, sizeof(value), (off_t)(p * PAGE)),
				 sizeof(value));
		sum += value;
	}
	assert_int_equal(sum, adds);
	assert_true(copies > 0);
	assert_true(direct_copies > 0 || no_direct);
	/* A busy machine does several in a second. */
	if (swaps < seconds / 2 || swaps == 0)
		fail_test("staged and given back %lu times only in %lu seconds\n", swaps,
			  seconds);
	print_message(
		"%lu times staged and given back under %lu additions, %lu preads, %lu direct reads\n",
		swaps, adds, copies, direct_copies);
	io_uring_queue_exit(&ring);
	close(fd);
}

static void *releaser(void *arg)
{
	while (!stop)
		(void)pinstage_release(range, SIZE);
	return arg;
}

static void *registrant(void *arg)
{
	struct io_uring ring;
	int ret;

	ring_init(&ring);
	while (!stop) {
		ret = register_one(&ring, range, SIZE);
		if (ret < 0)
			wrong("a registration", 0, 0, (unsigned long)-ret);
		else
			io_uring_unregister_buffers(&ring);
		atomic_fetch_add(&adds, 1);
	}
	io_uring_queue_exit(&ring);
	return arg;
}

/* However often it was given back between being staged and being pinned, or is just then. */
static void threads__register_what_others_release(void **state)
{
	static void *(*const role[])(void *) = { registrant, registrant, registrant,
						 registrant, releaser,	 releaser };
	pthread_t thread[ARRAY_SIZE(role)];

	(void)state;
	make_sparse("data", SIZE);
	range = map_file("data", SIZE);
	if (!with_shim())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(role); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, role[i], NULL), 0);
	usleep(SECONDS * 1000000);
	stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(role); i++)
		pthread_join(thread[i], NULL);
	if (errors)
		fail_test("%lu errors in %lu registrations; the first: %s\n", errors, adds,
			  first_error);
	assert_true(adds > 0);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = { TEST(threads__lose_no_store),
					     TEST(threads__register_what_others_release),
					     { 0 } };

	return test_main(argc, argv, cases, NULL);
}
