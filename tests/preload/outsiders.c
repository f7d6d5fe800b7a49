// SPDX-License-Identifier: MIT
/* Processes without the shim that open, read and change a staged file. */
#include "testlib.h"

#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define SIZE (256 * KIB)
#define PAGE (4 * KIB)

static void outsider__a_write_reaches_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	char len[16];

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, PAGE, 0, NEW);
	snprintf(len, sizeof(len), "%lu", 3 * PAGE + 5);
	assert_int_equal(tool("filetool", "write", path_of("data"), "16387", len, "5"), 0);
	assert_reaches_memory(map + 16387, 3 * PAGE + 5, 16387, OTHER);
	assert_content(map, PAGE, 0, NEW);
	assert_content(map + PAGE, 16387 - PAGE, PAGE, OLD);
	assert_content(map + 16387 + 3 * PAGE + 5, SIZE - 16387 - 3 * PAGE - 5,
		       16387 + 3 * PAGE + 5, OLD);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, PAGE, NEW);
	assert_in_file("data", 16387, 3 * PAGE + 5, OTHER);
	io_uring_queue_exit(&ring);
}

static void outsider__stores_through_a_mapping_reach_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", __func__);
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(tool("filetool", "store", path_of("data"), "16384", "8192", "5"), 0);
	assert_reaches_memory(map + 16384, 8192, 16384, OTHER);
	assert_content(map, 16384, 0, OLD);
	assert_content(map + 24576, SIZE - 24576, 24576, OLD);
	io_uring_queue_exit(&ring);
}

/* A thread changes the first page all the time: each pass writes to the file. */
struct changing {
	unsigned char *page;
	_Atomic bool stop;
	pthread_t thread;
};

static void *change_on(void *arg)
{
	struct changing *c = arg;

	for (unsigned i = 1; !atomic_load(&c->stop); i++)
		fill(c->page, PAGE, 0, NEW + i);
	return NULL;
}

static void change_begin(struct changing *c, unsigned char *page)
{
	c->page = page;
	atomic_store(&c->stop, false);
	assert_int_equal(pthread_create(&c->thread, NULL, change_on, c), 0);
}

static void change_end(struct changing *c)
{
	atomic_store(&c->stop, true);
	assert_int_equal(pthread_join(c->thread, NULL), 0);
}

/* What was stored has left the page cache before anybody looked. The descriptor is from before
 * the staging: an open() would be heard of. */
static void stored_and_evicted(bool changing)
{
	struct changing c;
	struct io_uring ring;
	unsigned char *map;
	char fd[16];

	make_file("data", SIZE);
	map = map_file("data", SIZE);
	snprintf(fd, sizeof(fd), "%d", dup(open_file("data", O_RDWR)));
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	if (changing)
		change_begin(&c, map);
	assert_int_equal(tool("filetool", "store-evicted", fd, "16384", "8192", "5"), 0);
	assert_reaches_memory(map + 16384, 8192, 16384, OTHER);
	if (changing)
		change_end(&c);
	fill(map + 12288, PAGE, 12288, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 12288, PAGE, NEW);
	assert_in_file("data", 16384, 8192, OTHER);
	io_uring_queue_exit(&ring);
}

static void outsider__a_store_that_was_evicted(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", __func__);
	stored_and_evicted(false);
}

static void outsider__a_store_that_was_evicted_while_memory_changes(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", __func__);
	stored_and_evicted(true);
}

/* The kernel's own asynchronous I/O tells nobody of what it writes, and past the page cache
 * nothing of it is there to be seen. No hook sees it either, whoever does it. */
static void written_by_io_submit(int flags, bool changing)
{
	unsigned char *from = aligned_alloc(PAGE, PAGE);
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PWRITE,
			   .aio_buf = (uintptr_t)from,
			   .aio_nbytes = PAGE,
			   .aio_offset = 5 * PAGE },
		    *list = &cb;
	aio_context_t context = 0;
	struct io_event done;
	struct changing c;
	struct io_uring ring;
	unsigned char *map;

	assert_non_null(from);
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	cb.aio_fildes = (unsigned)open_file("data", O_RDWR | flags);
	fill(from, PAGE, 5 * PAGE, OTHER);
	assert_int_equal(syscall(SYS_io_setup, 1, &context), 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	if (changing)
		change_begin(&c, map);
	assert_int_equal(syscall(SYS_io_submit, context, 1, &list), 1);
	assert_int_equal(syscall(SYS_io_getevents, context, 1, 1, &done, NULL), 1);
	assert_int_equal(done.res, PAGE);
	assert_reaches_memory(map + 5 * PAGE, PAGE, 5 * PAGE, OTHER);
	if (changing)
		change_end(&c);
	fill(map + 4 * PAGE, PAGE, 4 * PAGE, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 4 * PAGE, PAGE, NEW);
	assert_in_file("data", 5 * PAGE, PAGE, OTHER);
	io_uring_queue_exit(&ring);
	assert_int_equal(syscall(SYS_io_destroy, context), 0);
	free(from);
}

