/* SPDX-License-Identifier: MIT */
/* Calls that change the shape of a staged file: under a pin, and without one. */
#include "alike.h"
#include "beside.h"

#include <linux/falloc.h>
#include <pthread.h>
#include <sys/ioctl.h>

/* Every case in two forms: NAME__pinned and NAME__unpinned. */
#define TWICE(what)                            \
	static void what##__pinned(void **s)   \
	{                                      \
		(void)s;                       \
		what(true);                    \
	}                                      \
	static void what##__unpinned(void **s) \
	{                                      \
		(void)s;                       \
		what(false);                   \
	}
#define BOTH_OF(what) TEST(what##__pinned), TEST(what##__unpinned)

static off_t page(unsigned n)
{
	return (off_t)(n * page_size());
}

static void ftruncate__shrinks(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	assert_int_equal(both(ftruncate(fd, page(7))), 0);
	alike_same();
	assert_int_equal(both(ftruncate(fd, page(3) + 123)), 0);
	alike_same();
	alike_end();
}
TWICE(ftruncate__shrinks)

/* What was cut off does not come back. */
static void ftruncate__shrinks_and_grows(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	assert_int_equal(both(ftruncate(fd, page(3) + 123)), 0);
	assert_int_equal(both(ftruncate(fd, SIZE)), 0);
	alike_same();
	both((map[page(5)] = 7));
	assert_int_equal(both(msync(map, SIZE, MS_SYNC)), 0);
	alike_same();
	alike_end();
}
TWICE(ftruncate__shrinks_and_grows)

static void truncate__by_name(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	assert_int_equal(both(truncate(path, page(3) + 5)), 0);
	assert_int_equal(both(truncate(path, page(9))), 0);
	alike_same();
	alike_end();
}
TWICE(truncate__by_name)

/* Nothing that was stored behind the end shows when the file grows. */
static void ftruncate__grows_within_page(bool pinned)
{
	must_begin(SIZE - 1000, 0, pinned);
	assert_int_equal(both(ftruncate(fd, SIZE)), 0);
	alike_same();
	alike_end();
}
TWICE(ftruncate__grows_within_page)

static void truncate__bad_arguments(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	assert_int_equal(both(ftruncate(fd, -1)), -1);
	assert_int_equal(both(truncate(path, -1)), -1);
	assert_int_equal(both(truncate("", 0)), -1);
	assert_int_equal(both(fallocate(fd, 0, -1, 4096)), -1);
	assert_int_equal(both(fallocate(fd, 0, 0, 0)), -1);
	assert_int_equal(both(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096)), -1);
	assert_int_equal(both(posix_fallocate(fd, -1, 4096)), EINVAL);
	alike_same();
	alike_end();
}
TWICE(truncate__bad_arguments)

static void open__truncating(bool pinned)
{
	int fds[2];

	must_begin(SIZE, 0, pinned);
	both((fds[i] = open(path, O_RDWR | O_TRUNC)) >= 0);
	assert_int_equal(both(pwrite(fds[i], "new", 3, page(1))), 3);
	assert_int_equal(both(ftruncate(fd, SIZE)), 0);
	both(close(fds[i]));
	alike_same();
	alike_end();
}
TWICE(open__truncating)

/* Linux empties what is opened for reading only, too. */
static void open__truncating_to_read(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	both(close(open(path, O_RDONLY | O_TRUNC)));
	assert_int_equal(both(lseek(fd, 0, SEEK_END)), 0);
	assert_int_equal(both(ftruncate(fd, SIZE)), 0);
	alike_same();
	alike_end();
}
TWICE(open__truncating_to_read)

static void creat__and_openat(bool pinned)
{
	int fds[2];

	must_begin(SIZE, 0, pinned);
	both((fds[i] = creat(path, 0600)) >= 0);
	assert_int_equal(both(write(fds[i], "creat", 5)), 5);
	both(close(fds[i]));
	assert_int_equal(both(ftruncate(fd, SIZE)), 0);
	alike_same();
	both((fds[i] = openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600)) >= 0);
	assert_int_equal(both(write(fds[i], "openat", 6)), 6);
	both(close(fds[i]));
	alike_same();
	alike_end();
}
TWICE(creat__and_openat)

