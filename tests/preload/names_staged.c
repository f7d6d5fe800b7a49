/* SPDX-License-Identifier: MIT */
/* Calls on a staged file by every name by which programs make them, and what they leave. */
#include "alike.h"

#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t off, size_t room);
ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t off, size_t room);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

static off_t page(unsigned n)
{
	return (off_t)(n * page_size());
}

static void read__fortified(void **state)
{
	unsigned char got[2][500];

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(both(lseek(fd, page(1) + 100, SEEK_SET)), page(1) + 100);
	assert_int_equal(both(__read_chk(fd, got[i], 300, 500)), 300);
	assert_memory_equal(got[0], got[1], 300);
	both((map[page(3)] = 77));
	assert_int_equal(both(__pread_chk(fd, got[i], 500, page(3), 500)), 500);
	assert_memory_equal(got[0], got[1], 500);
	alike_same();
	alike_end();
}

/* ---- every name by which programs call these ---- */

/* Each read comes right after a store, and must have it. */
#define READS(call)                                                                           \
	do {                                                                                  \
		stored++;                                                                     \
		both((memset(map + page(3) + 50, stored, 400), 0));                           \
		memset(got, 0, sizeof(got));                                                  \
		assert_int_equal(both(lseek(fd, page(3) + 50, SEEK_SET)), at);                \
		assert_int_equal(both(call), 400);                                            \
		for (size_t n = 0; n < 400; n++)                                              \
			if (got[0][n] != stored || got[1][n] != stored)                       \
				fail_test("%s: byte %zu is %#x, plain %#x, not %#x\n", #call, \
					  n, got[0][n], got[1][n], stored);                   \
	} while (0)

static void names__that_read(void **state)
{
	const off_t at = page(3) + 50;
	unsigned char got[2][400], stored = 0;
	struct iovec v[2];

	(void)state;
	must_begin(SIZE, 0, true);
	for (int i = 0; i < 2; i++)
		v[i] = iov(got[i], sizeof(got[i]));
	READS(read(fd, got[i], 400));
	READS(pread(fd, got[i], 400, at));
	READS(pread64(fd, got[i], 400, at));
	READS(readv(fd, &v[i], 1));
	READS(preadv(fd, &v[i], 1, at));
	READS(preadv64(fd, &v[i], 1, at));
	READS(preadv2(fd, &v[i], 1, at, 0));
	READS(preadv2(fd, &v[i], 1, -1, 0));
	READS(preadv64v2(fd, &v[i], 1, at, 0));
	READS(preadv64v2(fd, &v[i], 1, -1, 0));
	READS(__read_chk(fd, got[i], 400, 400));
	READS(__pread_chk(fd, got[i], 400, at, 400));
	READS(__pread64_chk(fd, got[i], 400, at, 400));
	alike_same();
	alike_end();
}

