// SPDX-License-Identifier: MIT
/*
 * What went wrong once: calls that the kernel refuses, lists that are bad, writes that go where
 * the flags say, and many threads that want the same.
 */
#include <pinstage.h>

#include "testlib.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define SIZE	(64 * KIB)
#define THREADS 8

/* A truncation that the kernel refuses takes nothing away. */
static void ftruncate__refused(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd, ro;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ro = open_file("data", O_RDONLY);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE / 2, 0, NEW);
	errno = 0;
	assert_int_equal(ftruncate(ro, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_content(map, SIZE / 2, 0, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	assert_in_file("data", SIZE / 2, SIZE / 2, OLD);
	io_uring_queue_exit(&ring);
}

/* Clearing what was cut off is no write of the program's: no SIGXFSZ. */
static void ftruncate__below_a_limit_on_file_size(void **state)
{
	struct rlimit limit;
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = SIZE / 4;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(ftruncate(fd, SIZE / 8), 0);
	assert_int_equal(file_size("data"), SIZE / 8);
	assert_content(map, SIZE / 8, 0, OLD);
	io_uring_queue_exit(&ring);
}

static void pwritev2__with_append(void **state)
{
	unsigned char added[512];
	struct io_uring ring;
	unsigned char *map;
	struct iovec v = iov(added, sizeof(added));
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(added, sizeof(added), SIZE, NEW);
	assert_int_equal(pwritev2(fd, &v, 1, 0, RWF_APPEND), sizeof(added));
	assert_content(map, SIZE, 0, OLD);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, OLD);
	assert_in_file("data", SIZE, sizeof(added), NEW);
	io_uring_queue_exit(&ring);
}

static void readv__bad_list(void **state)
{
	struct iovec *bad;
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	bad = mmap(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(bad, MAP_FAILED);
	errno = 0;
	assert_int_equal(readv(fd, bad, 2), -1);
	assert_int_equal(errno, EFAULT);
	errno = 0;
	assert_int_equal(preadv(fd, bad, 2, 0), -1);
	assert_int_equal(errno, EFAULT);
	io_uring_queue_exit(&ring);
}

static void set_immutable(int fd, bool immutable)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags); /* or not: then all is simpler */
}

/* The list is gone when the call returns; and what memory has cannot be written to the file.
 * (By those that no sanitizer looks at: it reads the list again.) */
static void preadv2__into_its_own_list(void **state)
{
	unsigned char buf[4096] __attribute__((aligned(16)));
	struct iovec list[2] = { iov(buf, 64), iov(buf + 64, sizeof(buf) - 64) };
	struct staged s;
	ssize_t ret[2];

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	set_immutable(s.fd, true);
	fill(s.map, SIZE, 0, NEW);
	memcpy(buf, list, sizeof(list));
	ret[0] = preadv2(s.fd, (const struct iovec *)(const void *)buf, 2, -1, 0);
	if (ret[0] == sizeof(buf) && differs(buf, sizeof(buf), 0, NEW) >= 0)
		ret[0] = -2;
	memcpy(buf, list, sizeof(list));
	ret[1] = preadv2(s.fd, (const struct iovec *)(const void *)buf, 2, 0, 0);
	if (ret[1] == sizeof(buf) && differs(buf, sizeof(buf), 0, NEW) >= 0)
		ret[1] = -2;
	set_immutable(s.fd, false);
	assert_int_equal(ret[0], sizeof(buf));
	assert_int_equal(ret[1], sizeof(buf));
}

struct changing {
	volatile struct iovec *v;
	atomic_bool stop;
};

static void *change_list(void *arg)
{
	struct changing *c = arg;

	while (!atomic_load(&c->stop)) {
		c->v->iov_len = 4096;
		c->v->iov_len = 8;
	}
	return NULL;
}

