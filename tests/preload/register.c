// SPDX-License-Identifier: MIT
/*
 * Every way to register fixed buffers, with one or many iovecs, on a shared mapping of a file:
 * refused by the kernel alone, working with the shim, and the file then holds what the device
 * and the program wrote.
 */
#include "testlib.h"

#include <sys/syscall.h>

#define SIZE (256 * KIB)

static int raw_register(int fd, unsigned opcode, const void *arg, unsigned nr)
{
	int ret = (int)syscall(__NR_io_uring_register, fd, opcode, arg, nr);

	return ret < 0 ? -errno : ret;
}

/* The device fills the buffer, the program overwrites its second page; msync() shows both. */
static void use_buffer(struct io_uring *ring, const char *name, unsigned char *map, size_t len,
		       int index)
{
	size_t page = page_size();

	device_writes(ring, map, len, index);
	assert_content(map, len, 0, DEVICE);
	fill(map + page, page, page, NEW);
	assert_int_equal(msync(map, len, MS_SYNC), 0);
	assert_in_file(name, 0, page, DEVICE);
	assert_in_file(name, (off_t)page, page, NEW);
	assert_in_file(name, (off_t)(2 * page), len - 2 * page, DEVICE);
}

static void register_buffers__shared_file(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_content(map, SIZE, 0, OLD);
	use_buffer(&ring, "data", map, SIZE, 0);
	assert_staged();
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(file_size("data"), SIZE);
}

/* What the device reads are the program's stores, not the file. */
static void register_buffers__device_reads_stores(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int sink;

	(void)state;
	make_file("data", SIZE);
	make_file("sink", SIZE);
	map = map_file("data", SIZE);
	fill(map, SIZE / 2, 0, NEW);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	sink = open_file("sink", O_RDWR);
	write_fixed(&ring, sink, map, SIZE, 0, 0);
	assert_in_file("sink", 0, SIZE, NEW);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	close(sink);
	io_uring_queue_exit(&ring);
}

/* O_DIRECT is real DMA by the block layer into the pinned pages. */
static void register_buffers__direct_io(void **state)
{
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	close(make_source(SIZE, DEVICE));
	fd = open(path_of("source"), O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		skip_test("cannot: no O_DIRECT on this file system");
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	read_fixed(&ring, fd, map, SIZE, 0, 0);
	assert_content(map, SIZE, 0, DEVICE);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	close(fd);
	io_uring_queue_exit(&ring);
}

/* As fio does: a slot for each entry of the queue, all in one mapping. */
static void register_buffers__many_iovecs(void **state)
{
	enum { N = 128 };
	struct iovec iovecs[N];
	struct io_uring ring;
	size_t len = 4096;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", N * len);
	map = map_file("data", N * len);
	for (size_t i = 0; i < N; i++)
		iovecs[i] = iov(map + i * len, len);
	ring_init(&ring);
	must_stage(io_uring_register_buffers(&ring, iovecs, N));
	fd = make_source(N * len, DEVICE);
	for (int i = 0; i < N; i++)
		read_fixed(&ring, fd, map + (size_t)i * len, len, i * (off_t)len, i);
	assert_int_equal(msync(map, N * len, MS_SYNC), 0);
	assert_in_file("data", 0, N * len, DEVICE);
	io_uring_queue_exit(&ring);
}

static void register_buffers__unaligned_iovecs(void **state)
{
	struct iovec iovecs[3];
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	/* Inside one page, over a page boundary next to it, and far from both. */
	iovecs[0] = iov(map + 100, 333);
	iovecs[1] = iov(map + 4000, 5000);
	iovecs[2] = iov(map + SIZE - 777, 777);
	ring_init(&ring);
	must_stage(io_uring_register_buffers(&ring, iovecs, 3));
	fd = make_source(SIZE, DEVICE);
	for (int i = 0; i < 3; i++) {
		off_t at = (unsigned char *)iovecs[i].iov_base - map;

		read_fixed(&ring, fd, iovecs[i].iov_base, iovecs[i].iov_len, at, i);
	}
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, 100, OLD);
	assert_in_file("data", 100, 333, DEVICE);
	assert_in_file("data", 433, 4000 - 433, OLD);
	assert_in_file("data", 4000, 5000, DEVICE);
	assert_in_file("data", 9000, SIZE - 777 - 9000, OLD);
	assert_in_file("data", SIZE - 777, 777, DEVICE);
	io_uring_queue_exit(&ring);
}

