// SPDX-License-Identifier: MIT
/*
 * What the kernel accepts is none of the shim's business: the result is the native one and the
 * log tells of no staging. Where the kernel refuses for another reason, that stands.
 */
#include "testlib.h"

#include <sys/syscall.h>

#define SIZE (256 * KIB)

static void accepts(void *map)
{
	struct io_uring ring;

	ring_init(&ring);
	assert_int_equal(register_one(&ring, map, SIZE), 0);
	device_writes(&ring, map, SIZE, 0);
	assert_content(map, SIZE, 0, DEVICE);
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	io_uring_queue_exit(&ring);
	assert_not_staged();
	assert_int_equal(log_lines("event=refuse"), 0);
}

static void private_mapping__not_staged(void **state)
{
	int fd;
	void *map;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	accepts(map);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, OLD);
	close(fd);
}

static void anonymous_memory__not_staged(void **state)
{
	void *map =
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	accepts(map);
}

static void shared_anonymous_memory__not_staged(void **state)
{
	void *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	accepts(map);
}

static void memfd__not_staged(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	void *map;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	map = map_fd(fd, SIZE, 0);
	accepts(map);
	close(fd);
}

/* On tmpfs this is native; elsewhere it is the main job. */
static void shared_mapping__staged_only_where_refused(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_staged();
	if (with_shim())
		assert_int_equal(log_lines("event=stage") > 0, kernel_refuses());
	io_uring_queue_exit(&ring);
}

static void mapped_but_never_pinned__not_staged(void **state)
{
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	fill(map, SIZE, 0, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	assert_not_staged();
	assert_int_equal(log_lines("event=refuse"), 0);
}

/* Asking the kernel to write where the program itself may not is a mistake everywhere. */
static void read_only_mapping__stays_refused(void **state)
{
	struct io_uring ring;
	void *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	ring_init(&ring);
	assert_int_equal(register_one(&ring, map, SIZE), -EFAULT);
	assert_not_staged();
	assert_content(map, SIZE, 0, OLD);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* ---- syscall() ---- */

static void syscall__six_arguments(void **state)
{
	off_t in = 0, out = 3;
	unsigned char *map;
	char buf[16];
	int fd, to;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = (unsigned char *)syscall(__NR_mmap, NULL, page_size(), PROT_READ, MAP_SHARED, fd,
				       3 * page_size());
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_content(map, page_size(), 3 * page_size(), OLD);
	assert_int_equal(syscall(__NR_munmap, map, page_size()), 0);

	make_file("sink", 16);
	to = open_file("sink", O_RDWR);
	assert_int_equal(syscall(__NR_copy_file_range, fd, &in, to, &out, 8ul, 0u), 8);
	assert_int_equal(in, 8);
	assert_int_equal(out, 11);
	assert_int_equal(pread(to, buf, 8, 3), 8);
	assert_int_equal(differs(buf, 8, 0, OLD), -1);
	close(fd);
	close(to);
}

static void syscall__errno(void **state)
{
	(void)state;
	errno = 0;
	assert_int_equal(syscall(__NR_close, -1), -1);
	assert_int_equal(errno, EBADF);
	errno = EDOM;
	assert_int_equal(syscall(__NR_getpid), getpid());
	assert_int_equal(errno, EDOM);
	assert_int_equal(syscall(-1L), -1);
	assert_int_equal(errno, ENOSYS);
	/* A large result is no error. */
	assert_true(syscall(__NR_brk, 0) != -1);
}

static void syscall__uring_errors(void **state)
{
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	errno = 0;
	assert_int_equal(syscall(__NR_io_uring_register, ring.ring_fd, 9999u, NULL, 0u), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(
		syscall(__NR_io_uring_register, 999, IORING_REGISTER_BUFFERS, NULL, 1u), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(syscall(__NR_io_uring_register, ring.ring_fd,
				 IORING_UNREGISTER_BUFFERS, NULL, 0u),
			 -1);
	assert_int_equal(errno, ENXIO);
	/* Other registrations go through the same call. */
	{
		int fds[2] = { -1, -1 };

		assert_int_equal(syscall(__NR_io_uring_register, ring.ring_fd,
					 IORING_REGISTER_FILES, fds, 2u),
				 0);
	}
	io_uring_queue_exit(&ring);
	assert_not_staged();
}

/* Success of a hooked call leaves errno alone. */
static void errno__untouched_by_success(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	ring_init(&ring);
	errno = EDOM;
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	assert_int_equal(errno, EDOM);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(errno, EDOM);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_int_equal(mprotect(map, SIZE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(errno, EDOM);
	io_uring_queue_exit(&ring);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(private_mapping__not_staged),
		TEST(anonymous_memory__not_staged),
		TEST(shared_anonymous_memory__not_staged),
		TEST(memfd__not_staged),
		TEST(shared_mapping__staged_only_where_refused),
		TEST(mapped_but_never_pinned__not_staged),
		TEST(read_only_mapping__stays_refused),
		TEST(syscall__six_arguments),
		TEST(syscall__errno),
		TEST(syscall__uring_errors),
		TEST(errno__untouched_by_success),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
