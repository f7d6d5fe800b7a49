// SPDX-License-Identifier: MIT
/*
 * Requests that cannot be helped: the result is the kernel's own, one line says why, and
 * nothing is staged. The expected results were taken from runs without the shim, and each case
 * also runs so.
 */
#include "testlib.h"

#include <sys/resource.h>
#include <sys/syscall.h>

#define SIZE (256 * KIB)

static int raw_register(struct io_uring *ring, unsigned opcode, const void *arg, unsigned nr)
{
	int ret = (int)syscall(__NR_io_uring_register, ring->ring_fd, opcode, arg, nr);

	return ret < 0 ? -errno : ret;
}

/* Registers through liburing and must get `expected` (or `other`), with a line that says why.
 */
static void refused_either(void *base, size_t len, int expected, int other)
{
	struct io_uring ring;
	int ret;

	ring_init(&ring);
	ret = register_one(&ring, base, len);
	if (ret != other)
		assert_int_equal(ret, expected);
	/* The table stays empty. */
	assert_int_equal(io_uring_unregister_buffers(&ring), -ENXIO);
	io_uring_queue_exit(&ring);
	assert_refused_once();
}

static void refused(void *base, size_t len, int expected)
{
	refused_either(base, len, expected, expected);
}

/* A file mapping with anonymous memory directly behind it; one iovec over both. */
static void range__file_then_anonymous(void **state)
{
	unsigned char *room;
	int fd;

	(void)state;
	if (!kernel_refuses())
		skip_test("not on tmpfs: the kernel accepts it");
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	room = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_equal(
		mmap(room, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), room);
	refused(room, 2 * SIZE, -EFAULT);
	fill(room, SIZE, 0, NEW);
	assert_in_file("data", 0, SIZE, NEW);
	close(fd);
}

static void range__anonymous_then_file(void **state)
{
	unsigned char *room;
	int fd;

	(void)state;
	if (!kernel_refuses())
		skip_test("not on tmpfs: the kernel accepts it");
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	room = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_equal(
		mmap(room + SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
		room + SIZE);
	refused(room, 2 * SIZE, -EFAULT);
	close(fd);
}

/* Far below where the kernel places mappings: whatever maps something next would fill the gap.
 */
static void range__with_gap(void **state)
{
	const size_t far = 64UL << 30;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	map = mremap(map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, map - far);
	assert_true(map != MAP_FAILED);
	assert_int_equal(munmap(map + SIZE / 2, page_size()), 0);
	refused(map, SIZE, -EFAULT);
}

static void range__partly_read_only(void **state)
{
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	assert_int_equal(mprotect(map + SIZE / 2, page_size(), PROT_READ), 0);
	refused(map, SIZE, -EFAULT);
}

static void range__past_end_of_file(void **state)
{
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, 2 * SIZE, 0);
	refused(map + SIZE, SIZE, -EFAULT);
	assert_int_equal(file_size("data"), SIZE);
	close(fd);
}

static void range__over_end_of_file(void **state)
{
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, 2 * SIZE, 0);
	refused(map + SIZE / 2, SIZE, -EFAULT);
	assert_int_equal(file_size("data"), SIZE);
	close(fd);
}

static void range__zero_length(void **state)
{
	(void)state;
	make_file("data", SIZE);
	refused(map_file("data", SIZE), 0, -EFAULT);
}

static void range__null_base_with_length(void **state)
{
	(void)state;
	refused(NULL, SIZE, -EFAULT);
}

static void range__wraps(void **state)
{
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	/* More than one buffer may have, and more than there is address space. Kernels differ.
	 */
	refused_either(map, SIZE_MAX - (uintptr_t)map + 2, -EFAULT, -EINVAL);
}

static void range__end_wraps(void **state)
{
	(void)state;
	refused((void *)(UINTPTR_MAX - 4095), 8192, -EOVERFLOW);
}

static void range__too_long(void **state)
{
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	refused(map, 2048 * MIB, -EFAULT);
}

static void iovecs__null(void **state)
{
	struct io_uring ring;
	int ret;

	(void)state;
	ring_init(&ring);
	ret = raw_register(&ring, IORING_REGISTER_BUFFERS, NULL, 1);
	assert_true(ret == -EFAULT || ret == 0); /* newer kernels: an empty table */
	if (ret == -EFAULT)
		assert_refused_once();
	assert_not_staged();
	io_uring_queue_exit(&ring);
}

