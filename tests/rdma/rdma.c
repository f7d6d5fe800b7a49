// SPDX-License-Identifier: MIT
/*
 * Files as the memory of a real RDMA stack: another process writes to them, reads from them and
 * counts in them through the device. Runs in the virtual machine (tests/vm/rdma), on Soft-RoCE,
 * with the shim and without; without it the kernel's refusal must show.
 */
#include "pair.h"

#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <rdma/rsocket.h>
#include <arpa/inet.h>

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define SIZE (256 * KIB)

static int result(const struct ibv_mr *mr)
{
	return mr ? 0 : -errno;
}

static unsigned char *start(size_t size)
{
	make_file("data", size);
	return map_file("data", size);
}

/* Registers the range, or ends the case where the kernel alone refuses. The peer comes after
 * that: without the shim there is nothing for it to do. */
#define must_register(mr, call)                                    \
	do {                                                       \
		device_open();                                     \
		mr = call;                                         \
		must_stage(result(mr));                            \
		assert_int_equal(ibv_dereg_mr(mr), 0);             \
		assert_int_equal(ibv_dealloc_pd(me.pd), 0);        \
		assert_int_equal(ibv_close_device(me.context), 0); \
		pair_open();                                       \
		mr = call;                                         \
		assert_non_null(mr);                               \
	} while (0)

static void finish(unsigned char *map, size_t size)
{
	pair_close();
	assert_int_equal(munmap(map, size), 0);
	assert_int_equal(file_size("data"), size);
	assert_int_equal(log_lines("event=refuse"), 0);
	assert_staged();
}

/* All of the file's bytes, by all operations. */
static void use(struct ibv_mr *mr, unsigned char *map)
{
	peer_reads(mr, 0, SIZE, 0, OLD);
	peer_writes(mr, 0, SIZE, 0, DEVICE);
	assert_content(map, SIZE, 0, DEVICE);
	fill(map, SIZE / 2, 0, NEW);
	peer_reads(mr, 0, SIZE / 2, 0, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	assert_in_file("data", SIZE / 2, SIZE / 2, DEVICE);
	peer_sends(mr, SIZE / 4, SIZE / 2, SIZE / 4, NEWER);
	peer_receives(mr, SIZE / 4, SIZE / 2, SIZE / 4, NEWER);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, SIZE / 4, NEW);
	assert_in_file("data", SIZE / 4, SIZE / 2, NEWER);
	assert_in_file("data", SIZE - SIZE / 4, SIZE / 4, DEVICE);
}

static void reg_mr__all_operations(void **state)
{
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr;

	(void)state;
	must_register(mr, ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS));
	use(mr, map);
}

static void reg_mr_iova2__relaxed_ordering(void **state)
{
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr;

	(void)state;
	must_register(mr, ibv_reg_mr_iova2(me.pd, map, SIZE, (uintptr_t)map,
					   ALL_ACCESS | IBV_ACCESS_RELAXED_ORDERING));
	use(mr, map);
}

static void reg_mr_iova__other_address(void **state)
{
	const uint64_t iova = 0x7000000;
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr;

	(void)state;
	must_register(mr, ibv_reg_mr_iova(me.pd, map, SIZE, iova, ALL_ACCESS));
	peer_writes_iova(mr, iova + 100, SIZE - 100, 100, DEVICE);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, 100, OLD);
	assert_in_file("data", 100, SIZE - 100, DEVICE);
}

/* What rdma_cma's programs call. */
static void rdma_reg__messages_read_write(void **state)
{
	unsigned char *map = start(SIZE);
	struct rdma_cm_id id = { 0 };
	struct ibv_mr *mr;

	(void)state;
	device_open();
	id.pd = me.pd;
	mr = rdma_reg_msgs(&id, map, SIZE);
	must_stage(result(mr));
	assert_int_equal(rdma_dereg_mr(mr), 0);
	mr = rdma_reg_read(&id, map, SIZE);
	assert_non_null(mr);
	assert_int_equal(rdma_dereg_mr(mr), 0);
	ibv_dealloc_pd(me.pd);
	ibv_close_device(me.context);
	pair_open();
	id.pd = me.pd;
	mr = rdma_reg_write(&id, map, SIZE);
	assert_non_null(mr);
	peer_writes(mr, 0, SIZE, 0, DEVICE);
	assert_int_equal(rdma_dereg_mr(mr), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, SIZE, DEVICE);
}

/* One of pair.h's. */
typedef void operation(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset,
		       unsigned seed);

