// SPDX-License-Identifier: MIT
/*
 * Nothing lost: closed descriptors, removed names, and every way to end. What the program and
 * its devices wrote is in the file afterwards, as a process without the shim sees it.
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

/* ---- ends ---- */

static void stage_and_write(void)
{
	struct io_uring ring;
	unsigned char *map;

	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, SIZE));
	write_both(&ring, map);
}

static void returns(void **state)
{
	(void)state;
	stage_and_write();
}

static void exits(void **state)
{
	(void)state;
	stage_and_write();
	exit(3);
}

static void exits_at_once(void **state)
{
	(void)state;
	stage_and_write();
	_exit(3);
}

static void exits_quickly(void **state)
{
	(void)state;
	stage_and_write();
	quick_exit(3);
}

static void aborts(void **state)
{
	(void)state;
	stage_and_write();
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void crashes(void **state)
{
	(void)state;
	stage_and_write();
	signal(SIGSEGV, SIG_DFL);
	*(volatile char *)mmap(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0) = 1;
}

static void waits_for_death(void **state)
{
	(void)state;
	stage_and_write();
	reached("staged");
	sleep_for_ever();
}

static void executes(void **state)
{
	(void)state;
	stage_and_write();
	execl("/bin/true", "true", (char *)NULL);
}

static unsigned char *late_map;

static void write_late(void)
{
	fill(late_map, SIZE, 0, NEWER);
}

/* An atexit handler, and so a destructor, may still write. */
static void writes_in_atexit(void **state)
{
	struct io_uring ring;

	(void)state;
	atexit(write_late);
	make_file("data", SIZE);
	late_map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, late_map, SIZE));
}

static void exit__by_return(void **state)
{
	(void)state;
	must_run("returns", 0);
	assert_true(both_in_file("data"));
}

static void exit__by_exit(void **state)
{
	(void)state;
	must_run("exits", 3);
	assert_true(both_in_file("data"));
}

static void exit__by__exit(void **state)
{
	(void)state;
	must_run("exits_at_once", 3);
	assert_true(both_in_file("data"));
}

static void exit__by_quick_exit(void **state)
{
	(void)state;
	must_run("exits_quickly", 3);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at quick_exit\n");
}

static void exit__atexit_handler_writes(void **state)
{
	(void)state;
	must_run("writes_in_atexit", 0);
	assert_reaches_file("data", 0, SIZE, NEWER);
}

static void exit__by_abort(void **state)
{
	(void)state;
	must_run("aborts", -SIGABRT);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at abort\n");
}

static void exit__by_crash(void **state)
{
	(void)state;
	must_run("crashes", -SIGSEGV);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at a crash\n");
}

static void exit__by_execve(void **state)
{
	(void)state;
	must_run("executes", 0);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at execve\n");
}

static void exit__by_sigkill(void **state)
{
	pid_t pid;

	(void)state;
	pid = start_part("waits_for_death");
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(wait_for(pid), EFAULT);
		return;
	}
	wait_reached("staged");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(wait_for(pid), -SIGKILL);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at SIGKILL\n");
	assert_int_equal(file_size("data"), SIZE);
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
		TEST(exit__by_return),
		TEST(exit__by_exit),
		TEST(exit__by__exit),
		TEST(exit__by_quick_exit),
		TEST(exit__atexit_handler_writes),
		TEST(exit__by_abort),
		TEST(exit__by_crash),
		TEST(exit__by_execve),
		TEST(exit__by_sigkill),
		{ 0 },
	};
	static const struct test parts[] = {
		TEST(returns),		TEST(exits),
		TEST(exits_at_once),	TEST(exits_quickly),
		TEST(aborts),		TEST(crashes),
		TEST(waits_for_death),	TEST(executes),
		TEST(writes_in_atexit), { 0 },
	};

	return test_main(argc, argv, cases, parts);
}
