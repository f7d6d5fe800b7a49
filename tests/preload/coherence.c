/* SPDX-License-Identifier: MIT */
/* File and memory stay one, in corners where they once were two. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <utime.h>

#include "testlib.h"

#define SIZE (64 * KIB)

/* A parent that maps the range and has not touched it yet would see the file where the child
 * sees its staged memory, and each would overwrite the other. */
static void fork__untouched_mapping_of_parent(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int status;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		ring_init(&ring);
		_exit(register_one(&ring, map, SIZE) == (kernel_refuses() ? -EFAULT : 0) ? 0
											 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	if (kernel_refuses())
		assert_refused_once();
	map[0] = 'p';
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
}

/* The pin outlives the mapping; a new mapping shows what the device goes on writing to. */
static void mmap__again_while_registered(void **state)
{
	struct io_uring ring;
	unsigned char *map, *again;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(munmap(map, SIZE), 0);
	again = mmap(map, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	assert_ptr_equal(again, map);
	device_writes(&ring, again, SIZE / 2, 0);
	assert_content(again, SIZE / 2, 0, DEVICE);
	fill(again + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	assert_int_equal(msync(again, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(again, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	close(fd);
}

/* Memory that goes back to what it was when file and memory last agreed is not what the file
 * has, if the file was written to in between. */
static void write__then_old_content_stored(void **state)
{
	struct io_uring ring;
	unsigned char *map, copy[4096];
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	fill(copy, sizeof(copy), 0, NEW);
	assert_int_equal(pwrite(fd, copy, sizeof(copy), 0), sizeof(copy));
	assert_content(map, sizeof(copy), 0, NEW);
	fill(map, sizeof(copy), 0, OLD);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, OLD);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* Natively a lock of flock(2) ends with the last descriptor if no mapping made from it is left.
 */
static void flock__ends_with_descriptor(void **state)
{
	int held, other, fd;
	unsigned char *map, *kept;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	kept = map_fd(fd, SIZE, 0); /* the file stays mapped, through another description */
	held = open_file("data", O_RDWR);
	map = map_fd(held, SIZE, 0);
	assert_int_equal(flock(held, LOCK_EX), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(close(held), 0);
	other = open_file("data", O_RDWR);
	assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
	close(other);
	close(fd);
	assert_int_equal(munmap(kept, SIZE), 0);
}

/* ... or with the last mapping that was made from it: but overlayfs maps another one. */
static void flock__ends_with_mapping(void **state)
{
	const bool on_overlay = !strcmp(getenv("TEST_FS"), "overlay");
	unsigned char *map[2], *kept;
	int held[2], other;

	(void)state;
	make_file("data", 2 * SIZE);
	for (int i = 0; i < 2; i++) {
		held[i] = open_file("data", O_RDWR);
		map[i] = map_fd(held[i], SIZE, 0);
	}
	assert_int_equal(flock(held[0], LOCK_EX), 0);
	close(held[0]);
	close(held[1]);
	kept = mremap(map[0], SIZE, 2 * SIZE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(kept, MAP_FAILED);
	assert_int_equal(munmap(kept, SIZE), 0);
	other = open_file("data", O_RDWR);
	assert_int_equal(flock(other, LOCK_EX | LOCK_NB), on_overlay ? 0 : -1);
	assert_int_equal(munmap(kept + SIZE, SIZE), 0);
	assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
	close(other);
	assert_int_equal(munmap(map[1], SIZE), 0);
}

#define LONG_AGO 1000000000

static int set_times(unsigned how, int fd)
{
	const struct timespec spec[2] = { { LONG_AGO, 0 }, { LONG_AGO, 0 } };
	const struct timeval val[2] = { { LONG_AGO, 0 }, { LONG_AGO, 0 } };
	const struct utimbuf buf = { LONG_AGO, LONG_AGO };

	switch (how) {
	case 0:
		return futimens(fd, spec);
	case 1:
		return utimensat(AT_FDCWD, path_of("data"), spec, 0);
	case 2:
		return futimes(fd, val);
	case 3:
		return utimes(path_of("data"), val);
	case 4:
		return lutimes(path_of("data"), val);
	case 5:
		return futimesat(AT_FDCWD, path_of("data"), val);
	default:
		return utime(path_of("data"), &buf);
	}
}

/* What was stored before does not change them later. */
static void times__stay_as_set(void **state)
{
	struct staged s;
	struct stat st;
	int ret;

	(void)state;
	ret = open_and_stage(&s, SIZE);
	for (unsigned how = 0; how < 7; how++) {
		fill(s.map, SIZE, 0, how % 2 ? NEW : NEWER);
		assert_int_equal(set_times(how, s.fd), 0);
		assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
		assert_int_equal(fstat(s.fd, &st), 0);
		assert_int_equal(st.st_mtime, LONG_AGO);
	}
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(set_times(0, s.fd), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	io_uring_queue_exit(&s.ring);
	assert_int_equal(fstat(s.fd, &st), 0);
	assert_int_equal(st.st_mtime, LONG_AGO);
	assert_in_file("data", 0, SIZE, NEW);
	must_stage(ret);
}

struct flipping {
	volatile unsigned char *byte;
	atomic_bool stop;
};

static void *flip(void *arg)
{
	struct flipping *f = arg;

	while (!atomic_load(&f->stop)) {
		*f->byte = 1;
		*f->byte = 0;
	}
	return NULL;
}

/* What the keeper saw while the hole was made, and the file lost again, comes back. */
static void madvise_remove__memory_that_changes(void **state)
{
	struct flipping f;
	struct staged s;
	pthread_t thread;
	unsigned char c;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	f.byte = s.map + 448;
	for (int i = 0; i < 50; i++) {
		atomic_store(&f.stop, false);
		assert_int_equal(pthread_create(&thread, NULL, flip, &f), 0);
		assert_int_equal(madvise(s.map, 2 * page_size(), MADV_REMOVE), 0);
		atomic_store(&f.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		s.map[448] = 1;
		assert_int_equal(pread(s.fd, &c, 1, 448), 1);
		if (c != 1)
			fail_test("round %d: the file has %d\n", i, c);
	}
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(fork__untouched_mapping_of_parent),
		TEST(mmap__again_while_registered),
		TEST(write__then_old_content_stored),
		TEST(flock__ends_with_descriptor),
		TEST(flock__ends_with_mapping),
		TEST(times__stay_as_set),
		TEST(madvise_remove__memory_that_changes),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
