/* SPDX-License-Identifier: MIT */
/*
 * Several processes of one user, each with the shim: what one has staged is what all of them
 * map, read and write.
 */
#include "testlib.h"

#include <pinstage.h>

#define SIZE (256 * KIB)

/* How other processes see the case; they get the shim's settings of this one. */
static pid_t partner(const char *part)
{
	return start_part(part);
}

static void must_end_well(pid_t pid)
{
	assert_int_equal(wait_for(pid), 0);
}

/* ---- joining what another process has staged ---- */

static void part_maps(void **state)
{
	unsigned char *map = map_file("data", SIZE);

	(void)state;
	if (differs(map, SIZE / 2, 0, DEVICE) >= 0 ||
	    differs(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW) >= 0)
		_exit(10);
	fill(map, SIZE / 2, 0, NEWER);
	_exit(0);
}

/* A process that only maps the file meets the memory, without any sync point between. */
static void join__a_mapping_shows_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE / 2, 0);
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	must_end_well(partner("maps"));
	assert_content(map, SIZE / 2, 0, NEWER);
	device_writes(&ring, map + SIZE / 2, SIZE / 2, 0);
	io_uring_queue_exit(&ring);
}

static void part_maps_without_access(void **state)
{
	const int fd = open_file("data", O_RDWR);
	unsigned char *map = mmap(NULL, SIZE, PROT_NONE, MAP_SHARED, fd, 0);

	(void)state;
	if (map == MAP_FAILED || mprotect(map, SIZE / 2, PROT_READ) < 0)
		_exit(10);
	if (differs(map, SIZE / 2, 0, DEVICE) >= 0)
		_exit(11);
	if (mprotect(map, SIZE, PROT_READ | PROT_WRITE) < 0 ||
	    differs(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW) >= 0)
		_exit(12);
	fill(map, SIZE / 2, 0, NEWER);
	_exit(0);
}

/* What can be touched only later is the memory, too. */
static void join__mapped_without_access(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE / 2, 0);
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	must_end_well(partner("maps_without_access"));
	assert_content(map, SIZE / 2, 0, NEWER);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEWER);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	io_uring_queue_exit(&ring);
}

static void part_maps_part(void **state)
{
	int fd = open_file("data", O_RDWR);
	unsigned char *map = map_fd(fd, SIZE / 2, SIZE / 4);

	(void)state;
	if (differs(map, SIZE / 2, SIZE / 4, NEW) >= 0)
		_exit(10);
	fill(map, SIZE / 2, SIZE / 4, NEWER);
	_exit(0);
}

static void join__at_another_offset(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	must_end_well(partner("maps_part"));
	assert_content(map, SIZE / 4, 0, NEW);
	assert_content(map + SIZE / 4, SIZE / 2, SIZE / 4, NEWER);
	assert_content(map + 3 * SIZE / 4, SIZE / 4, 3 * SIZE / 4, NEW);
	io_uring_queue_exit(&ring);
}

static void part_maps_read_only(void **state)
{
	int fd = open_file("data", O_RDONLY);
	unsigned char *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	(void)state;
	if (map == MAP_FAILED || differs(map, SIZE, 0, NEW) >= 0)
		_exit(10);
	reached("seen");
	wait_reached("changed");
	_exit(differs(map, SIZE, 0, NEWER) >= 0 ? 11 : 0);
}

static void join__read_only(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	pid = partner("maps_read_only");
	wait_reached("seen");
	fill(map, SIZE, 0, NEWER);
	reached("changed");
	must_end_well(pid);
	io_uring_queue_exit(&ring);
}

static void part_registers(void **state)
{
	unsigned char *map = map_file("data", SIZE);
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	if (register_one(&ring, map, SIZE))
		_exit(10);
	device_writes(&ring, map + SIZE / 2, SIZE / 2, 0);
	_exit(0);
}

static void join__registers_too(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	must_end_well(partner("registers"));
	assert_content(map, SIZE / 2, 0, NEW);
	assert_content(map + SIZE / 2, SIZE / 2, 0, DEVICE);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	io_uring_queue_exit(&ring);
}