static void iovecs__invalid_pointer(void **state)
{
	void *nothing = mmap(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	assert_int_equal(io_uring_register_buffers(&ring, nothing, 1), -EFAULT);
	assert_refused_once();
	io_uring_queue_exit(&ring);
}

/* The array runs out of its mapping: the shim must not read where the kernel would fault. */
static void iovecs__run_into_nothing(void **state)
{
	unsigned char *room = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec *last = (struct iovec *)(void *)(room + page_size()) - 1;
	struct io_uring ring;

	(void)state;
	make_file("data", SIZE);
	assert_int_equal(mprotect(room + page_size(), page_size(), PROT_NONE), 0);
	*last = iov(map_file("data", SIZE), SIZE);
	ring_init(&ring);
	assert_int_equal(io_uring_register_buffers(&ring, last, 2), -EFAULT);
	assert_refused_once();
	io_uring_queue_exit(&ring);
}

static void iovecs__invalid_pointer_in_buffers2(void **state)
{
	void *nothing = mmap(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_rsrc_register arg = { .nr = 1, .data = (uintptr_t)nothing };
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	assert_int_equal(raw_register(&ring, IORING_REGISTER_BUFFERS2, &arg, sizeof(arg)),
			 -EFAULT);
	assert_refused_once();
	io_uring_queue_exit(&ring);
}

static void argument__invalid_pointer_in_buffers2(void **state)
{
	void *nothing = mmap(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	assert_int_equal(raw_register(&ring, IORING_REGISTER_BUFFERS2, nothing,
				      sizeof(struct io_uring_rsrc_register)),
			 -EFAULT);
	assert_int_equal(raw_register(&ring, IORING_REGISTER_BUFFERS2, nothing, 3), -EINVAL);
	assert_not_staged();
	io_uring_queue_exit(&ring);
}

static void iovecs__none_and_too_many(void **state)
{
	struct io_uring ring;
	struct iovec one;

	(void)state;
	make_file("data", SIZE);
	one = iov(map_file("data", SIZE), SIZE);
	ring_init(&ring);
	assert_int_equal(io_uring_register_buffers(&ring, &one, 0), -EINVAL);
	assert_int_equal(io_uring_register_buffers(&ring, &one, 1u << 30), -EINVAL);
	assert_not_staged();
	io_uring_queue_exit(&ring);
}

/* One of several iovecs cannot be helped: none is registered, as the kernel alone does it. */
static void iovecs__one_of_three_bad(void **state)
{
	struct iovec iovecs[3];
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	iovecs[0] = iov(map, SIZE / 4);
	iovecs[1] = iov(mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE);
	iovecs[2] = iov(map + SIZE / 2, SIZE / 4);
	ring_init(&ring);
	assert_int_equal(io_uring_register_buffers(&ring, iovecs, 3), -EFAULT);
	assert_int_equal(io_uring_unregister_buffers(&ring), -ENXIO);
	if (with_shim() && kernel_refuses())
		assert_int_equal(log_lines("event=refuse"), 1);
	fill(map, SIZE, 0, NEW);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&ring);
}

static void ring__is_no_ring(void **state)
{
	struct iovec one;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	one = iov(map_fd(fd, SIZE, 0), SIZE);
	assert_int_equal(syscall(__NR_io_uring_register, fd, IORING_REGISTER_BUFFERS, &one, 1),
			 -1);
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(syscall(__NR_io_uring_register, 999, IORING_REGISTER_BUFFERS, &one, 1),
			 -1);
	assert_int_equal(errno, EBADF);
	assert_not_staged();
	close(fd);
}

/* ---- limits ---- */

/* Only the soft limit: the keeper that this process may have to start serves others, too. */
static void limit(int resource, rlim_t value)
{
	struct rlimit limits;

	assert_int_equal(getrlimit(resource, &limits), 0);
	limits.rlim_cur = value;
	assert_int_equal(setrlimit(resource, &limits), 0);
}

/* All descriptors are taken when the pin comes: either it works, or it is as without the shim.
 */
static void limit__no_descriptor_left(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int ret, fd;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	limit(RLIMIT_NOFILE, 64);
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		continue;
	assert_int_equal(errno, EMFILE);
	ret = register_one(&ring, map, SIZE);
	close(63); /* for the log and the tools */
	close(62);
	if (!kernel_refuses()) {
		assert_int_equal(ret, 0);
		return;
	}
	if (ret == 0) {
		assert_true(with_shim());
		assert_int_equal(log_lines("event=refuse"), 0);
	} else {
		assert_int_equal(ret, -EFAULT);
		assert_refused_once();
	}
	fill(map, SIZE, 0, NEW);
	assert_int_equal(munmap(map, SIZE), 0);
	for (fd = 10; fd < 64; fd++) {
		if (fd != ring.ring_fd)
			close(fd);
	}
	assert_in_file("data", 0, SIZE, NEW);
}

/* The limit is low from the start: kept descriptors must not have to sit above it. */
static void limit__few_descriptors(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int ret;

	(void)state;
	limit(RLIMIT_NOFILE, 24);
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	ret = register_one(&ring, map, SIZE);
	must_stage(ret);
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&ring);
}

/* More registrations than the program may have descriptors, and all of those are its own
 * still. */
static void limit__many_registrations(void **state)
{
	enum { N = 150, LIMIT = 64 };
	const size_t step = 2 * (size_t)sysconf(_SC_PAGESIZE);
	int fd, opened = 0, last = -1;
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	limit(RLIMIT_NOFILE, LIMIT);
	make_file("data", N * step);
	map = map_file("data", N * step);
	ring_init(&ring);
	for (size_t i = 0; i < N; i++) {
		must_stage(register_one(&ring, map + i * step, step / 2));
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
		fill(map + i * step, step / 2, i * step, NEW);
	}
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
		opened++;
		last = fd;
	}
	assert_int_equal(errno, EMFILE);
	assert_int_equal(last, LIMIT - 1);
	assert_true(opened > LIMIT / 2);
	for (fd = 10; fd <= last; fd++)
		if (fd != ring.ring_fd)
			close(fd);
	assert_int_equal(munmap(map, N * step), 0);
	for (size_t i = 0; i < N; i++)
		assert_in_file("data", i * step, step / 2, NEW);
	io_uring_queue_exit(&ring);
}