static void io_submit__reaches_memory(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", __func__);
	written_by_io_submit(0, false);
}

static void io_submit__direct_reaches_memory(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", __func__);
	written_by_io_submit(O_DIRECT, false);
}

static void io_submit__direct_reaches_memory_that_changes(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", __func__);
	written_by_io_submit(O_DIRECT, true);
}

/*
 * An outsider writes to a page that is clean in memory, and at once the program changes another
 * part of it by a call: both are there. After a cut by somebody else no pass is due for a
 * moment.
 */
enum { THEIRS = 5000, STEPS = 10 };

static void outsider_then(bool cut, void (*change)(int fd), const char *name)
{
	static unsigned char theirs[THEIRS];
	struct io_uring ring;
	unsigned char *map;
	char size[16];
	int fd;

	needs_setting("PINSTAGE_SYNC_INTERVAL", "1", name);
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	snprintf(size, sizeof(size), "%d", THEIRS);
	for (unsigned i = 0; i < STEPS; i++) {
		assert_int_equal(ftruncate(fd, SIZE), 0);
		fill(map, SIZE, 0, NEW);
		assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
		if (cut)
			assert_int_equal(tool("filetool", "truncate", path_of("data"), size),
					 0);
		fill(theirs, THEIRS, 0, OTHER + i);
		assert_int_equal(syscall(SYS_pwrite64, fd, theirs, THEIRS, 0), THEIRS);
		change(fd);
		assert_reaches_memory(map, THEIRS, 0, OTHER + i);
		assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
		assert_in_file("data", 0, THEIRS, OTHER + i);
	}
	io_uring_queue_exit(&ring);
	close(fd);
}

static void by_ftruncate(int fd)
{
	assert_int_equal(ftruncate(fd, SIZE), 0);
}

static void by_truncate(int fd)
{
	(void)fd;
	assert_int_equal(truncate(path_of("data"), SIZE), 0);
}

static void by_posix_fallocate(int fd)
{
	assert_int_equal(posix_fallocate(fd, 0, SIZE), 0);
}

static void by_pwrite_at_the_end(int fd)
{
	assert_int_equal(pwrite(fd, "x", 1, SIZE - 1), 1);
}

static void by_pwrite(int fd)
{
	assert_int_equal(pwrite(fd, "xyz", 3, 7000), 3);
}

static void by_punching(int fd)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	assert_int_equal(fallocate(fd, mode, 6000, 100), 0);
}

#define OUTSIDER_THEN(name, cut, change)                \
	static void outsider__then_##name(void **state) \
	{                                               \
		(void)state;                            \
		outsider_then(cut, change, __func__);   \
	}

OUTSIDER_THEN(ftruncate, true, by_ftruncate)
OUTSIDER_THEN(truncate, true, by_truncate)
OUTSIDER_THEN(posix_fallocate, true, by_posix_fallocate)
OUTSIDER_THEN(pwrite_at_the_end, true, by_pwrite_at_the_end)
OUTSIDER_THEN(pwrite, false, by_pwrite)
OUTSIDER_THEN(punching, false, by_punching)

static int raw_pwrite(int fd, const char *text, off_t at)
{
	return (int)syscall(SYS_pwrite64, fd, text, strlen(text), at);
}

