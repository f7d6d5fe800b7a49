/* SPDX-License-Identifier: MIT */
/* file systems: ext4 xfs */
/*
 * Calls that copy to or from memory of which a part is being exchanged are complete, as they
 * are without the shim: what a regular file has to give comes, and all of what is written goes
 * there. Of each buffer the first part is ordinary memory, so that what meets the curtain has
 * begun.
 */
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>

#include <pinstage.h>

#include "testlib.h"

#define BEFORE (256 * KIB)
#define STAGED (64 * KIB)
#define TOTAL  (BEFORE + STAGED)
#define MS     500 /* for each call */

static unsigned char *buffer, there[TOTAL];
static atomic_bool stop;
static atomic_uint exchanges;
static int source, target;

static void *exchange(void *arg)
{
	unsigned char *range = buffer + BEFORE;
	struct io_uring ring;

	(void)arg;
	ring_init(&ring);
	while (!stop) {
		if (register_one(&ring, range, STAGED) == 0)
			io_uring_unregister_buffers(&ring);
		if (with_shim())
			(void)pinstage_release(range, STAGED);
		exchanges++;
	}
	io_uring_queue_exit(&ring);
	return NULL;
}

static void begin(void)
{
	int fd;

	make_sparse("data", STAGED);
	source = make_source(TOTAL, DEVICE);
	make_sparse("target", TOTAL);
	target = open_file("target", O_RDWR);
	buffer = mmap(NULL, TOTAL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(buffer != MAP_FAILED);
	fd = open_file("data", O_RDWR);
	assert_true(mmap(buffer + BEFORE, STAGED, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
	close(fd);
}

/* Three parts: the borders are not those of what is staged. */
static int parts(struct iovec v[3])
{
	v[0] = iov(buffer, 1000);
	v[1] = iov(buffer + 1000, BEFORE + 2000);
	v[2] = iov(buffer + 3000 + BEFORE, STAGED - 3000);
	return 3;
}

static ssize_t by_read(void)
{
	lseek(source, 0, SEEK_SET);
	return read(source, buffer, TOTAL);
}

static ssize_t by_pread(void)
{
	return pread(source, buffer, TOTAL, 0);
}

static ssize_t by_readv(void)
{
	struct iovec v[3];

	lseek(source, 0, SEEK_SET);
	return readv(source, v, parts(v));
}

static ssize_t by_preadv(void)
{
	struct iovec v[3];

	return preadv(source, v, parts(v), 0);
}

static ssize_t by_preadv2(void)
{
	struct iovec v[3];

	lseek(source, 0, SEEK_SET);
	return preadv2(source, v, parts(v), -1, 0);
}

static ssize_t by_write(void)
{
	lseek(target, 0, SEEK_SET);
	return write(target, buffer, TOTAL);
}

static ssize_t by_pwrite(void)
{
	return pwrite(target, buffer, TOTAL, 0);
}

static ssize_t by_writev(void)
{
	struct iovec v[3];

	lseek(target, 0, SEEK_SET);
	return writev(target, v, parts(v));
}

static ssize_t by_pwritev(void)
{
	struct iovec v[3];

	return pwritev(target, v, parts(v), 0);
}

static ssize_t by_pwritev2(void)
{
	struct iovec v[3];

	lseek(target, 0, SEEK_SET);
	return pwritev2(target, v, parts(v), -1, 0);
}

static unsigned must_be_complete(ssize_t (*call)(void), bool reads)
{
	const uint64_t until = now_ms() + MS;
	const unsigned seed = reads ? OLD : OTHER;
	unsigned calls = 0;
	ssize_t n;

	for (; now_ms() < until; calls++) {
		fill(buffer, TOTAL, 0, seed + calls % 2);
		n = call();
		if (n != (ssize_t)TOTAL)
			fail_test("call %u moved %zd of %zu (%s)\n", calls, n, TOTAL,
				  n < 0 ? strerror(errno) : "no error");
		if (!reads)
			assert_int_equal(pread(target, there, TOTAL, 0), TOTAL);
		assert_content(reads ? buffer : there, TOTAL, 0,
			       reads ? DEVICE : seed + calls % 2);
	}
	return calls;
}

static void run(ssize_t (*const call[])(void), size_t n, bool reads)
{
	pthread_t thread;

	begin();
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	for (size_t i = 0; i < n; i++)
		assert_true(must_be_complete(call[i], reads) > 0);
	stop = true;
	pthread_join(thread, NULL);
	/* Fewer would have shown nothing. */
	assert_true(exchanges >= n);
}

static void reads__are_complete(void **state)
{
	static ssize_t (*const call[])(void) = { by_read, by_pread, by_readv, by_preadv,
						 by_preadv2 };

	(void)state;
	run(call, ARRAY_SIZE(call), true);
}

static void writes__are_complete(void **state)
{
	static ssize_t (*const call[])(void) = { by_write, by_pwrite, by_writev, by_pwritev,
						 by_pwritev2 };

	(void)state;
	run(call, ARRAY_SIZE(call), false);
}

/* What the end of the file, or a pipe, does not have is not waited for. */
static void reads__end_where_the_file_does(void **state)
{
	unsigned char *range;
	const uint64_t until = now_ms() + MS;
	pthread_t thread;
	int pipe_fd[2];

	(void)state;
	begin();
	range = buffer + BEFORE;
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	while (now_ms() < until) {
		assert_int_equal(pread(source, range, STAGED, TOTAL - 100), 100);
		assert_int_equal(pread(source, range, STAGED, TOTAL), 0);
		assert_int_equal(write(pipe_fd[1], "abc", 3), 3);
		assert_int_equal(read(pipe_fd[0], range, STAGED), 3);
		assert_memory_equal(range, "abc", 3);
	}
	stop = true;
	pthread_join(thread, NULL);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* Two at the same position, or at the end of the same file, do not come into each other. */
#define RECORDS 20

static unsigned char record[2][TOTAL];

static void *write_records(void *arg)
{
	const struct iovec v[2] = { iov(arg, BEFORE), iov(buffer + BEFORE, STAGED) };
	const uint64_t until = now_ms() + MS;

	while (now_ms() < until && file_size("target") < 1000 * TOTAL)
		assert_int_equal(writev(target, v, 2), TOTAL);
	return NULL;
}

static void must_be_records(const unsigned char *file, size_t size)
{
	assert_int_equal(size % TOTAL, 0);
	for (; size; size -= TOTAL, file += TOTAL) {
		assert_true(!memcmp(file, record[0], BEFORE) ||
			    !memcmp(file, record[1], BEFORE));
		assert_memory_equal(file + BEFORE, buffer + BEFORE, STAGED);
	}
}

static void records_are_whole(int flags)
{
	pthread_t thread[3];
	unsigned char *file;
	size_t size;

	begin();
	close(target);
	target = open_file("target", O_RDWR | O_TRUNC | flags);
	fill(record[0], TOTAL, 0, OTHER);
	fill(record[1], TOTAL, 0, NEWER);
	fill(buffer, TOTAL, 0, NEW);
	assert_int_equal(pthread_create(&thread[0], NULL, exchange, NULL), 0);
	for (int i = 1; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, write_records, record[i - 1]),
				 0);
	for (int i = 2; i >= 0; i--) {
		stop = i == 0;
		pthread_join(thread[i], NULL);
	}
	size = file_size("target");
	file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, target, 0);
	assert_true(file != MAP_FAILED);
	must_be_records(file, size);
}

static void writes_at_one_position__are_whole(void **state)
{
	(void)state;
	records_are_whole(0);
}

static void writes_at_the_end__are_whole(void **state)
{
	(void)state;
	records_are_whole(O_APPEND);
}

/* Into memory of its own, and what all share behind that. */
static void *read_records(void *arg)
{
	const struct iovec v[2] = { iov(arg, BEFORE), iov(buffer + BEFORE, STAGED) };
	const uint64_t until = now_ms() + MS;
	ssize_t n;

	while (now_ms() < until) {
		n = readv(target, v, 2);
		if (n == 0)
			lseek(target, 0, SEEK_SET);
		else
			assert_int_equal(n, TOTAL);
		if (n)
			assert_memory_equal(arg, record[0], BEFORE);
	}
	return NULL;
}

static void reads_at_one_position__are_whole(void **state)
{
	static unsigned char got[2][BEFORE];
	pthread_t thread[3];

	(void)state;
	begin();
	memset(record[0], OLD, BEFORE);
	for (unsigned i = 0; i < RECORDS; i++)
		assert_int_equal(write(target, record[0], TOTAL), TOTAL);
	assert_int_equal(pthread_create(&thread[0], NULL, exchange, NULL), 0);
	for (int i = 1; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, read_records, got[i - 1]), 0);
	for (int i = 2; i >= 0; i--) {
		stop = i == 0;
		pthread_join(thread[i], NULL);
	}
}

static int ends[2];

static void *read_pipe(void *arg)
{
	(void)arg;
	assert_int_equal(read(ends[0], buffer + BEFORE, STAGED), 3);
	return NULL;
}

/* What may never come is not waited for. */
static void read_of_an_empty_pipe__delays_no_registration(void **state)
{
	struct io_uring ring;
	pthread_t thread;
	uint64_t began;

	(void)state;
	begin();
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_pipe, NULL), 0);
	ring_init(&ring);
	usleep(50000);
	began = now_ms();
	must_stage(register_one(&ring, buffer + BEFORE, STAGED));
	assert_in_range(now_ms() - began, 0, 900);
	assert_int_equal(write(ends[1], "abc", 3), 3);
	pthread_join(thread, NULL);
	assert_memory_equal(buffer + BEFORE, "abc", 3);
}