/* Each write is in memory at once. */
#define WRITES(call)                                                                          \
	do {                                                                                  \
		memset(data, ++written, sizeof(data));                                        \
		assert_int_equal(both(lseek(fd, at, SEEK_SET)), at);                          \
		assert_int_equal(both(call), 400);                                            \
		for (int i = 0; i < 2; i++)                                                   \
			if (memcmp(t.map[i] + at, data, 400) != 0)                            \
				fail_test("%s: not in memory of %s\n", #call, alike_name[i]); \
	} while (0)

static void refill(int file, const unsigned char *data)
{
	assert_int_equal(pwrite(file, data, 400, 0), 400);
}

static void names__that_write(void **state)
{
	const off_t at = page(3) + 50;
	unsigned char data[400], written = 0;
	struct iovec v = iov(data, sizeof(data));
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	make_file("third", SIZE);
	other = open_file("third", O_RDWR);
	WRITES(write(fd, data, 400));
	WRITES(pwrite(fd, data, 400, at));
	WRITES(pwrite64(fd, data, 400, at));
	WRITES(writev(fd, &v, 1));
	WRITES(pwritev(fd, &v, 1, at));
	WRITES(pwritev64(fd, &v, 1, at));
	WRITES(pwritev2(fd, &v, 1, at, 0));
	WRITES(pwritev2(fd, &v, 1, -1, 0));
	WRITES(pwritev64v2(fd, &v, 1, at, 0));
	WRITES(pwritev64v2(fd, &v, 1, -1, 0));
	WRITES((refill(other, data), sendfile(fd, other, &(off_t){ 0 }, 400)));
	WRITES((refill(other, data), sendfile64(fd, other, &(off64_t){ 0 }, 400)));
	both((map[page(5)] = 77));
	assert_int_equal(both(sendfile64(other, fd, &(off64_t){ page(5) }, 1)), 1);
	for (off_t n = 0; n < 2; n++) {
		assert_int_equal(pread(other, data, 1, n), 1);
		assert_int_equal(data[0], 77);
	}
	alike_same();
	close(other);
	alike_end();
}

/* Behind the library's back, so that what the call before it left undone shows. */
static long grow_unseen(int fd)
{
	return syscall(SYS_ftruncate, fd, SIZE);
}

/* Each cuts the file at `size`; what memory had behind it reads zero. */
#define CUTS(size, call)                                                                   \
	do {                                                                               \
		both((fill(map, SIZE, 0, NEW), 0));                                        \
		assert_int_equal(both(call), 0);                                           \
		assert_int_equal(file_size(alike_name[0]), size);                          \
		assert_int_equal(both(grow_unseen(fd)), 0);                                \
		for (size_t n = 0; n < SIZE; n++)                                          \
			if (t.map[0][n] != t.map[1][n])                                    \
				fail_test("%s: memory has %#x at %zu, plain %#x\n", #call, \
					  t.map[0][n], n, t.map[1][n]);                    \
	} while (0)

/* An open that cuts. */
#define OPENS(call)                                       \
	CUTS(0, ({                                        \
		     int opened = (call);                 \
		     opened < 0 ? -errno : close(opened); \
	     }))

static void names__that_cut(void **state)
{
	const int flags = O_RDWR | O_TRUNC | O_CLOEXEC;
	int dir;

	(void)state;
	must_begin(SIZE, 0, true);
	dir = open(test_dir(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	CUTS(SIZE / 2 + 9, ftruncate(fd, SIZE / 2 + 9));
	CUTS(SIZE / 2 + 9, ftruncate64(fd, SIZE / 2 + 9));
	CUTS(SIZE / 2 + 9, truncate(path, SIZE / 2 + 9));
	CUTS(SIZE / 2 + 9, truncate64(path, SIZE / 2 + 9));
	OPENS(open(path, flags));
	OPENS(open64(path, flags));
	OPENS(openat(dir, alike_name[i], flags));
	OPENS(openat64(dir, alike_name[i], flags));
	OPENS(creat(path, 0600));
	OPENS(creat64(path, 0600));
	OPENS(__open_2(path, flags));
	OPENS(__open64_2(path, flags));
	OPENS(__openat_2(dir, alike_name[i], flags));
	OPENS(__openat64_2(dir, alike_name[i], flags));
	both((fill(map, SIZE, 0, NEW), 0));
	alike_same();
	close(dir);
	alike_end();
}

/* Room in the file; what memory had behind the end does not come into it. */
static void names__that_allocate(void **state)
{
	const off_t end = SIZE - 3000;

	(void)state;
	must_begin((size_t)end, 0, true);
	for (int round = 0; round < 4; round++) {
		both((fill(map + end, 3000, 9, NEWER), 0));
		assert_int_equal(both(round == 0   ? fallocate(fd, 0, end, 2000)
				      : round == 1 ? fallocate64(fd, 0, end, 2000)
				      : round == 2 ? posix_fallocate(fd, end, 2000)
						   : posix_fallocate64(fd, end, 2000)),
				 0);
		alike_same();
		assert_int_equal(both(ftruncate(fd, end)), 0);
	}
	both((fill(map, (size_t)end, 0, NEW), 0));
	assert_int_equal(both(fallocate64(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  page(4) + 7, page(3))),
			 0);
	alike_same();
	alike_end();
}

/* Another view of the same memory. */
static void names__that_map(void **state)
{
	unsigned char *more[2];

	(void)state;
	must_begin(SIZE, 0, true);
	for (int i = 0; i < 2; i++) {
		more[i] = mmap64(NULL, SIZE / 2, PROT_READ | PROT_WRITE, MAP_SHARED, t.fd[i],
				 page(2));
		assert_ptr_not_equal(more[i], MAP_FAILED);
	}
	both((map[page(5) + 1] = 77));
	assert_int_equal(both(more[i][page(3) + 1]), 77);
	both((more[i][page(4)] = 78));
	assert_int_equal(both(map[page(6)]), 78);
	assert_int_equal(both(munmap(more[i], SIZE / 2)), 0);
	alike_same();
	alike_end();
}

/* Three bytes of a page that is dirty elsewhere. */
static void write__three_bytes(void **state)
{
	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(both(pwrite(fd, "abc", 3, page(1) + 150)), 3);
	assert_memory_equal(t.map[0] + page(1) + 150, "abc", 3);
	both((map[page(1) + 149] = 1));
	alike_same();
	alike_end();
}

/* Nothing that was stored behind the end shows in the gap. */
static void write__behind_the_end(void **state)
{
	(void)state;
	must_begin(SIZE - 3000, 0, true);
	assert_int_equal(both(pwrite(fd, "abc", 3, SIZE - 1000)), 3);
	alike_same();
	assert_int_equal(both(pwrite(fd, "abc", 3, SIZE + 100000)), 3);
	alike_same();
	alike_end();
}

static void write__appends(void **state)
{
	struct iovec v = { (void *)(uintptr_t) "vector", 6 };

	(void)state;
	must_begin(SIZE - 3000, O_APPEND, true);
	assert_int_equal(both(write(fd, "abc", 3)), 3);
	assert_int_equal(both(pwrite(fd, "def", 3, 0)), 3);
	assert_int_equal(both(writev(fd, &v, 1)), 6);
	alike_same();
	alike_end();
}

/* On the device when the call returns; what a process without the shim reads is the file. */
static void write__durable(void **state)
{
	struct iovec v = { (void *)(uintptr_t) "vector", 6 };

	(void)state;
	must_begin(SIZE, O_DSYNC, true);
	assert_int_equal(both(pwrite(fd, "abc", 3, page(1) + 150)), 3);
	assert_int_equal(both(pwritev2(fd, &v, 1, page(4), RWF_DSYNC)), 6);
	alike_same();
	alike_end();
}

/* What was stored is in the file when these return, for anybody. */
static void sync__range_and_all(void **state)
{
	(void)state;
	must_begin(SIZE, 0, true);
	for (int round = 0; round < 3; round++) {
		fill(t.map[0], SIZE, 0, (unsigned)(NEW + round));
		if (round == 0)
			assert_int_equal(sync_file_range(t.fd[0], 0, 0,
							 SYNC_FILE_RANGE_WRITE |
								 SYNC_FILE_RANGE_WAIT_AFTER),
					 0);
		else if (round == 1)
			assert_int_equal(syncfs(t.fd[1]), 0);
		else
			sync();
		assert_in_file(alike_name[0], 0, SIZE, (unsigned)(NEW + round));
	}
	fill(t.map[1], SIZE, 0, NEW + 2);
	both(sync_file_range(fd, -1, 10, SYNC_FILE_RANGE_WRITE));
	both(sync_file_range(fd, 0, 10, 0x1000));
	both(syncfs(-1));
	alike_same();
	alike_end();
}

/* A store into a hole makes data of it, at once. */
static void lseek__finds_what_was_stored(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_sparse("sparse", SIZE);
	fd = open_file("sparse", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	map[page(20) + 5] = 7;
	assert_in_range(lseek(fd, page(1), SEEK_DATA), page(1), page(20) + 5);
	map[page(30)] = 7;
	assert_in_range(lseek64(fd, page(30), SEEK_HOLE), page(31), SIZE);
	io_uring_queue_exit(&ring);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(read__fortified),
		TEST(names__that_read),
		TEST(names__that_write),
		TEST(names__that_cut),
		TEST(names__that_allocate),
		TEST(names__that_map),
		TEST(write__three_bytes),
		TEST(write__behind_the_end),
		TEST(write__appends),
		TEST(write__durable),
		TEST(sync__range_and_all),
		TEST(lseek__finds_what_was_stored),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