/* By turns in one page, with no sync in between: each has what he wrote. */
static void outsider__between_calls(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	char want[8 * 8 + 1], got[sizeof(want)] = "";
	int fd;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	for (int i = 0; i < 8; i++) {
		memcpy(want + 8L * i, "THEMours", 8);
		assert_int_equal(raw_pwrite(fd, "THEM", PAGE + 8L * i), 4);
		assert_int_equal(pwrite(fd, "ours", 4, (off_t)PAGE + 8L * i + 4), 4);
	}
	/* What comes after the last of ours, too. */
	memcpy(want, "LAST", 4);
	assert_int_equal(raw_pwrite(fd, "LAST", PAGE), 4);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(pread(fd, got, sizeof(got) - 1, PAGE), sizeof(got) - 1);
	assert_memory_equal(got, want, sizeof(got) - 1);
	assert_memory_equal(map + PAGE, want, sizeof(got) - 1);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* Where the program has made the file longer, others write at once. */
static void outsider__behind_the_old_end(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	char got[5];
	int fd;

	(void)state;
	make_file("data", SIZE - PAGE - 100);
	map = map_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE - PAGE));
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(raw_pwrite(fd, "THEIR", SIZE - PAGE - 50), 5);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(pread(fd, got, 5, SIZE - PAGE - 50), 5);
	assert_memory_equal(got, "THEIR", 5);
	assert_memory_equal(map + SIZE - PAGE - 50, "THEIR", 5);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* The end of the file lies in the last page; what memory has behind it is the program's. */
static void outsider__a_write_before_the_end(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE - 100);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(tool("filetool", "write", path_of("data"), "258048", "500", "5"), 0);
	assert_reaches_memory(map + 258048, 500, 258048, OTHER);
	assert_content(map + 258548, SIZE - 100 - 258548, 258548, OLD);
	assert_int_equal(file_size("data"), SIZE - 100);
	io_uring_queue_exit(&ring);
}

struct counting {
	_Atomic uint64_t *counter;
	_Atomic bool stop;
	uint64_t done;
};

static void *count_on(void *arg)
{
	struct counting *c = arg;

	while (!atomic_load(&c->stop)) {
		atomic_fetch_add(c->counter, 1);
		c->done++;
	}
	return NULL;
}

/* Every page has a word that a thread counts in, while an outsider writes the rest of it. */
static void outsider__destroys_no_concurrent_store(void **state)
{
	struct counting c[4] = { 0 };
	uint64_t word[PAGE / 8];
	struct io_uring ring;
	pthread_t thread[4];
	unsigned char *map;
	uint64_t end;
	int fd;

	(void)state;
	make_sparse("data", SIZE);
	map = map_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	for (int i = 0; i < 4; i++) {
		c[i].counter = (void *)(map + (size_t)i * PAGE);
		assert_int_equal(pthread_create(&thread[i], NULL, count_on, &c[i]), 0);
	}
	/* A system call that the shim does not see is an outsider's. It leaves the counter
	 * alone. */
	end = now_ms() + 3000;
	for (uint64_t n = 1; now_ms() < end; n++) {
		for (size_t i = 0; i < PAGE / 8; i++)
			word[i] = n;
		for (int i = 0; i < 8; i++)
			assert_int_equal(
				syscall(SYS_pwrite64, fd, word, PAGE - 8, i * PAGE + 8),
				PAGE - 8);
	}
	for (int i = 0; i < 4; i++) {
		atomic_store(&c[i].stop, true);
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(atomic_load(c[i].counter), c[i].done);
	}
	/* Pages that nobody stored to have the outsider's last word. */
	end = now_ms() + 30000;
	while (!memory_is(map + 5 * PAGE + 8, word, PAGE - 8) && now_ms() < end)
		usleep(20000);
	assert_memory_equal(map + 5 * PAGE + 8, word, PAGE - 8);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(atomic_load(c[i].counter), c[i].done);
	io_uring_queue_exit(&ring);
	close(fd);
}

static bool keeper_said(void *what)
{
	char path[64], line[1024];
	bool said = false;
	FILE *log;

	snprintf(path, sizeof(path),
		 geteuid() ? "/run/user/%u/pinstage/keeper.log" : "/run/pinstage/keeper.log",
		 geteuid());
	log = fopen(path, "re");
	while (log && !said && fgets(line, sizeof(line), log))
		said = strstr(line, what) &&
		       strstr(line, "changed by another process and in memory");
	if (log)
		fclose(log);
	return said;
}