static void *look_what_comes(void *arg)
{
	const unsigned *calls = arg;
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = read(ends[0], there, sizeof(there))) > 0)
		bytes += (uint64_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(bytes, (uint64_t)*calls * TOTAL);
	return NULL;
}

/* Of a pipe that blocks, a program need not look whether it took all. */
static void writes_to_a_pipe__are_complete(void **state)
{
	const uint64_t until = now_ms() + MS;
	unsigned calls = 0;
	pthread_t thread[2];

	(void)state;
	begin();
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pthread_create(&thread[0], NULL, exchange, NULL), 0);
	assert_int_equal(pthread_create(&thread[1], NULL, look_what_comes, &calls), 0);
	for (; now_ms() < until; calls++)
		assert_int_equal(write(ends[1], buffer, TOTAL), TOTAL);
	stop = true;
	pthread_join(thread[0], NULL);
	close(ends[1]);
	pthread_join(thread[1], NULL);
}

/* Of the call's own: in the range, too, where a curtain may come between its two looks at it.
 */
static void positions_in_the_range__are_used(void **state)
{
	const uint64_t until = now_ms() + 2 * MS;
	off_t *in, *out;
	pthread_t thread;

	(void)state;
	begin();
	in = (off_t *)(buffer + BEFORE);
	out = (off_t *)(buffer + BEFORE + STAGED / 2);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	while (now_ms() < until) {
		*in = 100;
		lseek(target, 0, SEEK_SET);
		assert_int_equal(sendfile(target, source, in, 1000), 1000);
		assert_int_equal(*in, 1100);
		*out = 5000;
		assert_int_equal(copy_file_range(source, in, target, out, 2000, 0), 2000);
		assert_int_equal(*in, 3100);
		assert_int_equal(*out, 7000);
		assert_int_equal(splice(source, in, ends[1], NULL, 500, 0), 500);
		assert_int_equal(splice(ends[0], NULL, target, out, 500, 0), 500);
		assert_int_equal(*in, 3600);
		assert_int_equal(*out, 7500);
		assert_int_equal(pread(target, there, TOTAL, 0), TOTAL);
		assert_content(there, 1000, 100, DEVICE);
		assert_content(there + 5000, 2500, 1100, DEVICE);
	}
	stop = true;
	pthread_join(thread, NULL);
}

