/* SPDX-License-Identifier: MIT */
/*
 * Several processes that write one staged file. Where a write lands follows from a position
 * that they share, or from the end of the file; memory and file must get all of it, at the same
 * place.
 */
#include "testlib.h"

#include <sys/syscall.h>

#define SIZE	 (256 * KIB)
#define CHILDREN 4
#define RECORD	 64ul

static void run_children(void (*work)(int fd, unsigned n), int fd)
{
	pid_t pid[CHILDREN];

	for (unsigned n = 0; n < CHILDREN; n++) {
		pid[n] = fork();
		assert_true(pid[n] >= 0);
		if (pid[n] == 0) {
			work(fd, n);
			_exit(0);
		}
	}
	for (unsigned n = 0; n < CHILDREN; n++)
		assert_int_equal(wait_for(pid[n]), 0);
}

static void write_records(int fd, unsigned n, unsigned count)
{
	unsigned char record[RECORD];

	memset(record, 0xa0 + (int)n, RECORD);
	for (unsigned i = 0; i < count; i++)
		if (write(fd, record, RECORD) != (ssize_t)RECORD)
			_exit(1);
}

/* In `bytes` there are `count` records of each child, whole, one after the other. */
static void assert_records(const unsigned char *bytes, unsigned count, const char *where)
{
	unsigned seen[CHILDREN] = { 0 };

	for (size_t r = 0; r < (size_t)count * CHILDREN; r++) {
		const unsigned char *record = bytes + r * RECORD;

		if (record[0] < 0xa0 || record[0] >= 0xa0 + CHILDREN ||
		    memcmp(record, record + 1, RECORD - 1) != 0)
			fail_test("%s: record %zu begins with %#x\n", where, r, record[0]);
		seen[record[0] - 0xa0]++;
	}
	for (unsigned n = 0; n < CHILDREN; n++)
		if (seen[n] != count)
			fail_test("%s: %u records of child %u, not %u\n", where, seen[n], n,
				  count);
}

/* Past the library, which would have it written first. */
static void assert_records_in_file(off_t offset, unsigned count)
{
	const size_t len = (size_t)count * CHILDREN * RECORD;
	unsigned char *const bytes = malloc(len);
	const int fd = (int)syscall(SYS_openat, AT_FDCWD, path_of("data"), O_RDONLY);

	assert_non_null(bytes);
	assert_true(fd >= 0);
	assert_int_equal(syscall(SYS_pread64, fd, bytes, len, offset), len);
	assert_records(bytes, count, "file");
	syscall(SYS_close, fd);
	free(bytes);
}

#define EACH 300

static void write_at_shared_position(int fd, unsigned n)
{
	write_records(fd, n, EACH);
}

static void position__shared_by_children(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	run_children(write_at_shared_position, fd);
	assert_records(map, EACH, "memory");
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_records_in_file(0, EACH);
	assert_content(map + EACH * CHILDREN * RECORD, SIZE - EACH * CHILDREN * RECORD,
		       EACH * CHILDREN * RECORD, OLD);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* Into the last page that is staged: what is behind the end there is memory's, too. */
#define APPENDED 15
#define BEGUN	 (SIZE - 4096 + RECORD)

static void append(int fd, unsigned n)
{
	(void)fd;
	fd = open_file("data", O_WRONLY | O_APPEND);
	write_records(fd, n, APPENDED);
	close(fd);
}

static void append__by_children(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", BEGUN);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, BEGUN));
	run_children(append, fd);
	assert_int_equal(file_size("data"), BEGUN + APPENDED * CHILDREN * RECORD);
	assert_records(map + BEGUN, APPENDED, "memory");
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_records_in_file(BEGUN, APPENDED);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* Each empties the file, writes, and finds what it or another one wrote: never zeroes. */
static void empty_and_write(int fd, unsigned n)
{
	unsigned char record[RECORD], got[RECORD];

	for (unsigned i = 0; i < 50; i++) {
		fd = open_file("data", O_RDWR | O_TRUNC);
		memset(record, 0xa0 + (int)n, RECORD);
		if (pwrite(fd, record, RECORD, 0) != (ssize_t)RECORD)
			_exit(1);
		if (pread(fd, got, RECORD, 0) == (ssize_t)RECORD &&
		    (got[0] < 0xa0 || memcmp(got, got + 1, RECORD - 1)))
			_exit(2);
		close(fd);
	}
}

static void open_truncating__by_children(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	run_children(empty_and_write, fd);
	io_uring_queue_exit(&ring);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(position__shared_by_children),
		TEST(append__by_children),
		TEST(open_truncating__by_children),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