/* One byte to a MiB, at addresses that are aligned to nothing. */
static void sizes_unaligned(operation *to, operation *from)
{
	static const size_t sizes[] = { 1, 7, 4095, 4096, 4097, 65549, MIB };
	const size_t total = 2 * MIB;
	unsigned char *map = start(total);
	struct ibv_mr *mr;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const size_t at = 4093 * (i + 1), len = sizes[i];

		if (i == 0)
			must_register(mr, ibv_reg_mr(me.pd, map + at, len, ALL_ACCESS));
		else
			mr = ibv_reg_mr(me.pd, map + at, len, ALL_ACCESS);
		assert_non_null(mr);
		to(mr, 0, len, at, DEVICE);
		from(mr, 0, len, at, DEVICE);
		assert_int_equal(ibv_dereg_mr(mr), 0);
		assert_int_equal(msync(map, total, MS_SYNC), 0);
		assert_in_file("data", (off_t)at, len, DEVICE);
		assert_in_file("data", (off_t)(at + len), 4096, OLD);
		assert_in_file("data", 0, 4093, OLD);
	}
	finish(map, total);
}

static void write__sizes_unaligned(void **state)
{
	(void)state;
	sizes_unaligned(peer_writes, peer_reads);
}

static void send__sizes_unaligned(void **state)
{
	(void)state;
	sizes_unaligned(peer_sends, peer_receives);
}

static void write_and_send__64_mib_unaligned(void **state)
{
	const size_t size = 64 * MIB, at = 4093, total = size + 8192;
	unsigned char *map;
	struct ibv_mr *mr;

	(void)state;
	make_sparse("data", total);
	map = map_file("data", total);
	must_register(mr, ibv_reg_mr(me.pd, map + at, size, ALL_ACCESS));
	peer_writes(mr, 0, size, at, DEVICE);
	assert_content(map + at, size, at, DEVICE);
	peer_sends(mr, 0, size, at, NEW);
	peer_receives(mr, 0, size, at, NEW);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	finish(map, total);
	assert_in_file("data", (off_t)at, size, NEW);
}

static uint64_t counter_in_file(size_t at)
{
	char command[4096];
	uint64_t n = 0;
	FILE *out;

	/* A process without the shim. */
	snprintf(command, sizeof(command), "env -u LD_PRELOAD od -An -tu8 -j%zu -N8 %s", at,
		 path_of("data"));
	out = popen(command, "re");
	assert_non_null(out);
	assert_int_equal(fscanf(out, "%lu", &n), 1);
	pclose(out);
	return n;
}

static void atomic__counts(void **state)
{
	unsigned char *map;
	uint64_t *counter;
	struct ibv_mr *mr;

	(void)state;
	make_sparse("data", SIZE);
	map = map_file("data", SIZE);
	counter = (uint64_t *)(void *)(map + 8192);
	must_register(mr, ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS));
	peer_adds(mr, 8192, 3, 100);
	assert_int_equal(*counter, 300);
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	peer_swaps(mr, 8192, 301, 1000);
	peer_swaps(mr, 8192, 301, 2000); /* not what it is now */
	assert_int_equal(*counter, 1000);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_int_equal(counter_in_file(8192), 1000);
	peer_adds(mr, 8192, 1, 1);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	finish(map, SIZE);
	assert_int_equal(counter_in_file(8192), 1001);
	assert_int_equal(counter_in_file(8200), 0);
}

static void many_mrs__one_mapping(void **state)
{
	enum { N = 64 };
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr[N];

	(void)state;
	must_register(mr[0], ibv_reg_mr(me.pd, map, 4096, ALL_ACCESS));
	for (size_t i = 1; i < N; i++)
		assert_non_null(mr[i] = ibv_reg_mr(me.pd, map + i * 4096, 4096, ALL_ACCESS));
	for (size_t i = 0; i < N; i++)
		peer_writes(mr[i], 0, 4096, i * 4096, DEVICE);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(ibv_dereg_mr(mr[i]), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, SIZE, DEVICE);
}

static void overlapping_mrs__agree(void **state)
{
	const size_t part = SIZE / 4;
	unsigned char *map = start(SIZE);
	struct ibv_mr *a, *b;

	(void)state;
	must_register(a, ibv_reg_mr(me.pd, map, 2 * part, ALL_ACCESS));
	b = ibv_reg_mr(me.pd, map + part, 3 * part, ALL_ACCESS);
	assert_non_null(b);
	peer_writes(a, 0, 2 * part, 0, DEVICE);
	peer_reads(b, 0, part, part, DEVICE);
	peer_writes(b, 0, 3 * part, part, NEW);
	peer_reads(a, part, part, part, NEW);
	assert_int_equal(ibv_dereg_mr(a), 0);
	peer_reads(b, 0, 3 * part, part, NEW);
	assert_int_equal(ibv_dereg_mr(b), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, part, DEVICE);
	assert_in_file("data", (off_t)part, 3 * part, NEW);
}

