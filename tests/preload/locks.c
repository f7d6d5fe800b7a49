/* SPDX-License-Identifier: MIT */
/* Locks on a file are held as long as the program holds them, and no longer. */
#include "testlib.h"

#include <pinstage.h>
#include <sys/file.h>

#define SIZE (256 * KIB)

static bool others_can(const char *how)
{
	int ret = tool("filetool", how, path_of("data"));

	assert_true(ret == 0 || ret == 1);
	return ret == 0;
}

static void take_posix_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
}

static void posix_lock__held_through_staging(void **state)
{
	struct staged s;
	int ret;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	take_posix_lock(s.fd);
	s.map = map_fd(s.fd, SIZE, 0);
	assert_false(others_can("lockable"));
	ret = register_one(&s.ring, s.map, SIZE);
	assert_false(others_can("lockable"));
	must_stage(ret);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_false(others_can("lockable"));
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	io_uring_queue_exit(&s.ring);
	assert_false(others_can("lockable"));
	assert_int_equal(close(s.fd), 0);
	assert_true(others_can("lockable"));
}

/* Closed after mmap, opened again and locked: what the shim kept must not be closed now. */
static void posix_lock__taken_after_close(void **state)
{
	struct staged s;
	int fd;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.map = map_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	take_posix_lock(fd);
	must_stage(register_one(&s.ring, s.map, SIZE));
	assert_false(others_can("lockable"));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_false(others_can("lockable"));
	assert_in_file("data", 0, SIZE, DEVICE);
	close(fd);
	assert_true(others_can("lockable"));
	io_uring_queue_exit(&s.ring);
}

/* The lock goes when the program closes any of its own descriptors, as without the shim. */
static void posix_lock__lost_by_own_close(void **state)
{
	struct staged s;
	int second, ret;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	second = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	take_posix_lock(second);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_int_equal(close(s.fd), 0);
	assert_true(others_can("lockable"));
	must_stage(ret);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&s.ring);
}

static void flock__not_prolonged(void **state)
{
	struct staged s;
	int ret;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	assert_int_equal(flock(s.fd, LOCK_EX), 0);
	s.map = map_fd(s.fd, SIZE, 0);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_false(others_can("flockable"));
	if (ret == 0) {
		device_writes(&s.ring, s.map, SIZE, 0);
		assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	}
	/* The description lives, and with it the lock, until both are gone. */
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_false(others_can("flockable"));
	assert_int_equal(close(s.fd), 0);
	assert_true(others_can("flockable"));
	must_stage(ret);
	io_uring_queue_exit(&s.ring);
}

static void flock__mapping_goes_last(void **state)
{
	struct staged s;
	int ret;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	assert_int_equal(flock(s.fd, LOCK_EX), 0);
	s.map = map_fd(s.fd, SIZE, 0);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_int_equal(close(s.fd), 0);
	if (ret == 0)
		assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_true(others_can("flockable"));
	must_stage(ret);
	io_uring_queue_exit(&s.ring);
}

static void flock__unlocked_at_once(void **state)
{
	struct staged s;
	int ret;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	assert_int_equal(flock(s.fd, LOCK_EX), 0);
	s.map = map_fd(s.fd, SIZE, 0);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_int_equal(flock(s.fd, LOCK_UN), 0);
	assert_true(others_can("flockable"));
	must_stage(ret);
	io_uring_queue_exit(&s.ring);
}

/* ---- locks while the range is given back, and the file is cut ---- */

static void take_ofd_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
}

static void take_flock(int fd)
{
	assert_int_equal(flock(fd, LOCK_EX), 0);
}

/* Also without the shim, and where the registration failed: the lock knows nothing of it. */
static void keeps_lock(void (*take)(int fd), const char *how)
{
	struct staged s;
	int ret, other;

	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	take(s.fd);
	s.map = map_fd(s.fd, SIZE, 0);
	for (int round = 0; round < 4; round++) {
		ret = register_one(&s.ring, s.map, SIZE);
		fill(s.map, SIZE, 0, NEW);
		if (ret == 0 && round != 3)
			assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
		if (ret == 0 && with_shim() && round == 0)
			assert_int_equal(pinstage_release(s.map, SIZE), 0);
		if (round == 1)
			assert_int_equal(truncate(path_of("data"), SIZE / 2), 0);
		/* An own close() would end a POSIX lock: not before the end. */
		if (round >= 2)
			assert_true((other = open_file("data", O_WRONLY | O_TRUNC)) >= 0);
		assert_false(others_can(how));
		assert_int_equal(ftruncate(s.fd, SIZE), 0);
		assert_false(others_can(how));
	}
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_false(others_can(how));
	io_uring_queue_exit(&s.ring);
	assert_int_equal(close(s.fd), 0);
	assert_true(others_can(how));
	must_stage(ret);
	(void)other;
}

static void posix_lock__held_through_giving_back_and_cuts(void **state)
{
	(void)state;
	keeps_lock(take_posix_lock, "lockable");
}

static void ofd_lock__held_through_giving_back_and_cuts(void **state)
{
	(void)state;
	keeps_lock(take_ofd_lock, "lockable");
}

static void flock__held_through_giving_back_and_cuts(void **state)
{
	(void)state;
	keeps_lock(take_flock, "flockable");
}

/* The file position and flags of the program's descriptor stay its own. */

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(posix_lock__held_through_staging),
		TEST(posix_lock__taken_after_close),
		TEST(posix_lock__lost_by_own_close),
		TEST(flock__not_prolonged),
		TEST(flock__mapping_goes_last),
		TEST(flock__unlocked_at_once),
		TEST(posix_lock__held_through_giving_back_and_cuts),
		TEST(ofd_lock__held_through_giving_back_and_cuts),
		TEST(flock__held_through_giving_back_and_cuts),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