static void outsider__a_page_that_both_changed_keeps_memory(void **state)
{
	static unsigned char theirs[PAGE];
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(theirs, PAGE, 2 * PAGE, OTHER);
	/* A pass may come between the two: then the page was in the file, and is theirs. */
	for (int tries = 0; tries < 20; tries++) {
		fill(map + 2 * PAGE, PAGE, 2 * PAGE, NEW);
		assert_int_equal(syscall(SYS_pwrite64, fd, theirs, PAGE, 2 * PAGE), PAGE);
		assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
		if (keeper_said((void *)(uintptr_t)path_of("data")))
			break;
		assert_reaches_memory(map + 2 * PAGE, PAGE, 2 * PAGE, OTHER);
		if (!kernel_refuses())
			return;
	}
	assert_true(keeper_said((void *)(uintptr_t)path_of("data")));
	assert_content(map + 2 * PAGE, PAGE, 2 * PAGE, NEW);
	assert_in_file("data", 2 * PAGE, PAGE, NEW);
	io_uring_queue_exit(&ring);
	close(fd);
}

static void part_is_read(void **state)
{
	struct io_uring ring;
	unsigned char *map = map_file("data", SIZE);

	(void)state;
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	/* The first look opens the file, and a later one finds what was stored before. */
	if (!reaches_file("data", 0, SIZE, NEW))
		_exit(10);
	fill(map, SIZE, 0, NEWER);
	_exit(reaches_file("data", 0, SIZE, NEWER) ? 0 : 11);
}

/* No pass is due for hours: it is the opening that brings the content. */
static void outsider__opening_brings_the_content(void **state)
{
	(void)state;
	make_file("data", SIZE);
	assert_int_equal(setenv("PINSTAGE_SYNC_INTERVAL", "36000", 1), 0);
	must_run("is_read", 0);
}

static bool is_zero(void *arg)
{
	static const unsigned char zero[SIZE];
	const struct iovec *range = arg;

	return memory_is(range->iov_base, zero, range->iov_len);
}

/* What was cut off and came back as a hole reads zero, though memory had not changed since. */
static void truncated_and_grown(bool pinned)
{
	const size_t left = SIZE / 2 + 10;
	struct io_uring ring;
	unsigned char *map;
	struct iovec gone;
	char offset[16], len[16];

	make_file("data", SIZE);
	map = map_file("data", SIZE);
	gone = iov(map + left, SIZE - left);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	if (!pinned)
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	fill(map, SIZE, 0, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	snprintf(offset, sizeof(offset), "%zu", left);
	assert_int_equal(tool("filetool", "truncate", path_of("data"), offset), 0);
	snprintf(offset, sizeof(offset), "%lu", SIZE);
	assert_int_equal(tool("filetool", "truncate", path_of("data"), offset), 0);
	if (!poll_until(is_zero, &gone, 30000))
		fail_test("what an outsider cut off is still there\n");
	assert_content(map, left, 0, NEW);
	map[0] = map[SIZE - 1] = 7;
	assert_int_equal(munmap(map, SIZE), 0);
	io_uring_queue_exit(&ring);
	assert_in_file("data", 1, left - 1, NEW);
	assert_int_equal(file_size("data"), SIZE);
	snprintf(offset, sizeof(offset), "%zu", left);
	snprintf(len, sizeof(len), "%zu", SIZE - left - 1);
	assert_int_equal(tool("filetool", "zero", path_of("data"), offset, len), 0);
}

static void outsider__truncates_and_grows(void **state)
{
	(void)state;
	truncated_and_grown(false);
}

static void outsider__truncates_and_grows_under_a_pin(void **state)
{
	(void)state;
	truncated_and_grown(true);
}

static const struct test cases[] = {
	TEST(outsider__a_write_reaches_memory),
	TEST(outsider__stores_through_a_mapping_reach_memory),
	TEST(outsider__a_store_that_was_evicted),
	TEST(outsider__a_store_that_was_evicted_while_memory_changes),
	TEST(io_submit__reaches_memory),
	TEST(io_submit__direct_reaches_memory),
	TEST(io_submit__direct_reaches_memory_that_changes),
	TEST(outsider__between_calls),
	TEST(outsider__behind_the_old_end),
	TEST(outsider__then_ftruncate),
	TEST(outsider__then_truncate),
	TEST(outsider__then_posix_fallocate),
	TEST(outsider__then_pwrite_at_the_end),
	TEST(outsider__then_pwrite),
	TEST(outsider__then_punching),
	TEST(outsider__a_write_before_the_end),
	TEST(outsider__destroys_no_concurrent_store),
	TEST(outsider__a_page_that_both_changed_keeps_memory),
	TEST(outsider__opening_brings_the_content),
	TEST(outsider__truncates_and_grows),
	TEST(outsider__truncates_and_grows_under_a_pin),
	{ 0 },
};

static const struct test parts[] = {
	{ .name = "is_read", .run = part_is_read },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases, parts);
}