/* As much as the call said is in memory. */
static void pwritev__list_that_changes(void **state)
{
	static unsigned char data[4096];
	struct iovec v = iov(data, 8);
	struct changing c = { .v = &v };
	struct staged s;
	pthread_t thread;
	ssize_t n;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(pthread_create(&thread, NULL, change_list, &c), 0);
	for (int i = 1; i <= 2000; i++) {
		memset(data, i, sizeof(data));
		n = pwritev(s.fd, &v, 1, 0);
		assert_true(n == 8 || n == sizeof(data));
		if (memcmp(s.map, data, (size_t)n) != 0)
			fail_test("round %d: %zd bytes\n", i, n);
	}
	atomic_store(&c.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static struct {
	unsigned char *map;
	pthread_barrier_t begin;
	atomic_int refused;
} many;

static void *register_it(void *arg)
{
	struct io_uring ring;

	(void)arg;
	ring_init(&ring);
	pthread_barrier_wait(&many.begin);
	if (register_one(&ring, many.map, SIZE) != 0)
		atomic_fetch_add(&many.refused, 1);
	io_uring_queue_exit(&ring);
	return NULL;
}

/* All are refused by the kernel at first; one of them stages, and then all must do. */
static void register__same_range_by_many_threads(void **state)
{
	pthread_t thread[THREADS];
	int fd, i;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	many.map = map_fd(fd, SIZE, 0);
	assert_int_equal(pthread_barrier_init(&many.begin, NULL, THREADS), 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, register_it, NULL), 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(many.refused, kernel_refuses() && !with_shim() ? THREADS : 0);
}

static void *sync_often(void *arg)
{
	for (int i = 0; i < 100; i++)
		if (msync(arg, SIZE, MS_SYNC) < 0)
			atomic_fetch_add(&many.refused, 1);
	return NULL;
}

/* Without a descriptor to be had, threads share what conversations there are. */
static void msync__many_threads_without_descriptors(void **state)
{
	pthread_t thread[THREADS];
	struct rlimit limit;
	struct io_uring ring;
	unsigned char *map;
	int i;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (dup(STDIN_FILENO) >= 0)
		;
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sync_often, map), 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(many.refused, 0);
	io_uring_queue_exit(&ring);
}

static struct {
	uint64_t in_file[SIZE / sizeof(uint64_t)]; /* the last that was written to each place */
	atomic_bool stop;
	atomic_ulong written;
} writer;

static void *write_on(void *arg)
{
	const int fd = *(int *)arg;
	const size_t places = ARRAY_SIZE(writer.in_file);
	size_t at;
	uint64_t n;

	for (n = 1; !atomic_load(&writer.stop); n++) {
		at = (n * 512 + n / (places / 512)) % places;
		if (pwrite(fd, &n, sizeof(n), (off_t)(at * sizeof(n))) != sizeof(n))
			break;
		writer.in_file[at] = n;
		atomic_fetch_add(&writer.written, 1);
	}
	return NULL;
}

/* What is written while the range is being staged is in memory afterwards. */
static void pwrite__while_staging(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	pthread_t thread;
	int fd, ret;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	memcpy(writer.in_file, map, SIZE);
	ring_init(&ring);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &fd), 0);
	while (atomic_load(&writer.written) < 1000)
		sched_yield();
	ret = register_one(&ring, map, SIZE);
	atomic_store(&writer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	must_stage(ret);
	assert_memory_equal(map, writer.in_file, SIZE);
	io_uring_queue_exit(&ring);
}

/* A child that did not get the memory (MADV_DONTFORK) has records of a segment that its parent
 * gave back and staged anew meanwhile: what the child writes goes to the new memory. */
static void fork__child_with_records_of_old_memory(void **state)
{
	struct io_uring ring;
	unsigned char *map, text[2048];
	int go[2], done[2], fd;
	pid_t pid;
	char c = 0;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	assert_int_equal(madvise(map, SIZE, MADV_DONTFORK), 0);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(done), 0);
	fill(text, sizeof(text), 0, NEW);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (syscall(SYS_read, go[0], &c, 1) != 1 ||
		    pwrite(fd, text, sizeof(text), 0) != sizeof(text) ||
		    syscall(SYS_write, done[1], &c, 1) != 1)
			_exit(1);
		/* Its end would be a sync point. */
		_exit(syscall(SYS_read, go[0], &c, 1) != 1);
	}
	io_uring_unregister_buffers(&ring);
	/* Until the device has let go of it, and the memory is given back. */
	do {
		assert_int_equal(munmap(map, SIZE), 0);
		map = map_fd(fd, SIZE, 0);
	} while (with_shim() && pinstage_query(map, SIZE) != PINSTAGE_NATIVE);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(write(go[1], &c, 1), 1);
	assert_int_equal(syscall(SYS_read, done[0], &c, 1), 1);
	assert_content(map, sizeof(text), 0, NEW);
	map[3000]++;
	assert_int_equal(write(go[1], &c, 1), 1);
	assert_int_equal(wait_for(pid), 0);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, sizeof(text), NEW);
	io_uring_queue_exit(&ring);
}

static const struct test cases[] = {
	TEST(ftruncate__refused),
	TEST(ftruncate__below_a_limit_on_file_size),
	TEST(pwritev2__with_append),
	TEST(readv__bad_list),
	TEST(preadv2__into_its_own_list),
	TEST(pwritev__list_that_changes),
	TEST(register__same_range_by_many_threads),
	TEST(msync__many_threads_without_descriptors),
	TEST(pwrite__while_staging),
	TEST(fork__child_with_records_of_old_memory),
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases, NULL);
}