static void open__that_does_not_truncate(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	assert_int_equal(both(open(path, O_RDWR | O_TRUNC | O_CREAT | O_EXCL, 0600)), -1);
	assert_int_equal(both(open(path, O_RDWR | O_TRUNC | O_DIRECTORY)), -1);
	both(close(open(path, O_RDWR)));
	alike_same();
	alike_end();
}
TWICE(open__that_does_not_truncate)

static void fallocate__changes_nothing(bool pinned)
{
	must_begin(SIZE, 0, pinned);
	both(fallocate(fd, 0, 0, SIZE));
	both(fallocate(fd, FALLOC_FL_KEEP_SIZE, page(3), SIZE));
	both(fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0, SIZE));
	alike_same();
	alike_end();
}
TWICE(fallocate__changes_nothing)

static void fallocate__grows(bool pinned)
{
	must_begin(SIZE - 777, 0, pinned);
	both(fallocate(fd, 0, page(2), SIZE));
	assert_int_equal(both(posix_fallocate(fd, 0, SIZE + 5)), 0);
	alike_same();
	alike_end();
}
TWICE(fallocate__grows)

static void fallocate__punches(bool pinned)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	char from[32], len[32];

	must_begin(SIZE, 0, pinned);
	assert_int_equal(both(fallocate(fd, punch, page(2) + 10, page(1))), 0);
	assert_int_equal(both(fallocate(fd, punch, page(16), page(16))), 0);
	both((map[page(20)] = 9)); /* and something new in the hole */
	alike_same();
	both(msync(map, SIZE, MS_SYNC));
	snprintf(from, sizeof(from), "%ld", (long)page(24));
	snprintf(len, sizeof(len), "%ld", (long)page(8));
	if (kernel_refuses()) /* on tmpfs looking is enough to fill it */
		assert_int_equal(tool("filetool", "hole", path_of(alike_name[0]), from, len),
				 0);
	alike_same();
	alike_end();
}
TWICE(fallocate__punches)

static void fallocate__zeroes(bool pinned)
{
	must_begin(SIZE - 100, 0, pinned);
	both(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, page(2) + 10, page(3)));
	both(fallocate(fd, FALLOC_FL_ZERO_RANGE, SIZE - 3000, 10000));
	alike_same();
	alike_end();
}
TWICE(fallocate__zeroes)

/* The same by another name: xfsctl(3), which the kernel serves on all file systems. */
struct reservation {
	int16_t type, whence;
	int64_t start, len;
	int32_t sysid;
	uint32_t pid;
	int32_t pad[4];
};

static void ioctl__punches_and_zeroes(bool pinned)
{
	const unsigned long unreserve = _IOW('X', 41, struct reservation);
	const unsigned long unreserve64 = _IOW('X', 43, struct reservation);
	const unsigned long zero = _IOW('X', 57, struct reservation);
	struct reservation a = { .start = page(2) + 10, .len = page(3) };
	struct reservation b = { .start = -page(4), .len = page(1), .whence = SEEK_CUR };
	struct reservation c = { .start = -page(9), .len = page(20), .whence = SEEK_END };
	struct reservation bad = { .start = page(30), .len = page(1), .whence = 7 };
	int pipes[2];

	must_begin(SIZE - 100, 0, pinned);
	both(ioctl(fd, unreserve64, &a));
	alike_same();
	both(lseek(fd, page(12), SEEK_SET));
	both(ioctl(fd, unreserve, &b));
	both(lseek(fd, 0, SEEK_CUR));
	alike_same();
	both(ioctl(fd, zero, &c));
	alike_same();
	both((map[page(3)] = 9));
	alike_same();
	both(ioctl(fd, zero, &bad));
	bad = (struct reservation){ .start = page(30), .len = 0 };
	both(ioctl(fd, unreserve64, &bad));
	bad = (struct reservation){ .start = INT64_MAX, .len = 1, .whence = SEEK_END };
	both(ioctl(fd, unreserve64, &bad));
	both(ioctl(fd, unreserve64, (void *)8));
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(ioctl(pipes[1], unreserve64, &a), -1);
	assert_int_equal(errno, ENOTTY);
	alike_same();
	alike_end();
}
TWICE(ioctl__punches_and_zeroes)

static void fallocate__collapses__unpinned(void **state)
{
	(void)state;
	must_begin(SIZE, 0, false);
	both(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 65536, 65536));
	alike_same();
	both(fallocate(fd, FALLOC_FL_INSERT_RANGE, 65536, 65536));
	alike_same();
	alike_end();
}

