// SPDX-License-Identifier: MIT
/*
 * No collateral: staging changes neither the size of a file nor its holes, nor pages on which
 * nothing was written.
 */
#include "testlib.h"

#define SIZE (256 * KIB)

static void size__not_multiple_of_page(void **state)
{
	size_t page = page_size(), size = 10 * page + 123;
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", size);
	map = map_file("data", size);
	ring_init(&ring);
	/* The pin covers the last page to its end, as a program that rounds up would ask. */
	must_stage(register_one(&ring, map, 11 * page));
	assert_content(map, size, 0, OLD);
	for (size_t i = size; i < 11 * page; i++)
		assert_int_equal(map[i], 0);
	device_writes(&ring, map, 11 * page, 0);
	assert_int_equal(msync(map, size, MS_SYNC), 0);
	assert_int_equal(file_size("data"), size);
	assert_in_file("data", 0, size, DEVICE);
	assert_int_equal(munmap(map, size), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(file_size("data"), size);
	/* Nothing waits behind the end for the file to grow (on tmpfs natively it does). */
	if (kernel_refuses()) {
		char at[32];

		snprintf(at, sizeof(at), "%zu", size);
		assert_int_equal(tool("filetool", "truncate", path_of("data"), "1048576"), 0);
		assert_int_equal(tool("filetool", "zero", path_of("data"), at, "3900"), 0);
	}
}

static void size__mapping_longer_than_file(void **state)
{
	size_t page = page_size(), size = 5 * page + 1;
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", size);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, 16 * page, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, size));
	device_writes(&ring, map, size, 0);
	assert_int_equal(msync(map, 16 * page, MS_SYNC), 0);
	assert_in_file("data", 0, size, DEVICE);
	assert_int_equal(file_size("data"), size);
	/* The file grows under the mapping, as lmdb's does; the new pages are there. */
	assert_int_equal(ftruncate(fd, (off_t)(8 * page)), 0);
	assert_int_equal(pwrite(fd, "grown", 5, (off_t)(6 * page)), 5);
	assert_memory_equal(map + 6 * page, "grown", 5);
	map[6 * page] = 'G';
	assert_int_equal(munmap(map, 16 * page), 0);
	assert_int_equal(file_size("data"), 8 * page);
	assert_in_file("data", 0, size, DEVICE);
	close(fd);
	io_uring_queue_exit(&ring);
}

static void holes__are_kept(void **state)
{
	size_t page = 64 * KIB; /* no file system here has larger blocks */
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_sparse("data", 16 * page);
	map = map_file("data", 16 * page);
	ring_init(&ring);
	must_stage(register_one(&ring, map, 16 * page));
	for (size_t i = 0; i < 16 * page; i++)
		assert_int_equal(map[i], 0);
	fd = make_source(page, DEVICE);
	read_fixed(&ring, fd, map + 8 * page, page, 0, 0);
	close(fd);
	assert_int_equal(msync(map, 16 * page, MS_SYNC), 0);
	assert_int_equal(munmap(map, 16 * page), 0);
	io_uring_queue_exit(&ring);
	assert_true(in_file_at("data", (off_t)(8 * page), page, (off_t)(8 * page), DEVICE));
	if (kernel_refuses()) {
		assert_int_equal(tool("filetool", "hole", path_of("data"), "0", "524288"), 0);
		assert_int_equal(tool("filetool", "hole", path_of("data"), "589824", "458752"),
				 0);
	}
	assert_int_equal(tool("filetool", "zero", path_of("data"), "0", "524288"), 0);
	assert_int_equal(tool("filetool", "zero", path_of("data"), "589824", "458752"), 0);
}

/* Registering and reading is no change: neither blocks nor times of the file move. */
static void untouched__is_not_written(void **state)
{
	struct stat before, after;
	struct io_uring ring;
	unsigned char *map;
	int sink;

	(void)state;
	make_file("data", SIZE);
	make_file("sink", SIZE);
	map = map_file("data", SIZE);
	assert_int_equal(stat(path_of("data"), &before), 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_content(map, SIZE, 0, OLD);
	sink = open_file("sink", O_RDWR);
	write_fixed(&ring, sink, map, SIZE, 0, 0);
	close(sink);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(stat(path_of("data"), &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	if (kernel_refuses()) { /* natively a pin for writing dirties tmpfs */
		assert_int_equal(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
		assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
		assert_int_equal(after.st_blocks, before.st_blocks);
	}
}

/* A process without the shim writes pages on which nothing is written here. */
static void outsider__writes_survive(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(tool("filetool", "write", path_of("data"), "131072", "65536", "5"), 0);
	device_writes(&ring, map, SIZE / 4, 0);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 4, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 4, OTHER);
	assert_int_equal(munmap(map, SIZE), 0);
	io_uring_queue_exit(&ring);
	assert_in_file("data", 0, SIZE / 4, DEVICE);
	assert_in_file("data", SIZE / 4, SIZE / 4, OLD);
	assert_in_file("data", SIZE / 2, SIZE / 4, OTHER);
	assert_in_file("data", 3 * SIZE / 4, SIZE / 4, OLD);
}

/* Nor does the end of a killed program bring old content back. */
static void stages_half(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE / 4, 0);
	reached("staged");
	sleep_for_ever();
}

static void outsider__writes_survive_sigkill(void **state)
{
	pid_t pid;

	(void)state;
	pid = start_part("stages_half");
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(wait_for(pid), EFAULT);
		return;
	}
	wait_reached("staged");
	assert_int_equal(tool("filetool", "write", path_of("data"), "131072", "65536", "5"), 0);
	kill(pid, SIGKILL);
	assert_int_equal(wait_for(pid), -SIGKILL);
	assert_reaches_file("data", 0, SIZE / 4, DEVICE);
	assert_in_file("data", SIZE / 4, SIZE / 4, OLD);
	assert_in_file("data", SIZE / 2, SIZE / 4, OTHER);
	assert_in_file("data", 3 * SIZE / 4, SIZE / 4, OLD);
}

static void truncate__by_outsider_is_final(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(tool("filetool", "truncate", path_of("data"), "131072"), 0);
	assert_int_equal(msync(map, SIZE / 2, MS_SYNC), 0);
	assert_int_equal(file_size("data"), SIZE / 2);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_int_equal(munmap(map, SIZE), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(file_size("data"), SIZE / 2);
}

static void truncate__by_program_is_final(void **state)
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
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(file_size("data"), SIZE / 2);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	close(fd);
	io_uring_queue_exit(&ring);
	assert_int_equal(file_size("data"), SIZE / 2);
}

/* Several thousand pages, so that ledgers and scans have more than one word or block. */
static void size__many_pages(void **state)
{
	size_t size = 24 * MIB + 3 * page_size();
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	if (geteuid() != 0)
		skip_test("cannot: the limit on locked memory is for small tests");
	make_sparse("data", size);
	map = map_file("data", size);
	ring_init(&ring);
	must_stage(register_one(&ring, map, size));
	fill(map, MIB, 0, NEW);
	fill(map + size - MIB, MIB, size - MIB, NEW);
	fill(map + 7 * MIB + 5, 10, 7 * MIB + 5, NEW);
	assert_int_equal(munmap(map, size), 0);
	assert_in_file("data", 0, MIB, NEW);
	assert_in_file("data", 7 * MIB + 5, 10, NEW);
	assert_in_file("data", (off_t)(size - MIB), MIB, NEW);
	assert_int_equal(tool("filetool", "zero", path_of("data"), "1048576", "6291456"), 0);
	io_uring_queue_exit(&ring);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(size__not_multiple_of_page),
		TEST(size__mapping_longer_than_file),
		TEST(size__many_pages),
		TEST(holes__are_kept),
		TEST(untouched__is_not_written),
		TEST(outsider__writes_survive),
		TEST(outsider__writes_survive_sigkill),
		TEST(truncate__by_outsider_is_final),
		TEST(truncate__by_program_is_final),
		{ 0 },
	};
	static const struct test parts[] = { TEST(stages_half), { 0 } };

	return test_main(argc, argv, cases, parts);
}