static void two_mappings__one_file(void **state)
{
	unsigned char *map = start(SIZE), *other = map_file("data", SIZE);
	struct ibv_mr *a, *b;

	(void)state;
	must_register(a, ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS));
	b = ibv_reg_mr(me.pd, other, SIZE, ALL_ACCESS);
	assert_non_null(b);
	peer_writes(a, 0, SIZE, 0, DEVICE);
	peer_reads(b, 0, SIZE, 0, DEVICE);
	peer_writes(b, SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	assert_content(map, SIZE / 2, 0, DEVICE);
	assert_content(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	assert_int_equal(ibv_dereg_mr(a), 0);
	assert_int_equal(ibv_dereg_mr(b), 0);
	assert_int_equal(munmap(other, SIZE), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
}

/* It stays while an MR is left, of whatever memory. */
static void dealloc_pd__with_an_mr_left(void **state)
{
	unsigned char *map = start(SIZE), *anonymous = malloc(SIZE);
	struct ibv_mr *mr;

	(void)state;
	device_open();
	mr = ibv_reg_mr(me.pd, anonymous, SIZE, ALL_ACCESS);
	assert_non_null(mr);
	assert_int_equal(ibv_dealloc_pd(me.pd), EBUSY);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_int_equal(ibv_dealloc_pd(me.pd), 0);
	assert_int_equal(ibv_close_device(me.context), 0);
	free(anonymous);

	must_register(mr, ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS));
	peer_writes(mr, 0, SIZE, 0, DEVICE);
	assert_int_equal(ibv_dealloc_pd(me.pd), EBUSY);
	peer_reads(mr, 0, SIZE, 0, DEVICE);
	peer_writes(mr, 0, SIZE / 2, 0, NEW);
	pair_close(); /* now it is the MR alone that holds it */
	assert_int_equal(ibv_dealloc_pd(me.pd), EBUSY);
	assert_content(map, SIZE / 2, 0, NEW);
	assert_content(map + SIZE / 2, SIZE / 2, SIZE / 2, DEVICE);
	fill(map + SIZE - SIZE / 4, SIZE / 4, SIZE - SIZE / 4, NEWER);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", SIZE - SIZE / 4, SIZE / 4, NEWER);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_int_equal(ibv_dealloc_pd(me.pd), 0);
	assert_int_equal(ibv_close_device(me.context), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(log_lines("event=refuse"), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	assert_in_file("data", SIZE / 2, SIZE / 4, DEVICE);
	assert_in_file("data", SIZE - SIZE / 4, SIZE / 4, NEWER);
}

static void close_device__with_mrs_left(void **state)
{
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr;

	(void)state;
	must_register(mr, ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS));
	peer_writes(mr, 0, SIZE, 0, DEVICE);
	pair_close();
	assert_int_equal(ibv_close_device(me.context), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
}

/* The program is gone, and its device with it; what it received is not. Only it had the file
 * mapped: what another process maps is not staged. */
static void killed__with_mrs_left(void **state)
{
	unsigned char *map;
	struct ibv_mr *mr;
	pid_t pid;
	int status;

	(void)state;
	make_file("data", SIZE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid > 0) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (kernel_refuses() && !with_shim()) {
			assert_int_equal(WEXITSTATUS(status), EFAULT);
			return;
		}
		assert_true(WIFSIGNALED(status));
		assert_reaches_file("data", 0, SIZE, DEVICE);
		return;
	}
	map = map_file("data", SIZE);
	device_open();
	mr = ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS);
	if (!mr)
		_exit(errno);
	ibv_dereg_mr(mr);
	ibv_dealloc_pd(me.pd);
	ibv_close_device(me.context);
	pair_open();
	mr = ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS);
	if (!mr)
		_exit(1);
	peer_writes(mr, 0, SIZE, 0, DEVICE);
	raise(SIGKILL);
}

static void read_only_mr__stays_native(void **state)
{
	unsigned char *map = start(SIZE);
	struct ibv_mr *reader, *writer;

	(void)state;
	pair_open();
	reader = ibv_reg_mr(me.pd, map, SIZE, IBV_ACCESS_REMOTE_READ);
	assert_non_null(reader);
	fill(map, SIZE, 0, NEW);
	peer_reads(reader, 0, SIZE, 0, NEW);
	writer = ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS);
	assert_int_equal(result(writer), -EFAULT);
	assert_refused_once();
	assert_int_equal(ibv_dereg_mr(reader), 0);
	writer = ibv_reg_mr(me.pd, map, SIZE, ALL_ACCESS);
	must_stage(result(writer));
	peer_reads(writer, 0, SIZE, 0, NEW);
	peer_writes(writer, 0, SIZE, 0, DEVICE);
	assert_int_equal(ibv_dereg_mr(writer), 0);
	pair_close();
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
}

