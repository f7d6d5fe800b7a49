/* SPDX-License-Identifier: MIT */
/* What the model test (tests/model) found, each as small as it came to be. */
#include <pinstage.h>

#include "testlib.h"

#define SIZE (64 * KIB)

/* A child that has never talked to the keeper asks it to give a range back. */
static void release__in_forked_child(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int status, ret;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* The parent shows the memory, too. */
		ret = pinstage_release(map, SIZE);
		if (ret != (with_shim() ? kernel_refuses() ? -EBUSY : 0 : -ENOSYS))
			_exit(1);
		if (fcntl(STDIN_FILENO, F_GETFD) < 0 || fcntl(STDOUT_FILENO, F_GETFD) < 0)
			_exit(2);
		fill(map, SIZE / 2, 0, NEW);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_content(map, SIZE / 2, 0, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	assert_in_file("data", SIZE / 2, SIZE / 2, OLD);
	io_uring_queue_exit(&ring);
}

/* What the library keeps aside for a mapping that is made in a child comes to stand where it
 * kept something for the parent's, which the child did not get: it must not be taken for that.
 */
static void dontfork__child_maps_anew(void **state)
{
	const size_t page = page_size(); /* no larger, or other things come to stand there */
	unsigned char *map, *again;
	struct io_uring ring;
	pid_t pid;
	int fd;

	(void)state;
	make_file("data", page);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, page, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, page));
	assert_int_equal(madvise(map, page, MADV_DONTFORK), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		again = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (again == MAP_FAILED)
			_exit(1);
		fill(again, page, 0, NEW);
		_exit(msync(again, page, MS_SYNC) < 0 ? 2 : 0);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_content(map, page, 0, NEW);
	assert_in_file("data", 0, page, NEW);
	io_uring_queue_exit(&ring);
}

/* Whether the keeper has spoken the last word on memory that this process has. */
static bool any_is_sealed(void *arg)
{
	int seals;

	(void)arg;
	for (int i = 3; i < 1 << 20; i = i == 1023 ? 4096 : i + 1) {
		seals = fcntl(i, F_GET_SEALS);
		if (seals >= 0 && seals & F_SEAL_WRITE)
			return true;
		if (i > 8192)
			break;
	}
	return false;
}

/* What the keeper has let go of lies before what it has not, in a range that is mapped anew:
 * the mapping shows the file there, and not the memory of before. */
static void mremap__over_given_back_and_pinned(void **state)
{
	const size_t page = page_size();
	struct io_uring first, second;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", 4 * page);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, 4 * page, 0);
	ring_init(&first);
	ring_init(&second);
	must_stage(register_one(&first, map + page, page));
	must_stage(register_one(&second, map + 2 * page, page));
	assert_int_equal(munmap(map + page, 3 * page), 0);
	io_uring_queue_exit(&first);
	if (with_shim() && kernel_refuses())
		assert_true(poll_until(any_is_sealed, NULL, 60000));
	map = mremap(map, page, 4 * page, MREMAP_MAYMOVE);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(log_lines("event=error"), 0);
	assert_content(map, 4 * page, 0, OLD);
	fill(map, 4 * page, 0, NEW);
	assert_int_equal(msync(map, 4 * page, MS_SYNC), 0);
	assert_in_file("data", 0, 4 * page, NEW);
	io_uring_queue_exit(&second);
}

/* The only mapping of a pinned range is replaced by another one of the same file, elsewhere in
 * it: that one shows what the device goes on writing to. */
static void mmap__over_registered_range(void **state)
{
	const size_t page = page_size();
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map + 4 * page, page));
	assert_ptr_equal(mmap(map, SIZE - page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      fd, (off_t)page),
			 map);
	device_writes(&ring, map + 4 * page, page, 0);
	assert_content(map + 3 * page, page, 0, DEVICE);
	assert_int_equal(msync(map, SIZE - page, MS_SYNC), 0);
	assert_in_file("data", 0, 4 * page, OLD);
	assert_true(in_file_at("data", 4 * (off_t)page, page, 4 * (off_t)page, DEVICE));
	io_uring_queue_exit(&ring);
	close(fd);
}