/* Pinned memory cannot move along: refused, and nothing has changed. Where the kernel does not
 * know the operation, it says so itself. */
static void fallocate__collapses__pinned(void **state)
{
	int ret, plain, mode[] = { FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE };

	(void)state;
	must_begin(SIZE, 0, true);
	for (int k = 0; k < 2; k++) {
		plain = fallocate(t.fd[1], mode[k], 1, 1) < 0 ? errno : 0;
		ret = fallocate(t.fd[0], mode[k], 65536, 65536);
		assert_int_equal(ret, -1);
		if (kernel_refuses() && plain == EINVAL)
			assert_int_equal(errno, EBUSY);
		else
			assert_true(errno == EOPNOTSUPP || errno == EINVAL);
		alike_same();
	}
	both(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 1, 1));
	/* Up to the end, or behind it, is no such place, pinned or not. */
	both(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, SIZE - 65536, 65536));
	both(fallocate(fd, FALLOC_FL_INSERT_RANGE, SIZE, 65536));
	alike_end();
}

/* ---- staged while such a call goes on ---- */

#define KEPT (64 * KIB) /* at the beginning, which is not staged */

struct shaping {
	int (*call)(int fd);
	long number; /* its system call */
};

static struct {
	struct shaping s;
	int fd;
	struct beside beside;
} meanwhile;

static int meanwhile_ftruncate(int fd)
{
	return ftruncate(fd, SIZE / 2 + KEPT - 3000); /* cuts the last page of the range */
}

static int meanwhile_grow(int fd)
{
	return ftruncate(fd, SIZE + KEPT);
}

static int meanwhile_allocate(int fd)
{
	return fallocate(fd, 0, SIZE - KEPT, 2 * KEPT);
}

static int meanwhile_punch(int fd)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SIZE / 2 + 10, KEPT);
}

static int meanwhile_zero(int fd)
{
	return fallocate(fd, FALLOC_FL_ZERO_RANGE, SIZE / 2 + 10, KEPT);
}

static int meanwhile_collapse(int fd)
{
	return fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, SIZE / 2, KEPT);
}

static int meanwhile_insert(int fd)
{
	return fallocate(fd, FALLOC_FL_INSERT_RANGE, SIZE / 2, KEPT);
}

static void *meanwhile_call(void *result)
{
	struct beside_result *r = result;

	r->ret = meanwhile.s.call(meanwhile.fd);
	r->err = errno;
	return NULL;
}

/* A write whose source is held has the file's lock, on ext4, which staging does without. */
static void *holding_write(void *from)
{
	if (pwrite(meanwhile.fd, from, 1, 0) != 1)
		abort();
	return NULL;
}

static void meanwhile_body(struct beside *b)
{
	const bool ext4 = !strcmp(getenv("TEST_FS"), "ext4");
	unsigned char first = 0;
	pthread_t writer, thread;
	struct held held;

	assert_int_equal(pread(meanwhile.fd, &first, 1, 0), 1);
	hold(&held, &first, 1);
	if (ext4) {
		assert_int_equal(pthread_create(&writer, NULL, holding_write, held.at), 0);
		wait_held(&held);
	}
	assert_int_equal(pthread_create(&thread, NULL, meanwhile_call, &b->result), 0);
	if (ext4 && held.fd >= 0)
		assert_true(poll_until(thread_sleeps_in, &meanwhile.s.number, 20000));
	beside_stand(b, ext4 && held.fd >= 0);
	let_go(&held);
	if (ext4)
		pthread_join(writer, NULL);
	pthread_join(thread, NULL);
}

