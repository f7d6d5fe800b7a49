/* SPDX-License-Identifier: MIT */
/* Memory that calls on a staged file copy from or to, and that is not what most memory is. */
#include "testlib.h"

#include <limits.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define STAGED (128 * KIB)

static struct staged s;

/* A buffer whose pages another thread fills in, from the staged file itself. */
static void *serve_faults(void *arg)
{
	static unsigned char page[64 * KIB];
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	const int uffd = *(int *)arg;
	struct uffd_msg m;

	while (read(uffd, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
		struct uffdio_copy copy = { .dst = m.arg.pagefault.address & ~(size - 1),
					    .src = (uintptr_t)page,
					    .len = size };

		if (pread(s.fd, page, size, 8192) < 0 || ioctl(uffd, UFFDIO_COPY, &copy) < 0)
			abort();
	}
	return NULL;
}

static unsigned char *served_by_a_thread(size_t len)
{
	static int uffd;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	unsigned char *buf;
	pthread_t thread;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
		skip_test("cannot: this kernel has no userfaultfd for us");
	buf = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(buf, MAP_FAILED);
	range.range = (struct uffdio_range){ (uintptr_t)buf, len };
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &range), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve_faults, &uffd), 0);
	return buf;
}

static void read__into_memory_that_a_thread_serves(void **state)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *buf;

	(void)state;
	must_stage(open_and_stage(&s, STAGED));
	buf = served_by_a_thread(2 * size);
	fill(s.map, STAGED, 0, NEW);
	assert_int_equal(read(s.fd, buf, size + 100), size + 100);
	assert_content(buf, size + 100, 0, NEW);
	io_uring_queue_exit(&s.ring);
}

/* Two pages of `from` to `at` by each of the calls, from memory that nobody has touched. */
static void write_served(unsigned n, unsigned char *from, off_t at)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	const struct iovec iov[2] = { { from, size }, { from + size, size } };
	const ssize_t all = (ssize_t)(2 * size);

	assert_int_equal(lseek(s.fd, at, SEEK_SET), at);
	if (n == 0)
		assert_int_equal(write(s.fd, from, 2 * size), all);
	else if (n == 1)
		assert_int_equal(pwrite(s.fd, from, 2 * size, at), all);
	else if (n == 2)
		assert_int_equal(writev(s.fd, iov, 2), all);
	else if (n == 3)
		assert_int_equal(pwritev(s.fd, iov, 2, at), all);
	else
		assert_int_equal(pwritev2(s.fd, iov, 2, at, 0), all);
}

static void write__from_memory_that_a_thread_serves(void **state)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	const off_t at = 64 * KIB;
	unsigned char *buf;

	(void)state;
	must_stage(open_and_stage(&s, STAGED));
	buf = served_by_a_thread(10 * size);
	for (unsigned n = 0; n < 5; n++) {
		fill(s.map, STAGED, 0, n % 2 ? OLD : NEW);
		write_served(n, buf + 2 * n * size, at);
		for (size_t page = 0; page < 2; page++)
			assert_content(s.map + at + page * size, size, 8192, n % 2 ? OLD : NEW);
	}
	io_uring_queue_exit(&s.ring);
}

/* What each of the calls says of memory that it cannot write from, and of a file that is not
 * staged; and the two have the same in the end. */
static void compare_writes(int other, const void *from, size_t n)
{
	const struct iovec iov[2] = { { s.map, 100 }, { (void *)(uintptr_t)from, n } };
	ssize_t want, got;
	int error;

	errno = 0;
	want = pwrite(other, from, n, 8192);
	error = errno;
	errno = 0;
	got = pwrite(s.fd, from, n, 8192);
	assert_int_equal(got, want);
	assert_int_equal(errno, error);
	errno = 0;
	want = pwritev(other, iov, 2, 16384 + 50);
	error = errno;
	errno = 0;
	got = pwritev(s.fd, iov, 2, 16384 + 50);
	assert_int_equal(got, want);
	assert_int_equal(errno, error);
}

static void write__from_bad_memory(void **state)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *bad, *past, *seen;
	int other, small;

	(void)state;
	must_stage(open_and_stage(&s, STAGED));
	make_file("other", STAGED);
	other = open_file("other", O_RDWR);
	make_file("small", 100);
	small = open_file("small", O_RDWR);
	past = map_fd(small, 3 * size, 0);
	bad = mmap(NULL, 4 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	seen = malloc(STAGED);
	assert_true(bad != MAP_FAILED && seen);
	memset(bad, 'b', size);
	assert_int_equal(mprotect(bad + size, size, PROT_NONE), 0);
	assert_int_equal(munmap(bad + 2 * size, size), 0);

	compare_writes(other, bad, 2 * size);
	compare_writes(other, bad + size, 10);
	compare_writes(other, bad + 2 * size, 10);
	compare_writes(other, bad + size - 10, 2 * size);
	compare_writes(other, past, 2 * size); /* would be SIGBUS to who reads it */
	compare_writes(other, past + size, size);
	compare_writes(other, NULL, 10);
	compare_writes(other, bad, 0);
	compare_writes(other, (void *)-size, 2 * size);
	compare_writes(other, (void *)-size, SSIZE_MAX);
	assert_int_equal(pwritev(s.fd, (struct iovec *)(bad + size), 2, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(pwritev(s.fd, (struct iovec *)bad, IOV_MAX + 1, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(write(-1, bad, 10), -1);
	assert_int_equal(errno, EBADF);

	assert_int_equal(pread(other, seen, STAGED, 0), STAGED);
	assert_memory_equal(s.map, seen, STAGED);
	free(seen);
	close(small);
	close(other);
	io_uring_queue_exit(&s.ring);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(read__into_memory_that_a_thread_serves),
		TEST(write__from_memory_that_a_thread_serves),
		TEST(write__from_bad_memory),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