static void register_buffers__offset_mapping(void **state)
{
	size_t page = page_size();
	off_t offset = (off_t)(5 * page);
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, 8 * page, offset);
	ring_init(&ring);
	/* In the middle of a mapping that begins in the middle of the file. */
	must_stage(register_one(&ring, map + 2 * page, 3 * page));
	assert_content(map, 8 * page, (uint64_t)offset, OLD);
	device_writes(&ring, map + 2 * page, 3 * page, 0);
	assert_int_equal(msync(map, 8 * page, MS_SYNC), 0);
	assert_in_file("data", 0, 7 * page, OLD);
	assert_true(in_file_at("data", (off_t)(7 * page), 3 * page, (off_t)(7 * page), DEVICE));
	assert_in_file("data", (off_t)(10 * page), SIZE - 10 * page, OLD);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* One iovec over two mappings that lie side by side and continue the file. */
static void register_buffers__adjacent_mappings(void **state)
{
	size_t half = SIZE / 2;
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	assert_ptr_equal(mmap(map + half, half, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      fd, (off_t)half),
			 map + half);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	use_buffer(&ring, "data", map, SIZE, 0);
	io_uring_queue_exit(&ring);
	close(fd);
}

static void register_buffers__two_files(void **state)
{
	struct iovec iovecs[2];
	struct io_uring ring;
	unsigned char *map[2];

	(void)state;
	make_file("one", SIZE);
	make_file("two", SIZE);
	map[0] = map_file("one", SIZE);
	map[1] = map_file("two", SIZE);
	iovecs[0] = iov(map[0], SIZE);
	iovecs[1] = iov(map[1], SIZE);
	ring_init(&ring);
	must_stage(io_uring_register_buffers(&ring, iovecs, 2));
	use_buffer(&ring, "one", map[0], SIZE, 0);
	assert_in_file("two", 0, SIZE, OLD);
	use_buffer(&ring, "two", map[1], SIZE, 1);
	io_uring_queue_exit(&ring);
}

static void register_buffers__anonymous_and_file_iovecs(void **state)
{
	struct iovec iovecs[3];
	struct io_uring ring;
	unsigned char *map, *anonymous = malloc(SIZE);

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	iovecs[0] = iov(anonymous, SIZE);
	iovecs[1] = iov(NULL, 0);
	iovecs[2] = iov(map, SIZE);
	ring_init(&ring);
	must_stage(io_uring_register_buffers(&ring, iovecs, 3));
	use_buffer(&ring, "data", map, SIZE, 2);
	device_writes(&ring, anonymous, SIZE, 0);
	assert_content(anonymous, SIZE, 0, DEVICE);
	io_uring_queue_exit(&ring);
	free(anonymous);
}

/* The page cache may keep more of a file than is left of it. */
static void register_after_cut(off_t size)
{
	const size_t len = 256 * KIB;
	unsigned char *map, *content = malloc(len);
	struct io_uring ring;
	int fd;

	assert_non_null(content);
	make_file("data", 0);
	fd = open_file("data", O_RDWR);
	fill(content, len, 0, OLD);
	assert_int_equal(pwrite(fd, content, len, 0), len); /* at once: in large folios */
	map = map_fd(fd, len, 0);
	assert_int_equal(ftruncate(fd, size), 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map + 64 * KIB, 128 * KIB));
	assert_staged();
	device_writes(&ring, map + 64 * KIB, 4096, 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, len), 0);
	assert_int_equal(file_size("data"), size);
	assert_in_file("data", 0, 64 * KIB, OLD);
	assert_in_file("data", 68 * KIB, (size_t)size - 68 * KIB, OLD);
	close(fd);
	free(content);
}