static void staged_meanwhile(struct shaping s, bool by_child)
{
	const struct beside_result *const result = &meanwhile.beside.result;
	unsigned char *map[2];
	struct io_uring ring;
	int fd[2], plain, ret;
	size_t size;

	for (int i = 0; i < 2; i++) {
		make_file(alike_name[i], SIZE);
		fd[i] = open_file(alike_name[i], O_RDWR);
		map[i] = map_fd(fd[i], SIZE, 0);
	}
	plain = s.call(fd[1]) < 0 ? errno : 0;
	size = file_size(alike_name[1]);
	meanwhile.s = s;
	meanwhile.fd = fd[0];
	ring_init(&ring);
	meanwhile.beside = (struct beside){ .child = by_child, .body = meanwhile_body };
	ret = register_beside(&meanwhile.beside, &ring, map[0] + KEPT, SIZE / 2);
	/* Just while another process changes the file, it may be refused; and where nothing
	 * holds the call, that may give the range back between its staging and the pin. Not
	 * otherwise. */
	if (!ret || meanwhile.beside.held || !with_shim() || !kernel_refuses() ||
	    !(by_child || log_has("event=refuse", "the range was staged, and the kernel")))
		must_stage(ret);
	if (result->ret < 0 && result->err == EBUSY && !plain) {
		/* It came after the staging, and memory under a pin cannot move. */
		assert_false(meanwhile.beside.held);
		return;
	}
	assert_int_equal(result->ret < 0 ? result->err : 0, plain);
	size = size < SIZE ? size : SIZE;
	/* Behind the end, too, as far as the page reaches. */
	assert_memory_equal(map[0], map[1], (size + page_size() - 1) & ~(page_size() - 1));
	for (size_t at = 200; at < size; at += page_size())
		map[0][at] = map[1][at] = 77;
	for (int i = 0; i < 2; i++)
		assert_int_equal(munmap(map[i], SIZE), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(
		tool("filetool", "same", path_of(alike_name[0]), path_of(alike_name[1])), 0);
}

#define STAGED_MEANWHILE(name, call, number)                               \
	static void name##__staged_meanwhile(void **state)                 \
	{                                                                  \
		(void)state;                                               \
		staged_meanwhile((struct shaping){ call, number }, false); \
	}                                                                  \
	static void name##__staged_meanwhile_by_another(void **state)      \
	{                                                                  \
		(void)state;                                               \
		staged_meanwhile((struct shaping){ call, number }, true);  \
	}

STAGED_MEANWHILE(ftruncate__shrinks, meanwhile_ftruncate, SYS_ftruncate)
STAGED_MEANWHILE(ftruncate__grows, meanwhile_grow, SYS_ftruncate)
STAGED_MEANWHILE(fallocate__grows, meanwhile_allocate, SYS_fallocate)
STAGED_MEANWHILE(fallocate__punches, meanwhile_punch, SYS_fallocate)
STAGED_MEANWHILE(fallocate__zeroes, meanwhile_zero, SYS_fallocate)
STAGED_MEANWHILE(fallocate__collapses, meanwhile_collapse, SYS_fallocate)
STAGED_MEANWHILE(fallocate__inserts, meanwhile_insert, SYS_fallocate)

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		BOTH_OF(ftruncate__shrinks),
		BOTH_OF(ftruncate__shrinks_and_grows),
		BOTH_OF(ftruncate__grows_within_page),
		BOTH_OF(truncate__by_name),
		BOTH_OF(truncate__bad_arguments),
		BOTH_OF(open__truncating),
		BOTH_OF(open__truncating_to_read),
		BOTH_OF(open__that_does_not_truncate),
		BOTH_OF(creat__and_openat),
		BOTH_OF(fallocate__changes_nothing),
		BOTH_OF(fallocate__grows),
		BOTH_OF(fallocate__punches),
		BOTH_OF(fallocate__zeroes),
		BOTH_OF(ioctl__punches_and_zeroes),
		BOTH_OF(fallocate__collapses),
		TEST(ftruncate__shrinks__staged_meanwhile),
		TEST(ftruncate__shrinks__staged_meanwhile_by_another),
		TEST(ftruncate__grows__staged_meanwhile),
		TEST(ftruncate__grows__staged_meanwhile_by_another),
		TEST(fallocate__grows__staged_meanwhile),
		TEST(fallocate__grows__staged_meanwhile_by_another),
		TEST(fallocate__punches__staged_meanwhile),
		TEST(fallocate__punches__staged_meanwhile_by_another),
		TEST(fallocate__zeroes__staged_meanwhile),
		TEST(fallocate__zeroes__staged_meanwhile_by_another),
		TEST(fallocate__collapses__staged_meanwhile),
		TEST(fallocate__collapses__staged_meanwhile_by_another),
		TEST(fallocate__inserts__staged_meanwhile),
		TEST(fallocate__inserts__staged_meanwhile_by_another),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