static void part_reads(void **state)
{
	int fd = open_file("data", O_RDONLY);
	unsigned char buf[4096];
	char byte;

	(void)state;
	/* The file is staged only now: this process learns that by itself. */
	if (read(fd, &byte, 1) != 1)
		_exit(9);
	reached("started");
	wait_reached("staged");
	if (pread(fd, buf, sizeof(buf), SIZE / 2) != (ssize_t)sizeof(buf) ||
	    differs(buf, sizeof(buf), SIZE / 2, NEW) >= 0)
		_exit(10);
	_exit(0);
}

static void join__a_reader_sees_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	pid = partner("reads");
	wait_reached("started");
	ring_init(&ring);
	if (register_one(&ring, map, SIZE) != 0)
		assert_false(with_shim() && kernel_refuses());
	fill(map, SIZE, 0, NEW);
	reached("staged");
	must_end_well(pid);
	assert_staged();
	io_uring_queue_exit(&ring);
}

static void part_writes(void **state)
{
	int fd = open_file("data", O_WRONLY);
	unsigned char few[3];

	(void)state;
	reached("started");
	wait_reached("staged");
	fill(few, sizeof(few), 5000, NEWER);
	if (pwrite(fd, few, sizeof(few), 5000) != (ssize_t)sizeof(few))
		_exit(10);
	_exit(0);
}

/* Byte for byte, into pages that are dirty elsewhere. */
static void join__a_writer_reaches_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	pid = partner("writes");
	wait_reached("started");
	ring_init(&ring);
	if (register_one(&ring, map, SIZE) != 0)
		assert_false(with_shim() && kernel_refuses());
	fill(map, SIZE, 0, NEW);
	reached("staged");
	must_end_well(pid);
	assert_content(map, 5000, 0, NEW);
	assert_content(map + 5000, 3, 5000, NEWER);
	assert_content(map + 5003, SIZE - 5003, 5003, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, 5000, NEW);
	assert_in_file("data", 5000, 3, NEWER);
	assert_in_file("data", 5003, SIZE - 5003, NEW);
	io_uring_queue_exit(&ring);
}

static void part_appends(void **state)
{
	int fd = open_file("data", O_WRONLY | O_APPEND);
	unsigned char more[100];

	(void)state;
	fill(more, sizeof(more), SIZE - 100, NEWER);
	if (write(fd, more, sizeof(more)) != (ssize_t)sizeof(more))
		_exit(10);
	_exit(0);
}

/* The end of the file lies inside the last page that is staged. */
static void join__an_appender_reaches_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE - 100);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE - 100, 0, NEW);
	must_end_well(partner("appends"));
	assert_content(map, SIZE - 100, 0, NEW);
	assert_content(map + SIZE - 100, 100, SIZE - 100, NEWER);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE - 100, NEW);
	assert_in_file("data", SIZE - 100, 100, NEWER);
	io_uring_queue_exit(&ring);
}

static void part_truncates(void **state)
{
	int fd = open_file("data", O_RDWR);

	(void)state;
	if (ftruncate(fd, SIZE / 2 + 10) < 0 || ftruncate(fd, SIZE) < 0)
		_exit(10);
	_exit(0);
}

static void join__truncation_by_another_process(void **state)
{
	static const unsigned char zero[SIZE];
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	must_end_well(partner("truncates"));
	assert_content(map, SIZE / 2 + 10, 0, NEW);
	assert_memory_equal(map + SIZE / 2 + 10, zero, SIZE / 2 - 10);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2 + 10, NEW);
	io_uring_queue_exit(&ring);
}

/* By name, one of them that of a link. */
static void part_truncates_by_name(void **state)
{
	int fd;

	(void)state;
	if (truncate(path_of("data"), SIZE / 2 + 10) < 0 ||
	    symlink("data", path_of("link")) < 0 || truncate(path_of("link"), SIZE) < 0)
		_exit(10);
	fd = open(path_of("other"), O_WRONLY | O_TRUNC);
	_exit(fd >= 0 && ftruncate(fd, SIZE) == 0 ? 0 : 11);
}

