// SPDX-License-Identifier: MIT
/*
 * What the kernel accepts is none of the shim's business: the result is the native one and the
 * log tells of no staging. Where the kernel refuses for another reason, that stands.
 */
#include "testlib.h"

#include <dlfcn.h>
#include <pthread.h>
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

/* By name close() and msync() are cancellation points, by number nothing is. */
struct cancelled {
	unsigned char *map;
	unsigned done;
	bool by_name;
};

static void *with_cancellation_pending(void *arg)
{
	struct cancelled *c = arg;
	int fd = open_file("data", O_RDWR), other = open_file("data", O_RDWR);
	unsigned char *more = map_fd(fd, SIZE, 0);

	(void)pthread_cancel(pthread_self());
	if (c->by_name) {
		(void)msync(c->map, SIZE, MS_SYNC);
		c->done++;
		return NULL;
	}
	c->done += syscall(__NR_msync, c->map, SIZE, MS_SYNC) == 0;
	c->done += syscall(__NR_mprotect, more, SIZE, PROT_READ) == 0;
	c->done += syscall(__NR_madvise, more, SIZE, MADV_RANDOM) == 0;
	c->done += syscall(__NR_munmap, more, SIZE / 2) == 0;
	c->done += syscall(__NR_dup3, other, fd, O_CLOEXEC) == fd;
	c->done += syscall(__NR_close, fd) == 0;
	c->done += syscall(__NR_close_range, (unsigned)other, (unsigned)other, 0u) == 0;
	c->done += syscall(__NR_close, 1u << 20) == -1 && errno == EBADF;
	c->done += fcntl(fd, F_GETFD) == -1 && fcntl(other, F_GETFD) == -1;
	pthread_testcancel();
	return NULL;
}

static void assert_cancelled(struct cancelled *c, unsigned done)
{
	pthread_t t;
	void *ret;

	/* Leaving through frames of ours that it has marked on the stack is what an address
	 * sanitizer cannot follow. */
	if (c->by_name && dlsym(RTLD_DEFAULT, "__asan_init"))
		return;
	c->done = 0;
	assert_int_equal(pthread_create(&t, NULL, with_cancellation_pending, c), 0);
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_ptr_equal(ret, PTHREAD_CANCELED);
	assert_int_equal(c->done, done);
}

static void syscall__is_no_cancellation_point(void **state)
{
	struct cancelled c;
	struct io_uring ring;

	(void)state;
	make_file("data", SIZE);
	c.map = map_file("data", SIZE);
	c.by_name = false;
	assert_cancelled(&c, 9);
	c.by_name = true;
	assert_cancelled(&c, 0);
	/* The same where there is something to carry to the file. */
	ring_init(&ring);
	must_stage(register_one(&ring, c.map, SIZE));
	c.by_name = false;
	fill(c.map, SIZE, 0, NEW);
	assert_cancelled(&c, 9);
	assert_in_file("data", 0, SIZE, NEW);
	c.by_name = true;
	assert_cancelled(&c, 0);
	io_uring_queue_exit(&ring);
	/* No lock was left behind. */
	assert_int_equal(munmap(c.map, SIZE), 0);
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
		TEST(syscall__is_no_cancellation_point),
		TEST(errno__untouched_by_success),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