/* An ordinary user with a small limit: the pin is refused, with or without the shim. */
static void limit__locked_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int ret;

	(void)state;
	if (geteuid() == 0) {
		/* The log is opened by then; the new user has to read it. */
		if (with_shim())
			close(open(getenv("TEST_LOG"), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
		(void)!chmod(getenv("TEST_LOG"), 0644);
		assert_int_equal(chmod(test_dir(), 0777), 0);
		assert_int_equal(setgid(65534), 0);
		assert_int_equal(setuid(65534), 0);
	}
	make_file("data", MIB);
	map = map_file("data", MIB);
	/* Before the limit: rings count, too, and those of the user's other processes with
	 * them. */
	ring_init(&ring);
	limit(RLIMIT_MEMLOCK, 64 * KIB);
	ret = register_one(&ring, map, MIB);
	if (!kernel_refuses()) {
		assert_int_equal(ret, -ENOMEM);
		return;
	}
	if (!with_shim())
		assert_int_equal(ret, -EFAULT);
	/* What the kernel says to the staged range is an honest answer, too. */
	assert_true(ret == -EFAULT || ret == -ENOMEM);
	if (with_shim())
		assert_int_equal(log_lines("event=refuse"), 1);
	fill(map, MIB, 0, NEW);
	assert_int_equal(munmap(map, MIB), 0);
	assert_in_file("data", 0, MIB, NEW);
	io_uring_queue_exit(&ring);
}

/* RLIMIT_FSIZE binds the program's writes, not what was stored in a mapping. */
static void limit__file_size(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	close(make_source(SIZE, DEVICE));
	map = map_file("data", SIZE);
	limit(RLIMIT_FSIZE, page_size());
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	{
		int fd = open_file("source", O_RDONLY);

		read_fixed(&ring, fd, map, SIZE, 0, 0);
		close(fd);
	}
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&ring);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(range__file_then_anonymous),
		TEST(range__anonymous_then_file),
		TEST(range__with_gap),
		TEST(range__partly_read_only),
		TEST(range__past_end_of_file),
		TEST(range__over_end_of_file),
		TEST(range__zero_length),
		TEST(range__null_base_with_length),
		TEST(range__wraps),
		TEST(range__end_wraps),
		TEST(range__too_long),
		TEST(iovecs__null),
		TEST(iovecs__invalid_pointer),
		TEST(iovecs__run_into_nothing),
		TEST(iovecs__invalid_pointer_in_buffers2),
		TEST(argument__invalid_pointer_in_buffers2),
		TEST(iovecs__none_and_too_many),
		TEST(iovecs__one_of_three_bad),
		TEST(ring__is_no_ring),
		TEST(limit__no_descriptor_left),
		TEST(limit__few_descriptors),
		TEST(limit__many_registrations),
		TEST(limit__locked_memory),
		TEST(limit__file_size),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