/* Where the device has it (Soft-RoCE's user part has none): else the error is the program's. */
static void rereg_mr__access(void **state)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ;
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr;
	int ret;

	(void)state;
	must_register(mr, ibv_reg_mr(me.pd, map, SIZE, access));
	ret = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ALL_ACCESS);
	if (ret) {
		assert_int_equal(errno, EOPNOTSUPP);
		assert_int_equal(log_lines("event=refuse"), 0);
	} else {
		peer_writes(mr, 0, SIZE, 0, DEVICE);
	}
	peer_reads(mr, 0, SIZE, 0, ret ? OLD : DEVICE);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	finish(map, SIZE);
	assert_in_file("data", 0, SIZE, ret ? OLD : DEVICE);
}

/* Native pages stay the file's, whatever the device would allow. */
static void rereg_mr__to_writing_on_native_pages(void **state)
{
	unsigned char *map = start(SIZE);
	struct ibv_mr *mr;

	(void)state;
	device_open();
	mr = ibv_reg_mr(me.pd, map, SIZE, IBV_ACCESS_REMOTE_READ);
	assert_non_null(mr);
	if (with_shim()) {
		assert_int_equal(
			ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ALL_ACCESS),
			IBV_REREG_MR_ERR_INPUT);
		assert_int_equal(errno, EFAULT);
		assert_refused_once();
	}
	assert_int_equal(ibv_dereg_mr(mr), 0);
}

/* ---- rsockets ---- */

#define PORT_NUMBER 7471

static struct sockaddr_in address(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT_NUMBER) };

	inet_pton(AF_INET, "10.0.2.15", &to.sin_addr);
	return to;
}

static void rsocket_client(void **state)
{
	int fd = rsocket(AF_INET, SOCK_STREAM, 0), maps = 1;
	struct sockaddr_in to = address();
	unsigned char *content = malloc(SIZE);
	uint64_t offset;
	char done = 0;

	(void)state;
	fill(content, SIZE, 0, DEVICE);
	if (rsetsockopt(fd, SOL_RDMA, RDMA_IOMAPSIZE, &maps, sizeof(maps)) ||
	    rconnect(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    rrecv(fd, &offset, sizeof(offset), MSG_WAITALL) != sizeof(offset) ||
	    riowrite(fd, content, SIZE, (off_t)offset, 0) != SIZE ||
	    rsend(fd, &done, 1, 0) != 1)
		_exit(1);
	(void)rrecv(fd, &done, 1, MSG_WAITALL);
	rclose(fd);
}

static void riomap__written_by_peer(void **state)
{
	struct sockaddr_in to = address();
	unsigned char *map = start(SIZE);
	uint64_t offset;
	int listener, fd, maps = 1;
	char done;
	pid_t pid;

	(void)state;
	listener = rsocket(AF_INET, SOCK_STREAM, 0);
	assert_true(listener >= 0);
	assert_int_equal(rsetsockopt(listener, SOL_RDMA, RDMA_IOMAPSIZE, &maps, sizeof(maps)),
			 0);
	assert_int_equal(rbind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(rlisten(listener, 1), 0);
	pid = start_part("rsocket_client");
	fd = raccept(listener, NULL, NULL);
	assert_true(fd >= 0);
	offset = (uint64_t)riomap(fd, map, SIZE, PROT_WRITE, 0, -1);
	if (!with_shim()) {
		assert_int_equal((int64_t)offset, -1);
		assert_int_equal(errno, EFAULT);
		kill(pid, SIGKILL);
		wait_for(pid);
		return;
	}
	assert_int_not_equal((int64_t)offset, -1);
	assert_int_equal(rsend(fd, &offset, sizeof(offset), 0), sizeof(offset));
	assert_int_equal(rrecv(fd, &done, 1, MSG_WAITALL), 1);
	assert_content(map, SIZE, 0, DEVICE);
	assert_int_equal(riounmap(fd, map, SIZE), 0);
	rclose(fd);
	assert_int_equal(wait_for(pid), 0);
	rclose(listener);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_staged();
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(reg_mr__all_operations),
		TEST(reg_mr_iova2__relaxed_ordering),
		TEST(reg_mr_iova__other_address),
		TEST(rdma_reg__messages_read_write),
		TEST(write__sizes_unaligned),
		TEST(send__sizes_unaligned),
		TEST(write_and_send__64_mib_unaligned),
		TEST(atomic__counts),
		TEST(many_mrs__one_mapping),
		TEST(overlapping_mrs__agree),
		TEST(two_mappings__one_file),
		TEST(dealloc_pd__with_an_mr_left),
		TEST(close_device__with_mrs_left),
		TEST(killed__with_mrs_left),
		TEST(read_only_mr__stays_native),
		TEST(rereg_mr__access),
		TEST(rereg_mr__to_writing_on_native_pages),
		TEST(riomap__written_by_peer),
		{ 0 },
	};
	static const struct test parts[] = { TEST(pair_peer), TEST(rsocket_client), { 0 } };

	return test_main(argc, argv, cases, parts);
}