/* Since the thread last used the range, an exchange may have begun or not: it would have waited
 * for that. */
static void let_one_begin(void)
{
	static unsigned us;

	us = (us + 379) % 3000;
	usleep(us);
}

/* The list itself, too, which is what a call copies first; and errno stays as it was. */
#define LIST_AT (STAGED - 4096)
#define LISTED	(BEFORE + LIST_AT)

static ssize_t call_with_list(const struct iovec *v, unsigned n)
{
	switch (n % 6) {
	case 0:
		return readv(source, v, 3);
	case 1:
		return preadv(source, v, 3, 0);
	case 2:
		return preadv2(source, v, 3, -1, 0);
	case 3:
		return writev(target, v, 3);
	case 4:
		return pwritev(target, v, 3, 0);
	default:
		return pwritev2(target, v, 3, -1, 0);
	}
}

static void lists_in_the_range__are_used(void **state)
{
	const uint64_t until = now_ms() + 3 * MS;
	unsigned seed = DEVICE;
	struct iovec *v;
	pthread_t thread;

	(void)state;
	begin();
	v = (struct iovec *)(buffer + LISTED);
	v[0] = iov(buffer, 1000);
	v[1] = iov(buffer + 1000, BEFORE + 2000);
	v[2] = iov(buffer + 3000 + BEFORE, LIST_AT - 3000);
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	for (unsigned n = 0; now_ms() < until || n % 6; n++) {
		if (n % 6 == 0) {
			seed = seed == DEVICE ? NEWER : DEVICE;
			fill(there, LISTED, 0, seed);
			assert_int_equal(pwrite(source, there, LISTED, 0), LISTED);
		}
		assert_int_equal(ftruncate(target, 0), 0);
		lseek(source, 0, SEEK_SET);
		lseek(target, 0, SEEK_SET);
		let_one_begin();
		errno = EXDEV;
		assert_int_equal(call_with_list(v, n), LISTED);
		assert_int_equal(errno, EXDEV);
		assert_content(buffer, LISTED, 0, seed);
		if (n % 6 < 3)
			continue;
		assert_int_equal(pread(target, there, LISTED, 0), LISTED);
		assert_content(there, LISTED, 0, seed);
	}
	stop = true;
	pthread_join(thread, NULL);
	assert_true(exchanges > 0);
}