static void join__truncation_by_name(void **state)
{
	static const unsigned char zero[SIZE];
	unsigned char *map, *other;
	struct io_uring ring, more;

	(void)state;
	make_file("data", SIZE);
	make_file("other", SIZE);
	map = map_file("data", SIZE);
	other = map_file("other", SIZE);
	ring_init(&ring);
	ring_init(&more);
	must_stage(register_one(&ring, map, SIZE));
	must_stage(register_one(&more, other, SIZE));
	fill(map, SIZE, 0, NEW);
	fill(other, SIZE, 0, NEW);
	must_end_well(partner("truncates_by_name"));
	assert_content(map, SIZE / 2 + 10, 0, NEW);
	assert_memory_equal(map + SIZE / 2 + 10, zero, SIZE / 2 - 10);
	assert_memory_equal(other, zero, SIZE);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2 + 10, NEW);
	io_uring_queue_exit(&more);
	io_uring_queue_exit(&ring);
}

static void part_fsyncs(void **state)
{
	int fd = open_file("data", O_RDONLY);

	(void)state;
	_exit(fsync(fd) == 0 ? 0 : 10);
}

static void join__fsync_by_another_process(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	must_end_well(partner("fsyncs"));
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&ring);
}

static void part_grows_mapping(void **state)
{
	int fd = open_file("data", O_RDWR);
	unsigned char *map = map_fd(fd, page_size(), 0);

	(void)state;
	map = mremap(map, page_size(), SIZE, MREMAP_MAYMOVE);
	if (map == MAP_FAILED || differs(map, page_size(), 0, OLD) >= 0 ||
	    differs(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW) >= 0)
		_exit(10);
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEWER);
	_exit(0);
}

static void join__by_mremap(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map + SIZE / 2, SIZE / 2));
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	must_end_well(partner("grows_mapping"));
	assert_content(map + SIZE / 2, SIZE / 2, SIZE / 2, NEWER);
	io_uring_queue_exit(&ring);
}

static void part_forks(void **state)
{
	unsigned char *map = map_file("data", SIZE);
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		fill(map, SIZE / 2, 0, NEWER);
		_exit(differs(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW) >= 0 ? 10 : 0);
	}
	_exit(wait_for(child) ? 11 : differs(map, SIZE / 2, 0, NEWER) >= 0 ? 12 : 0);
}

static void join__and_fork(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	must_end_well(partner("forks"));
	assert_content(map, SIZE / 2, 0, NEWER);
	assert_content(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	io_uring_queue_exit(&ring);
}

/* ---- who leaves, and how ---- */

static void part_stages_and_waits(void **state)
{
	unsigned char *map = map_file("data", SIZE);
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	reached("staged");
	sleep_for_ever();
}

/* The process that staged is killed; those that joined go on, and their stores are not lost. */
static void leave__the_stager_is_killed(void **state)
{
	unsigned char *map;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	pid = partner("stages_and_waits");
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(wait_for(pid), EFAULT);
		return;
	}
	wait_reached("staged");
	map = map_file("data", SIZE);
	assert_content(map, SIZE, 0, NEW);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(wait_for(pid), -SIGKILL);
	assert_content(map, SIZE, 0, NEW);
	fill(map, SIZE / 2, 0, NEWER);
	must_end_well(partner("maps_second_half"));
	assert_content(map + SIZE / 2, SIZE / 2, SIZE / 2, DEVICE);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, NEWER);
	assert_in_file("data", SIZE / 2, SIZE / 2, DEVICE);
}

static void part_maps_second_half(void **state)
{
	unsigned char *map = map_fd(open_file("data", O_RDWR), SIZE / 2, SIZE / 2);

	(void)state;
	if (differs(map, SIZE / 2, SIZE / 2, NEW) >= 0)
		_exit(10);
	fill(map, SIZE / 2, SIZE / 2, DEVICE);
	_exit(0);
}