/* What is cut off under a pin comes back as a hole. */
static void ftruncate__under_a_pin_leaves_holes(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	char at[32], len[32];
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(ftruncate(fd, SIZE / 4), 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_content(map, SIZE / 4, 0, OLD);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	snprintf(at, sizeof(at), "%lu", SIZE / 4);
	snprintf(len, sizeof(len), "%lu", SIZE / 4 * 3);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
	if (kernel_refuses())
		assert_int_equal(tool("filetool", "hole", path_of("data"), at, len), 0);
	close(fd);
}

/* A child that has never talked to the keeper and can only read the range goes on showing the
 * memory, whatever the parent lets go of. */
static void fork__child_that_only_reads(void **state)
{
	struct io_uring ring;
	unsigned char *map, *view, copy[4096];
	int fd, readonly, go[2], status;
	pid_t pid;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	readonly = open_file("data", O_RDONLY);
	map = map_fd(fd, SIZE, 0);
	view = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, readonly, 0);
	assert_ptr_not_equal(view, MAP_FAILED);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	io_uring_unregister_buffers(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (read(go[0], copy, 1) != 1 || differs(view, sizeof(copy), 0, NEW) >= 0)
			_exit(1);
		fill(copy, sizeof(copy), 0, NEWER);
		if (pwrite(fd, copy, sizeof(copy), 0) != sizeof(copy))
			_exit(2);
		_exit(differs(view, sizeof(copy), 0, NEWER) < 0 ? 0 : 3);
	}
	assert_int_equal(munmap(view, SIZE), 0);
	fill(copy, sizeof(copy), 0, NEW);
	assert_int_equal(pwrite(fd, copy, sizeof(copy), 0), sizeof(copy));
	assert_int_equal(write(go[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_in_file("data", 0, sizeof(copy), NEWER);
	assert_in_file("data", sizeof(copy), SIZE - sizeof(copy), OLD);
	io_uring_queue_exit(&ring);
	close(readonly);
	close(fd);
}

/* What a device has pinned and nothing maps any more: a write finds it, and after that so does
 * a truncation by name. */
static void truncate__by_name_of_what_is_only_pinned(void **state)
{
	struct io_uring ring;
	unsigned char *map, byte = 1;
	int fd, source;

	(void)state;
	make_file("data", SIZE);
	source = make_source(SIZE, DEVICE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(pwrite(fd, &byte, 1, SIZE / 2), 1);
	read_fixed(&ring, source, map, SIZE, 0, 0);
	assert_int_equal(truncate(path_of("data"), 0), 0);
	assert_int_equal(truncate(path_of("data"), SIZE), 0);
	assert_int_equal(pread(fd, &byte, 1, SIZE / 2), 1);
	assert_int_equal(byte, 0);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* Where the file's own mapping of what is staged at `offset` is kept. */
static unsigned char *kept_at(size_t offset)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, at;
	char line[512], prot[8];
	void *found = NULL;

	assert_non_null(maps);
	while (!found && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%*x %7s %lx", &start, prot, &at) == 3 && at == offset &&
		    !strcmp(prot, "---s") && strstr(line, "/data"))
			found = (void *)start;
	fclose(maps);
	return found;
}

/* Holes of one page, with something of ours above each: what is kept lands in one. The kernel
 * takes the highest gap that fits, so the program's own gaps above them are filled. */
static unsigned char *make_holes(size_t page, size_t n)
{
	unsigned char *q,
		*p = mmap(NULL, 2 * n * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	do {
		q = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(q, MAP_FAILED);
	} while (q > p);
	for (size_t i = 0; i < n; i++)
		munmap(p + 2 * i * page, page);
	return p;
}

/* A mapping without access above one that is kept: the kernel makes them one. */
static void mprotect__alias_beside_what_is_kept(void **state)
{
	const size_t page = page_size(), n = SIZE / page;
	unsigned char *kept, *alias = NULL, *map, *holes;
	struct io_uring ring[2];
	size_t at = 0;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring[0]);
	ring_init(&ring[1]);
	holes = make_holes(page, n);
	for (size_t i = 0; !alias && i + page < SIZE; i += 2 * page) {
		io_uring_unregister_buffers(&ring[0]);
		must_stage(register_one(&ring[0], map_fd(fd, page, (off_t)i), page));
		if (!kernel_refuses())
			return;
		kept = kept_at(i);
		assert_non_null(kept);
		if (kept < holes || kept >= holes + 2 * n * page)
			continue;
		at = i + page;
		alias = mmap(kept + page, page, PROT_NONE, MAP_SHARED | MAP_FIXED, fd,
			     (off_t)at);
		assert_ptr_equal(alias, kept + page);
	}
	assert_non_null(alias);
	map = map_fd(fd, page, (off_t)at);
	assert_int_equal(register_one(&ring[1], map, page), 0);
	fill(map, page, at, NEW);
	assert_int_equal(mprotect(alias, page, PROT_READ), 0);
	assert_content(alias, page, at, NEW);
	io_uring_queue_exit(&ring[0]);
	io_uring_queue_exit(&ring[1]);
	assert_int_equal(msync(map, page, MS_SYNC), 0);
	assert_in_file("data", at, page, NEW);
	close(fd);
}

/* Advice given while part of a mapping was staged is the whole mapping's when it comes back:
 * one mapping, which can be resized. */
static void advise_while_a_part_is_staged(int (*advise)(void *, size_t, int))
{
	const int advice[] = { MADV_RANDOM, MADV_SEQUENTIAL, MADV_NORMAL };
	const size_t page = page_size();
	struct io_uring ring;
	unsigned char *map, *moved;

	make_file("data", SIZE);
	map = map_file("data", SIZE / 2);
	ring_init(&ring);
	for (size_t i = 0; i < ARRAY_SIZE(advice); i++) {
		must_stage(register_one(&ring, map + 2 * page, page));
		assert_int_equal(advise(map, SIZE / 2, advice[i]), 0);
		io_uring_unregister_buffers(&ring);
		if (with_shim())
			assert_int_equal(pinstage_release(map, SIZE / 2), 0);
		moved = mremap(map, SIZE / 2, SIZE / 2 + page, MREMAP_MAYMOVE);
		assert_ptr_not_equal(moved, MAP_FAILED);
		map = mremap(moved, SIZE / 2 + page, SIZE / 2, 0);
		assert_ptr_equal(map, moved);
		assert_content(map, SIZE / 2, 0, OLD);
	}
	io_uring_queue_exit(&ring);
}

static void madvise__while_a_part_is_staged(void **state)
{
	(void)state;
	advise_while_a_part_is_staged(madvise);
}

static void posix_madvise__while_a_part_is_staged(void **state)
{
	(void)state;
	advise_while_a_part_is_staged(posix_madvise);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(release__in_forked_child),
		TEST(dontfork__child_maps_anew),
		TEST(mremap__over_given_back_and_pinned),
		TEST(mmap__over_registered_range),
		TEST(ftruncate__under_a_pin_leaves_holes),
		TEST(fork__child_that_only_reads),
		TEST(truncate__by_name_of_what_is_only_pinned),
		TEST(mprotect__alias_beside_what_is_kept),
		TEST(madvise__while_a_part_is_staged),
		TEST(posix_madvise__while_a_part_is_staged),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