/* What ioctl() says of files, with its argument at p: an error, or what came of it. */
static int clone_by(void *p)
{
	struct file_clone_range *range = p;

	*range = (struct file_clone_range){ .src_fd = source, .src_length = TOTAL };
	let_one_begin();
	return ioctl(target, FICLONERANGE, range) < 0 ? -errno : 0;
}

static int dedupe_by(void *p)
{
	struct file_dedupe_range *range = p;

	*range = (struct file_dedupe_range){ .src_length = STAGED, .dest_count = 1 };
	range->info[0] = (struct file_dedupe_range_info){ .dest_fd = target };
	let_one_begin();
	if (ioctl(source, FIDEDUPERANGE, range) < 0)
		return -errno;
	return range->info[0].status < 0 ? range->info[0].status
					 : (int)range->info[0].bytes_deduped;
}

static int extents_by(void *p)
{
	struct fiemap *map = p;

	*map = (struct fiemap){ .fm_length = TOTAL,
				.fm_flags = FIEMAP_FLAG_SYNC,
				.fm_extent_count = 8 };
	let_one_begin();
	return ioctl(source, FS_IOC_FIEMAP, map) < 0 ? -errno : (int)map->fm_mapped_extents;
}

static void arguments_of_ioctl_in_the_range__are_used(void **state)
{
	static int (*const call[])(void *) = { clone_by, dedupe_by, extents_by };
	static uint64_t elsewhere[512];
	int want[ARRAY_SIZE(call)] = { 0 };
	pthread_t thread;
	uint64_t until;

	(void)state;
	begin();
	fsync(source);
	for (size_t i = 0; i < ARRAY_SIZE(call); i++)
		want[i] = call[i](elsewhere);
	assert_true(want[2] > 0);
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(call); i++)
		for (until = now_ms() + MS; now_ms() < until;)
			assert_int_equal(call[i](buffer + BEFORE + 100 * sizeof(uint64_t)),
					 want[i]);
	stop = true;
	pthread_join(thread, NULL);
	assert_true(exchanges >= ARRAY_SIZE(call));
}

/* What is given once: each gives `want` bytes when it is told to, and then has nothing. */
struct giver {
	void (*give)(void);
	ssize_t want;
	int fd, to;
};

static struct giver giver;
static sem_t taken;
static ssize_t took;