static void part_maps_and_waits(void **state)
{
	unsigned char *map = map_file("data", SIZE);

	(void)state;
	reached("mapped");
	wait_reached("unmapped");
	if (differs(map, SIZE, 0, NEW) >= 0)
		_exit(10);
	fill(map, SIZE, 0, NEWER);
	reached("stored");
	sleep_for_ever();
}

/* One unmaps; it reads, and maps again, what another has stored since. */
static void leave__by_munmap(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	unsigned char buf[4096];
	pid_t pid;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	pid = partner("maps_and_waits");
	wait_reached("mapped");
	fill(map, SIZE, 0, NEW);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	reached("unmapped");
	wait_reached("stored");
	assert_int_equal(pread(fd, buf, sizeof(buf), 8192), sizeof(buf));
	assert_content(buf, sizeof(buf), 8192, NEWER);
	map = map_fd(fd, SIZE, 0);
	assert_content(map, SIZE, 0, NEWER);
	fill(buf, sizeof(buf), 8192, OTHER);
	assert_int_equal(pwrite(fd, buf, sizeof(buf), 8192), sizeof(buf));
	assert_content(map + 8192, sizeof(buf), 8192, OTHER);
	kill(pid, SIGKILL);
	assert_int_equal(wait_for(pid), -SIGKILL);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 8192, sizeof(buf), OTHER);
	assert_in_file("data", 16384, SIZE - 16384, NEWER);
	close(fd);
}

/* A late stage: another process shows the file itself already. */
static void part_maps_natively(void **state)
{
	volatile unsigned char *map = map_file("data", SIZE);

	(void)state;
	(void)map;
	reached("mapped");
	sleep_for_ever();
}

static void late__refused_and_says_what_helps(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	pid = partner("maps_natively");
	wait_reached("mapped");
	map = map_file("data", SIZE);
	ring_init(&ring);
	assert_int_equal(register_one(&ring, map, SIZE), kernel_refuses() ? -EFAULT : 0);
	if (!kernel_refuses()) {
		kill(pid, SIGKILL);
		assert_int_equal(wait_for(pid), -SIGKILL);
		return;
	}
	assert_refused_once();
	if (with_shim())
		assert_true(log_has("event=refuse", "PINSTAGE_EAGER"));
	kill(pid, SIGKILL);
	assert_int_equal(wait_for(pid), -SIGKILL);
	/* Nobody is in the way any more. */
	must_stage(register_one(&ring, map, SIZE));
	io_uring_queue_exit(&ring);
}

static const struct test cases[] = {
	TEST(join__a_mapping_shows_memory),
	TEST(join__mapped_without_access),
	TEST(join__at_another_offset),
	TEST(join__read_only),
	TEST(join__registers_too),
	TEST(join__a_reader_sees_memory),
	TEST(join__a_writer_reaches_memory),
	TEST(join__an_appender_reaches_memory),
	TEST(join__truncation_by_another_process),
	TEST(join__truncation_by_name),
	TEST(join__fsync_by_another_process),
	TEST(join__by_mremap),
	TEST(join__and_fork),
	TEST(leave__the_stager_is_killed),
	TEST(leave__by_munmap),
	TEST(late__refused_and_says_what_helps),
	{ 0 },
};

#define PART(f)                             \
	{                                   \
		.name = #f, .run = part_##f \
	}

static const struct test parts[] = {
	PART(maps),
	PART(maps_without_access),
	PART(maps_part),
	PART(maps_read_only),
	PART(registers),
	PART(reads),
	PART(writes),
	PART(appends),
	PART(truncates),
	PART(truncates_by_name),
	PART(fsyncs),
	PART(grows_mapping),
	PART(forks),
	PART(stages_and_waits),
	PART(maps_second_half),
	PART(maps_and_waits),
	PART(maps_natively),
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases, parts);
}