static void register_buffers__cut_file(void **state)
{
	(void)state;
	register_after_cut(192 * KIB);
}

static void register_buffers__cut_within_page(void **state)
{
	(void)state;
	register_after_cut(192 * KIB - 3000);
}

static void register_buffers__twice(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	assert_int_equal(register_one(&ring, map, SIZE), -EBUSY);
	use_buffer(&ring, "data", map, SIZE, 0);
	io_uring_queue_exit(&ring);
}

static void register_buffers__again_after_unregister(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	for (int i = 0; i < 3; i++) {
		must_stage(register_one(&ring, map, SIZE));
		use_buffer(&ring, "data", map, SIZE, 0);
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
		fill(map, SIZE, 0, NEWER);
		assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
		assert_in_file("data", 0, SIZE, NEWER);
	}
	assert_int_equal(io_uring_unregister_buffers(&ring), -ENXIO);
	io_uring_queue_exit(&ring);
}

static void register_buffers__two_rings(void **state)
{
	struct io_uring ring[2];
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring[0]);
	ring_init(&ring[1]);
	must_stage(register_one(&ring[0], map, SIZE / 2));
	/* Half of it is staged already, half is not. */
	must_stage(register_one(&ring[1], map + SIZE / 4, SIZE / 2));
	device_writes(&ring[0], map, SIZE / 2, 0);
	io_uring_queue_exit(&ring[0]);
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	make_file("sink", SIZE);
	{
		int sink = open_file("sink", O_RDWR);

		write_fixed(&ring[1], sink, map + SIZE / 4, SIZE / 2, SIZE / 4, 0);
		close(sink);
	}
	assert_in_file("sink", SIZE / 4, SIZE / 4, DEVICE);
	assert_in_file("sink", SIZE / 2, SIZE / 4, NEW);
	io_uring_queue_exit(&ring[1]);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
}

static void register_buffers_tags__shared_file(void **state)
{
	struct iovec iovecs[2];
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	const __u64 tags[2] = { 7, 8 };
	unsigned char *map;
	__u64 seen = 0;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	iovecs[0] = iov(map, SIZE / 2);
	iovecs[1] = iov(map + SIZE / 2, SIZE / 2);
	ring_init(&ring);
	must_stage(io_uring_register_buffers_tags(&ring, iovecs, tags, 2));
	device_writes(&ring, map, SIZE / 2, 0);
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	/* The tags come back when the buffers are let go. */
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(io_uring_wait_cqe(&ring, &cqe), 0);
		seen += cqe->user_data;
		io_uring_cqe_seen(&ring, cqe);
	}
	assert_int_equal(seen, 15);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
}

static void register_buffers_update_tag__sparse_table(void **state)
{
	struct io_uring ring;
	struct iovec one;
	const __u64 tag = 0;
	unsigned char *map;
	int ret;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	ret = io_uring_register_buffers_sparse(&ring, 8);
	if (ret == -EINVAL)
		skip_test("cannot: this kernel has no sparse buffer tables");
	assert_int_equal(ret, 0);
	one = iov(map, SIZE);
	ret = io_uring_register_buffers_update_tag(&ring, 3, &one, &tag, 1);
	must_stage(ret == 1 ? 0 : ret);
	use_buffer(&ring, "data", map, SIZE, 3);
	assert_staged();
	io_uring_queue_exit(&ring);
}

/* A slot moves from one file to another; the first file's data must be safe all the same. */
static void register_buffers_update_tag__replaces_slot(void **state)
{
	struct io_uring ring;
	struct iovec one;
	const __u64 tag = 0;
	unsigned char *map[2];
	int ret;

	(void)state;
	make_file("one", SIZE);
	make_file("two", SIZE);
	map[0] = map_file("one", SIZE);
	map[1] = map_file("two", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map[0], SIZE));
	device_writes(&ring, map[0], SIZE, 0);
	one = iov(map[1], SIZE);
	ret = io_uring_register_buffers_update_tag(&ring, 0, &one, &tag, 1);
	assert_int_equal(ret, 1);
	use_buffer(&ring, "two", map[1], SIZE, 0);
	assert_int_equal(munmap(map[0], SIZE), 0);
	assert_in_file("one", 0, SIZE, DEVICE);
	io_uring_queue_exit(&ring);
}