static void give_event(void)
{
	assert_int_equal(eventfd_write(giver.fd, 7), 0);
}

static void give_tick(void)
{
	const struct itimerspec soon = { .it_value = { .tv_nsec = 1000 } };

	assert_int_equal(timerfd_settime(giver.fd, 0, &soon, NULL), 0);
}

static void give_message(void)
{
	assert_int_equal(send(giver.to, there, 1000, 0), 1000);
}

static void give_name(void)
{
	make_sparse("named", 0);
	assert_int_equal(unlink(path_of("named")), 0);
}

static void *take(void *arg)
{
	atomic_bool *last = arg;
	bool end;

	do {
		took = read(giver.fd, buffer + BEFORE + 1000, 4000);
		end = *last;
		sem_post(&taken);
	} while (!end);
	return NULL;
}

static void must_be_taken(unsigned n)
{
	struct timespec most;

	clock_gettime(CLOCK_REALTIME, &most);
	most.tv_sec += 10;
	giver.give();
	if (sem_timedwait(&taken, &most) < 0)
		fail_test("what was given the %uth time was lost\n", n);
	assert_int_equal(took, giver.want);
}

static void all_must_be_taken(struct giver from)
{
	const uint64_t until = now_ms() + MS;
	atomic_bool last = false;
	pthread_t thread;
	unsigned n = 0;

	giver = from;
	assert_true(giver.fd >= 0);
	assert_int_equal(pthread_create(&thread, NULL, take, &last), 0);
	for (; now_ms() < until; n++) {
		usleep(n * 37 % 500); /* it may be asked for by now, or not */
		must_be_taken(n);
	}
	last = true;
	must_be_taken(n);
	pthread_join(thread, NULL);
	close(giver.fd);
}

static void what_is_given_once__is_not_lost(void **state)
{
	const int watch = inotify_init1(IN_CLOEXEC);
	pthread_t thread;

	(void)state;
	begin();
	assert_true(inotify_add_watch(watch, test_dir(), IN_DELETE) >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	assert_int_equal(sem_init(&taken, 0, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	all_must_be_taken((struct giver){ give_event, 8, eventfd(0, EFD_CLOEXEC), -1 });
	all_must_be_taken(
		(struct giver){ give_tick, 8, timerfd_create(CLOCK_MONOTONIC, 0), -1 });
	all_must_be_taken((struct giver){ give_message, 1000, ends[0], ends[1] });
	all_must_be_taken((struct giver){ give_name, 32, watch, -1 });
	stop = true;
	pthread_join(thread, NULL);
	close(ends[1]);
}

static atomic_uint signals;

static void on_limit(int sig)
{
	(void)sig;
	signals++;
}

/* A write up to the limit on file sizes is short, and only the next one gets the signal. */
static void writes__end_at_the_limit_without_its_signal(void **state)
{
	const struct rlimit limit = { 1000, RLIM_INFINITY };
	const uint64_t until = now_ms() + MS;
	pthread_t thread;

	(void)state;
	begin();
	assert_true(signal(SIGXFSZ, on_limit) != SIG_ERR);
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	while (now_ms() < until) {
		assert_int_equal(pwrite(target, buffer, 2000, 0), 1000);
		lseek(target, 500, SEEK_SET);
		assert_int_equal(write(target, buffer, 2000), 500);
	}
	stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(signals, 0);
	assert_int_equal(write(target, buffer, 1), -1);
	assert_int_equal(signals, 1);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(reads__are_complete),
		TEST(writes__are_complete),
		TEST(reads__end_where_the_file_does),
		TEST(writes_at_one_position__are_whole),
		TEST(writes_at_the_end__are_whole),
		TEST(reads_at_one_position__are_whole),
		TEST(read_of_an_empty_pipe__delays_no_registration),
		TEST(positions_in_the_range__are_used),
		TEST(lists_in_the_range__are_used),
		TEST(arguments_of_ioctl_in_the_range__are_used),
		TEST(what_is_given_once__is_not_lost),
		TEST(writes_to_a_pipe__are_complete),
		TEST(writes__end_at_the_limit_without_its_signal),
		{ 0 }
	};

	return test_main(argc, argv, cases, NULL);
}
