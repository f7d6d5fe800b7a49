// SPDX-License-Identifier: MIT
/*
 * Memory that the program has unmapped and a device still writes to: what comes then is the
 * file's all the same, and every sync point carries it there.
 */
#include <dirent.h>
#include <sys/syscall.h>

#include "testlib.h"

#define SIZE (64 * KIB)

#define ROUNDS 8 /* the keeper looks at it by itself now and then: not every time just then */

static struct io_uring ring;
static unsigned char *map;
static int fd;

/* What registering came to. */
static int unmap_registered(void)
{
	int ret;

	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	ret = register_one(&ring, map, SIZE);
	if (ret == 0)
		assert_int_equal(munmap(map, SIZE), 0);
	return ret;
}

/* The keeper seals the memory when nothing can change it any more, writes it and lets go. */
static bool is_sealed(const char *number)
{
	char name[64] = "", path[300];
	int seals;

	snprintf(path, sizeof(path), "/proc/self/fd/%s", number);
	if (readlink(path, name, sizeof(name) - 1) < 0 || !strstr(name, "memfd:pinstage"))
		return false;
	seals = fcntl(atoi(number), F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_WRITE;
}

static bool any_sealed(void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	bool found = false;

	(void)arg;
	while (dir && !found && (e = readdir(dir)))
		found = is_sealed(e->d_name);
	closedir(dir);
	return found;
}

static void receive(unsigned seed)
{
	int source = make_source(SIZE, seed);

	read_fixed(&ring, source, map, SIZE, 0, 0);
	close(source);
}

static int by_fsync(void)
{
	return fsync(fd);
}

static int by_fdatasync(void)
{
	return fdatasync(fd);
}

static int by_sync_file_range(void)
{
	return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int by_syncfs(void)
{
	return syncfs(fd);
}

static int by_sync(void)
{
	sync();
	return 0;
}

static void unmapped(int (*how)(void))
{
	must_stage(unmap_registered());
	for (unsigned round = 0; round < ROUNDS; round++) {
		receive(OTHER + round);
		assert_int_equal(how(), 0);
		assert_in_file("data", 0, SIZE, OTHER + round);
	}
}

#define UNMAPPED(how)                             \
	static void how##__unmapped(void **state) \
	{                                         \
		(void)state;                      \
		unmapped(by_##how);               \
	}
UNMAPPED(fsync)
UNMAPPED(fdatasync)
UNMAPPED(sync_file_range)
UNMAPPED(syncfs)
UNMAPPED(sync)

#define BY_NUMBER(how, ...)                                    \
	static int how##_by_number(void)                       \
	{                                                      \
		return (int)syscall(SYS_##how, ##__VA_ARGS__); \
	}                                                      \
	static void how##__by_number(void **state)             \
	{                                                      \
		(void)state;                                   \
		unmapped(how##_by_number);                     \
	}
BY_NUMBER(fsync, fd)
BY_NUMBER(fdatasync, fd)
BY_NUMBER(sync_file_range, fd, 0L, 0L, SYNC_FILE_RANGE_WRITE)
BY_NUMBER(syncfs, fd)
BY_NUMBER(sync)

/* The device is done: nothing is staged any more, and nothing in the way of an fsync(). */
static void fsync__unmapped_and_done(void **state)
{
	(void)state;
	must_stage(unmap_registered());
	receive(OTHER);
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	assert_true(!with_shim() || !kernel_refuses() || poll_until(any_sealed, NULL, 20000));
	for (int i = 0; i < 100; i++) {
		assert_int_equal(fsync(fd), 0);
		assert_int_equal(syncfs(fd), 0);
	}
	assert_in_file("data", 0, SIZE, OTHER);
}

/* More segments than are asked for at a time. */
static void sync__many(void **state)
{
	struct iovec v[70];
	const size_t size = 2 * ARRAY_SIZE(v) * page_size();

	(void)state;
	make_file("data", size);
	map = map_file("data", size);
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		v[i] = iov(map + 2 * i * page_size(), page_size());
	ring_init(&ring);
	must_stage(io_uring_register_buffers(&ring, v, ARRAY_SIZE(v)));
	for (unsigned seed = NEW; seed < NEW + ROUNDS; seed++) {
		fill(map, size, 0, seed);
		sync();
		assert_in_file("data", 0, size, seed);
	}
}

static void exits(void **state)
{
	(void)state;
	must_stage_in_part(unmap_registered());
	receive(OTHER);
	exit(3);
}

static void exit__unmapped(void **state)
{
	(void)state;
	must_run("exits", 3);
	assert_in_file("data", 0, SIZE, OTHER);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(fsync__unmapped),
		TEST(fdatasync__unmapped),
		TEST(sync_file_range__unmapped),
		TEST(syncfs__unmapped),
		TEST(sync__unmapped),
		TEST(sync__many),
		TEST(fsync__by_number),
		TEST(fdatasync__by_number),
		TEST(sync_file_range__by_number),
		TEST(syncfs__by_number),
		TEST(sync__by_number),
		TEST(exit__unmapped),
		TEST(fsync__unmapped_and_done),
		{ 0 },
	};
	static const struct test parts[] = { TEST(exits), { 0 } };

	return test_main(argc, argv, cases, parts);
}
