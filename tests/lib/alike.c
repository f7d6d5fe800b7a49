/* SPDX-License-Identifier: MIT */
#include "alike.h"

struct alike t;
const char *const alike_name[2] = { "staged", "plain" };

int alike_begin(size_t size, int flags, bool pinned)
{
	const size_t page = page_size();
	int ret;

	for (int i = 0; i < 2; i++) {
		make_file(alike_name[i], size);
		t.fd[i] = open_file(alike_name[i], O_RDWR | flags);
		t.map[i] = map_fd(t.fd[i], SIZE, 0);
	}
	ring_init(&t.ring);
	ret = register_one(&t.ring, t.map[0], size);
	if (ret == 0 && !pinned)
		assert_int_equal(io_uring_unregister_buffers(&t.ring), 0);
	for (int i = 0; i < 2; i++) { /* dirty, in part beside what the cases change */
		fill(t.map[i] + page + 100, 200, 5, NEW);
		fill(t.map[i] + 3 * page, 20 * page, 6, NEW);
		fill(t.map[i] + size / 2 + page, size / 2 - page, 7, NEW);
		if (size % page) /* behind the end */
			fill(t.map[i] + size, page - size % page, 8, NEW);
	}
	return ret;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void same_bytes(const char *how, const unsigned char *a, const unsigned char *b,
		       size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i])
			fail_test("%s: byte %zu is %#x, in the plain file %#x\n", how, i, a[i],
				  b[i]);
}

void alike_same(void)
{
	const size_t size = file_size(alike_name[1]);
	unsigned char *data[2] = { malloc(size + 1), malloc(size + 1) };

	assert_int_equal(file_size(alike_name[0]), size);
	same_bytes("mapping", t.map[0], t.map[1], least(size, SIZE));
	for (int i = 0; i < 2; i++) {
		int fd = open_file(alike_name[i], O_RDONLY);

		assert_non_null(data[i]);
		assert_int_equal(pread(fd, data[i], size + 1, 0), size);
		close(fd);
	}
	same_bytes("read", data[0], data[1], size);
	free(data[0]);
	free(data[1]);
	assert_int_equal(fsync(t.fd[0]), 0);
	assert_int_equal(fsync(t.fd[1]), 0);
	assert_int_equal(
		tool("filetool", "same", path_of(alike_name[0]), path_of(alike_name[1])), 0);
	same_bytes("mapping after fsync", t.map[0], t.map[1], least(size, SIZE));
}

void alike_end(void)
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(munmap(t.map[i], SIZE), 0);
	io_uring_queue_exit(&t.ring);
	for (int i = 0; i < 2; i++)
		close(t.fd[i]);
	assert_int_equal(
		tool("filetool", "same", path_of(alike_name[0]), path_of(alike_name[1])), 0);
}
