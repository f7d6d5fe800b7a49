/* SPDX-License-Identifier: MIT */
/* Calls that change the shape of a staged file: under a pin, and without one. */
#include "alike.h"

#include <linux/falloc.h>

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
	alike_end();
}

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
		BOTH_OF(fallocate__collapses),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
