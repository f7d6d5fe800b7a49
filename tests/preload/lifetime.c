// SPDX-License-Identifier: MIT
/*
 * Nothing lost while the program runs: closed descriptors, removed names, sync points and the
 * background pass, as a process without the shim sees the file. How programs end is in ends.c.
 */
#include "testlib.h"

#define SIZE (256 * KIB)

/* The first half comes from the device, the second from the program. */
static void write_both(struct io_uring *ring, unsigned char *map)
{
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	device_writes(ring, map, SIZE / 2, 0);
}

static bool both_in_file(const char *name)
{
	return in_file(name, 0, SIZE / 2, DEVICE) && in_file(name, SIZE / 2, SIZE / 2, NEW);
}

static bool has_both(void *name)
{
	return both_in_file(name);
}

static char data_name[] = "data";

static void close__before_registering(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	assert_int_equal(close(fd), 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	write_both(&ring, map);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_true(both_in_file("data"));
	io_uring_queue_exit(&ring);
}

static void close__after_registering(void **state)
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
	assert_int_equal(close(fd), 0);
	write_both(&ring, map);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_true(both_in_file("data"));
	io_uring_queue_exit(&ring);
}

static void fsync__is_a_sync_point(void **state)
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
	write_both(&ring, map);
	assert_int_equal(fsync(fd), 0);
	assert_true(both_in_file("data"));
	fill(map, SIZE, 0, NEWER);
	assert_int_equal(fdatasync(fd), 0);
	assert_in_file("data", 0, SIZE, NEWER);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* fsync() through a description that neither mapped nor wrote anything. */
static void fsync__through_another_descriptor(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	write_both(&ring, map);
	fd = open_file("data", O_RDONLY);
	assert_int_equal(fsync(fd), 0);
	assert_true(both_in_file("data"));
	io_uring_queue_exit(&ring);
	close(fd);
}

static void msync__only_part(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	assert_int_equal(msync(map + SIZE / 4, SIZE / 4, MS_SYNC), 0);
	assert_in_file("data", SIZE / 4, SIZE / 4, NEW);
	assert_int_equal(msync(map, SIZE, MS_ASYNC), 0);
	assert_reaches_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&ring);
}

static void msync__errors_are_the_kernels(void **state)
{
	struct io_uring ring;
	unsigned char *map, *hole;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(msync(map + 1, SIZE, MS_SYNC), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(msync(map, SIZE, MS_SYNC | MS_ASYNC), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(msync(map, 0, MS_SYNC), 0);
	/* A hole in the range: what is mapped is synced, and ENOMEM says the rest. */
	hole = map + SIZE / 2;
	assert_int_equal(munmap(hole, page_size()), 0);
	fill(map, SIZE / 2, 0, NEW);
	errno = 0;
	assert_int_equal(msync(map, SIZE, MS_SYNC), -1);
	assert_int_equal(errno, ENOMEM);
	assert_in_file("data", 0, SIZE / 2, NEW);
	io_uring_queue_exit(&ring);
}

/* The keeper's own pass, without any sync point. */
static void background__reaches_file(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	write_both(&ring, map);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("the background pass brought nothing to the file\n");
	/* And again: one pass is not all. */
	fill(map, SIZE, 0, NEWER);
	assert_reaches_file("data", 0, SIZE, NEWER);
	io_uring_queue_exit(&ring);
}

static void unlink__after_mmap(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	assert_int_equal(unlink(path_of("data")), 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	write_both(&ring, map);
	assert_int_equal(munmap(map, SIZE), 0);
	/* Only this process can still ask. */
	map = map_fd(fd, SIZE, 0);
	assert_content(map, SIZE / 2, 0, DEVICE);
	assert_content(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	io_uring_queue_exit(&ring);
	close(fd);
}

static void unlink__after_mmap_and_close(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	assert_int_equal(link(path_of("data"), path_of("other name")), 0);
	map = map_file("data", SIZE);
	assert_int_equal(unlink(path_of("data")), 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	write_both(&ring, map);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_true(both_in_file("other name"));
	io_uring_queue_exit(&ring);
}

static void rename__after_staging(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(rename(path_of("data"), path_of("moved")), 0);
	make_file("data", SIZE);
	write_both(&ring, map);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_true(both_in_file("moved"));
	assert_in_file("data", 0, SIZE, OLD);
	io_uring_queue_exit(&ring);
}

/* A descriptor opened with O_APPEND: the file's write-back must not append. */
static void append__descriptor(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR | O_APPEND);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	write_both(&ring, map);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_int_equal(file_size("data"), SIZE);
	assert_true(both_in_file("data"));
	io_uring_queue_exit(&ring);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(close__before_registering),
		TEST(close__after_registering),
		TEST(fsync__is_a_sync_point),
		TEST(fsync__through_another_descriptor),
		TEST(msync__only_part),
		TEST(msync__errors_are_the_kernels),
		TEST(background__reaches_file),
		TEST(unlink__after_mmap),
		TEST(unlink__after_mmap_and_close),
		TEST(rename__after_staging),
		TEST(append__descriptor),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