static void io_uring_register__by_number(void **state)
{
	struct io_uring ring;
	struct iovec one;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	one = iov(map, SIZE);
	ring_init(&ring);
	must_stage(io_uring_register((unsigned)ring.ring_fd, IORING_REGISTER_BUFFERS, &one, 1));
	use_buffer(&ring, "data", map, SIZE, 0);
	assert_int_equal(
		io_uring_register((unsigned)ring.ring_fd, IORING_UNREGISTER_BUFFERS, NULL, 0),
		0);
	io_uring_queue_exit(&ring);
}

#ifndef IORING_REGISTER_USE_REGISTERED_RING
#define IORING_REGISTER_USE_REGISTERED_RING (1u << 31)
#endif

/* The opcode may carry a bit that says that the descriptor is a registered ring's index. */
static void need_registered_ring(struct io_uring *ring)
{
	char probe[sizeof(struct io_uring_probe)] = { 0 };

	ring_init(ring);
	assert_int_equal(io_uring_register_ring_fd(ring), 1);
	if (raw_register(ring->enter_ring_fd,
			 IORING_REGISTER_PROBE | IORING_REGISTER_USE_REGISTERED_RING, probe,
			 0) == -EINVAL)
		skip_test("cannot: this kernel registers nothing through registered rings");
}

static void io_uring_register__registered_ring(void **state)
{
	struct io_uring ring;
	struct iovec one;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	one = iov(map, SIZE);
	need_registered_ring(&ring);
	must_stage(io_uring_register(
		(unsigned)ring.enter_ring_fd,
		IORING_REGISTER_BUFFERS | IORING_REGISTER_USE_REGISTERED_RING, &one, 1));
	use_buffer(&ring, "data", map, SIZE, 0);
	io_uring_queue_exit(&ring);
}

static void syscall__registered_ring(void **state)
{
	struct io_uring ring;
	struct iovec one;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	one = iov(map, SIZE);
	need_registered_ring(&ring);
	must_stage(raw_register(ring.enter_ring_fd,
				IORING_REGISTER_BUFFERS | IORING_REGISTER_USE_REGISTERED_RING,
				&one, 1));
	use_buffer(&ring, "data", map, SIZE, 0);
	io_uring_queue_exit(&ring);
}

static void syscall__register_buffers(void **state)
{
	struct io_uring ring;
	struct iovec one;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	one = iov(map, SIZE);
	ring_init(&ring);
	must_stage(raw_register(ring.ring_fd, IORING_REGISTER_BUFFERS, &one, 1));
	use_buffer(&ring, "data", map, SIZE, 0);
	assert_staged();
	assert_int_equal(raw_register(ring.ring_fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	io_uring_queue_exit(&ring);
}

static void syscall__register_buffers2(void **state)
{
	__u64 tag = 0;
	struct io_uring ring;
	struct iovec one;
	struct io_uring_rsrc_register arg = {
		.nr = 1,
		.data = (uintptr_t)&one,
		.tags = (uintptr_t)&tag,
	};
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	one = iov(map, SIZE);
	ring_init(&ring);
	must_stage(raw_register(ring.ring_fd, IORING_REGISTER_BUFFERS2, &arg, sizeof(arg)));
	use_buffer(&ring, "data", map, SIZE, 0);
	io_uring_queue_exit(&ring);
}

static int raw_update(struct io_uring *ring, unsigned offset, struct iovec *iovecs, unsigned nr)
{
	struct io_uring_rsrc_update2 arg = {
		.offset = offset,
		.data = (uintptr_t)iovecs,
		.nr = nr,
	};

	return raw_register(ring->ring_fd, IORING_REGISTER_BUFFERS_UPDATE, &arg, sizeof(arg));
}

static void sparse_table(struct io_uring *ring, unsigned nr)
{
	struct io_uring_rsrc_register arg = { .nr = nr, .flags = IORING_RSRC_REGISTER_SPARSE };

	ring_init(ring);
	assert_int_equal(
		raw_register(ring->ring_fd, IORING_REGISTER_BUFFERS2, &arg, sizeof(arg)), 0);
}

static void syscall__buffers_update(void **state)
{
	struct io_uring ring;
	struct iovec one;
	unsigned char *map;
	int ret;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	one = iov(map, SIZE);
	sparse_table(&ring, 4);
	ret = raw_update(&ring, 2, &one, 1);
	must_stage(ret == 1 ? 0 : ret);
	use_buffer(&ring, "data", map, SIZE, 2);
	io_uring_queue_exit(&ring);
}

/* The kernel stops at the first bad entry and tells how many it took: no error to see. */
static void syscall__buffers_update_partly_refused(void **state)
{
	struct iovec iovecs[3];
	struct io_uring ring;
	unsigned char *map, *anonymous = malloc(SIZE);
	int ret;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	iovecs[0] = iov(anonymous, SIZE / 2);
	iovecs[1] = iov(map, SIZE);
	iovecs[2] = iov(anonymous + SIZE / 2, SIZE / 2);
	sparse_table(&ring, 3);
	ret = raw_update(&ring, 0, iovecs, 3);
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(ret, 1);
		return;
	}
	assert_int_equal(ret, 3);
	use_buffer(&ring, "data", map, SIZE, 1);
	device_writes(&ring, anonymous + SIZE / 2, SIZE / 2, 2);
	device_writes(&ring, anonymous, SIZE / 2, 0);
	io_uring_queue_exit(&ring);
	free(anonymous);
}

/* Where the shim cannot help, the kernel's count stays as it is. */
static void syscall__buffers_update_partly_invalid(void **state)
{
	struct iovec iovecs[3];
	struct io_uring ring;
	unsigned char *anonymous = malloc(SIZE);
	void *nothing = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	iovecs[0] = iov(anonymous, SIZE / 2);
	iovecs[1] = iov(nothing, SIZE);
	iovecs[2] = iov(anonymous + SIZE / 2, SIZE / 2);
	sparse_table(&ring, 3);
	assert_int_equal(raw_update(&ring, 0, iovecs, 3), 1);
	device_writes(&ring, anonymous, SIZE / 2, 0);
	assert_not_staged();
	io_uring_queue_exit(&ring);
	free(anonymous);
}

static void unregister_buffers__data_stays(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	io_uring_queue_exit(&ring);
	assert_content(map, SIZE, 0, DEVICE);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
}

/* The device may still write when the program's mapping is long gone. */
static void munmap__while_registered(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	fill(map, SIZE, 0, NEW);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	device_writes(&ring, map, SIZE, 0);
	io_uring_queue_exit(&ring);
	assert_reaches_file("data", 0, SIZE, DEVICE);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(register_buffers__shared_file),
		TEST(register_buffers__device_reads_stores),
		TEST(register_buffers__direct_io),
		TEST(register_buffers__many_iovecs),
		TEST(register_buffers__unaligned_iovecs),
		TEST(register_buffers__offset_mapping),
		TEST(register_buffers__adjacent_mappings),
		TEST(register_buffers__two_files),
		TEST(register_buffers__anonymous_and_file_iovecs),
		TEST(register_buffers__cut_file),
		TEST(register_buffers__cut_within_page),
		TEST(register_buffers__twice),
		TEST(register_buffers__again_after_unregister),
		TEST(register_buffers__two_rings),
		TEST(register_buffers_tags__shared_file),
		TEST(register_buffers_update_tag__sparse_table),
		TEST(register_buffers_update_tag__replaces_slot),
		TEST(io_uring_register__by_number),
		TEST(io_uring_register__registered_ring),
		TEST(syscall__registered_ring),
		TEST(syscall__register_buffers),
		TEST(syscall__register_buffers2),
		TEST(syscall__buffers_update),
		TEST(syscall__buffers_update_partly_refused),
		TEST(syscall__buffers_update_partly_invalid),
		TEST(unregister_buffers__data_stays),
		TEST(munmap__while_registered),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
