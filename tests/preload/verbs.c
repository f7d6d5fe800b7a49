/* SPDX-License-Identifier: MIT */
/*
 * RDMA's ways to register memory, on a double of libibverbs that pins as the kernel lets it
 * (tests/double). What is registered anew: verbs_rereg.c; programs that are not linked to it:
 * verbs_plugin.c. The real thing is in tests/rdma, which needs a virtual machine.
 */
#include "verbs_test.h"

/* The hook makes the call twice: once to be refused. Its errno must not show. */
static void assert_calls(unsigned with, unsigned without)
{
	assert_int_equal(double_registrations(),
			 with_shim() && kernel_refuses() ? with : without);
}

static void reg_mr__shared_file(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr;

	(void)state;
	errno = EXDEV;
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	must_stage(result(mr));
	assert_int_equal(errno, EXDEV);
	assert_calls(2, 1);
	assert_ptr_equal(mr->addr, map);
	assert_int_equal(mr->length, SIZE);
	assert_logged("ibv_reg_mr", "iova", (uintptr_t)map);
	use(mr, map);
	assert_int_equal(log_lines("event=refuse"), 0);
}

static void reg_mr__again_costs_nothing(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr;

	(void)state;
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	must_stage(result(mr));
	assert_int_equal(ibv_dereg_mr(mr), 0);
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	assert_non_null(mr);
	assert_calls(3, 2);
	use(mr, map);
}

static void reg_mr_iova__shared_file(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr =
		ibv_reg_mr_iova(pd, map, SIZE, ANY_ADDR, WRITES | IBV_ACCESS_REMOTE_WRITE);

	(void)state;
	must_stage(result(mr));
	assert_int_equal(double_last_iova(), ANY_ADDR);
	use(mr, map);
}

static void reg_mr_iova2__shared_file(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr_iova2(pd, map, SIZE, ANY_ADDR, IBV_ACCESS_REMOTE_ATOMIC);

	(void)state;
	must_stage(result(mr));
	assert_int_equal(double_last_iova(), ANY_ADDR);
	assert_int_equal(double_last_access(), IBV_ACCESS_REMOTE_ATOMIC);
	use(mr, map);
}

static struct ibv_mr *reg_mr_ex(struct double_mr_attr *attr)
{
	return ibv_reg_mr_ex(pd, (struct ibv_mr_init_attr *)attr);
}

static void reg_mr_ex__shared_file(void **state)
{
	unsigned char *map = start();
	struct double_mr_attr attr = { .length = SIZE,
				       .access = IBV_ACCESS_MW_BIND,
				       .comp_mask = DOUBLE_MASK_ADDR | DOUBLE_MASK_IOVA,
				       .iova = ANY_ADDR,
				       .addr = map };
	struct ibv_mr *mr = reg_mr_ex(&attr);

	(void)state;
	must_stage(result(mr));
	assert_int_equal(double_last_iova(), ANY_ADDR);
	assert_logged("ibv_reg_mr_ex", "iova", ANY_ADDR);
	assert_logged("ibv_reg_mr_ex", "access", IBV_ACCESS_MW_BIND);
	use(mr, map);
}

/* A dma-buf: its address is none. */
static void reg_mr_ex__dmabuf_passes(void **state)
{
	unsigned char *map = start();
	struct double_mr_attr attr = { .length = SIZE,
				       .access = WRITES,
				       .comp_mask = DOUBLE_MASK_ADDR | DOUBLE_MASK_FD,
				       .addr = map };

	(void)state;
	assert_int_equal(result(reg_mr_ex(&attr)), -EOPNOTSUPP);
	attr.comp_mask = 0;
	assert_int_equal(result(reg_mr_ex(&attr)), -EOPNOTSUPP);
	assert_int_equal(double_registrations(), 2);
	assert_not_staged();
	assert_int_equal(log_lines("event=refuse"), 0);
}

static void reg_mr__relaxed_ordering_and_zero_based(void **state)
{
	const unsigned access = WRITES | IBV_ACCESS_RELAXED_ORDERING | IBV_ACCESS_ZERO_BASED;
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr_iova2(pd, map, SIZE, 0, access);

	(void)state;
	must_stage(result(mr));
	assert_int_equal(double_last_access(), access);
	assert_int_equal(double_last_iova(), 0);
	use(mr, map);
}

static void reg_mr__huge_pages(void **state)
{
	const unsigned access = WRITES | IBV_ACCESS_HUGETLB;
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, access);

	(void)state;
	must_stage(result(mr));
	assert_int_equal(double_last_access(), access);
	use(mr, map);
}

/* On-demand memory is not pinned, and all of the address space can be such an MR. */
static void reg_mr__on_demand_passes(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, WRITES | IBV_ACCESS_ON_DEMAND);

	(void)state;
	assert_non_null(mr);
	device_fills(mr, 0, SIZE, DEVICE);
	assert_content(map, SIZE, 0, DEVICE);
	assert_non_null(ibv_reg_mr(pd, NULL, SIZE_MAX, WRITES | IBV_ACCESS_ON_DEMAND));
	assert_int_equal(double_registrations(), 2);
	assert_not_staged();
}

static void reg_mr__part_of_mapping(void **state)
{
	const size_t at = 3 * page_size() + 123, len = 20001;
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map + at, len, WRITES);

	(void)state;
	must_stage(result(mr));
	device_fills(mr, 0, len, DEVICE);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, at, OLD);
	assert_true(in_file_at("data", (off_t)at, len, (off_t)at, DEVICE));
	assert_in_file("data", (off_t)(at + len), SIZE - at - len, OLD);
	assert_int_equal(ibv_dereg_mr(mr), 0);
}

static void reg_mr__many_over_one_mapping(void **state)
{
	enum { N = 64 };
	unsigned char *map = start();
	struct ibv_mr *mr[N];

	(void)state;
	/* Half of each lies in the next one. */
	for (size_t i = 0; i < N; i++) {
		mr[i] = ibv_reg_mr(pd, map + i * 4096, i == N - 1 ? 4096 : 6144, WRITES);
		must_stage(result(mr[i]));
	}
	for (size_t i = 0; i < N; i++) {
		unsigned char content[4096];

		fill(content, sizeof(content), i * sizeof(content), DEVICE);
		assert_int_equal(double_write(mr[i], 0, content, sizeof(content)), 0);
	}
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(ibv_dereg_mr(mr[i]), 0);
}

static void reg_mr__two_mappings_of_one_file(void **state)
{
	unsigned char *map = start(), *other = map_file("data", SIZE);
	struct ibv_mr *a = ibv_reg_mr(pd, map, SIZE, WRITES), *b;

	(void)state;
	must_stage(result(a));
	b = ibv_reg_mr(pd, other, SIZE, WRITES);
	assert_non_null(b);
	device_fills(a, 0, SIZE / 2, DEVICE);
	device_fills(b, SIZE / 2, SIZE / 2, DEVICE);
	assert_content(map, SIZE, 0, DEVICE);
	assert_content(other, SIZE, 0, DEVICE);
	assert_device_finds(a, 0, SIZE, DEVICE);
	assert_int_equal(munmap(other, SIZE), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	ibv_close_device(context);
	assert_reaches_file("data", 0, SIZE, DEVICE);
}

static void close_device__with_mrs_left(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, WRITES);

	(void)state;
	must_stage(result(mr));
	device_fills(mr, 0, SIZE, DEVICE);
	assert_int_equal(ibv_close_device(context), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
}

static void dealloc_pd__with_an_mr_left(void **state)
{
	unsigned char *map = start();
	struct ibv_pd *other = ibv_alloc_pd(context);
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, WRITES);

	(void)state;
	assert_int_equal(ibv_dealloc_pd(other), 0);
	if (kernel_refuses() && !with_shim()) {
		/* The MR that was refused, and tried first with the shim, is none. */
		assert_int_equal(result(mr), -EFAULT);
		assert_int_equal(ibv_dealloc_pd(pd), 0);
		return;
	}
	assert_non_null(mr);
	assert_int_equal(ibv_dealloc_pd(pd), EBUSY);
	use(mr, map); /* it is what it was, and goes in the end */
	assert_int_equal(ibv_dealloc_pd(pd), 0);
	assert_int_equal(ibv_close_device(context), 0);
}

/* The original's errors are the program's: nothing is repeated, nothing is said. */
static void reg_mr__other_errors(void **state)
{
	unsigned char *map = start();

	(void)state;
	assert_int_equal(result(ibv_reg_mr(pd, map, 0, WRITES)), -EINVAL);
	double_fail(ENOMEM, 1);
	assert_int_equal(result(ibv_reg_mr(pd, map, SIZE, READS)), -ENOMEM);
	double_fail(EOPNOTSUPP, 1);
	assert_int_equal(result(ibv_reg_mr(pd, map, SIZE, READS)), -EOPNOTSUPP);
	assert_int_equal(double_registrations(), 3);
	assert_int_equal(log_lines("event="), 0);
}

static void reg_mr__refused_after_staging(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr;

	(void)state;
	double_fail(ENOMEM, 1);
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(result(mr), -EFAULT);
		return;
	}
	assert_int_equal(result(mr), -ENOMEM);
	if (kernel_refuses())
		assert_true(log_has("event=refuse", "still refuses"));
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	assert_non_null(mr);
	assert_int_equal(ibv_dereg_mr(mr), 0);
}

static void reg_mr__not_mapped(void **state)
{
	unsigned char *map = start();

	(void)state;
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(result(ibv_reg_mr(pd, map, SIZE, WRITES)), -EFAULT);
	assert_refused_once();
}

static void reg_mr__anonymous_memory(void **state)
{
	unsigned char *mem;
	struct ibv_mr *mr;

	(void)state;
	(void)start();
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mr = ibv_reg_mr(pd, mem, SIZE, WRITES);
	assert_non_null(mr);
	assert_int_equal(double_registrations(), 1);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_not_staged();
}

/* ---- pins that the kernel grants on the file's own pages ---- */

static void read_only_mr__passes(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, READS);

	(void)state;
	assert_non_null(mr);
	fill(map, SIZE, 0, NEW);
	assert_device_finds(mr, 0, SIZE, NEW);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_not_staged();
}

/* Staging would leave the first MR with pages that no store reaches any more. */
static void read_only_mr__keeps_range_native(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *reader, *writer;

	(void)state;
	reader = ibv_reg_mr(pd, map + SIZE / 4, page_size(), READS);
	assert_non_null(reader);
	writer = ibv_reg_mr(pd, map, SIZE, WRITES);
	if (!kernel_refuses()) {
		assert_non_null(writer);
		return;
	}
	assert_int_equal(result(writer), -EFAULT);
	assert_refused_once();
	if (with_shim())
		assert_true(log_has("event=refuse", "through an MR that cannot be written"));
	fill(map, SIZE, 0, NEW);
	assert_int_equal(ibv_dereg_mr(reader), 0);
	writer = ibv_reg_mr(pd, map, SIZE, WRITES);
	must_stage(result(writer));
	assert_device_finds(writer, 0, SIZE, NEW);
	assert_staged();
}

/* Without the mapping that it was made through it is still there, and seen by other mappings.
 */
static void read_only_mr__outlives_its_mapping(void **state)
{
	unsigned char *map = start(), *other = map_file("data", SIZE);
	struct ibv_mr *reader;

	(void)state;
	reader = ibv_reg_mr(pd, map, SIZE, READS);
	assert_non_null(reader);
	assert_int_equal(munmap(map, SIZE), 0);
	if (!kernel_refuses())
		return;
	assert_int_equal(result(ibv_reg_mr(pd, other, SIZE, WRITES)), -EFAULT);
	if (with_shim())
		assert_true(log_has("event=refuse", "through an MR that cannot be written"));
	assert_int_equal(ibv_close_device(context), 0);
	open_device();
	must_stage(result(ibv_reg_mr(pd, other, SIZE, WRITES)));
}

static void read_only_mr__failed_deregistration(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *reader = ibv_reg_mr(pd, map, SIZE, READS);

	(void)state;
	assert_non_null(reader);
	double_fail(EBUSY, 1);
	assert_int_equal(ibv_dereg_mr(reader), EBUSY);
	if (!kernel_refuses())
		return;
	assert_int_equal(result(ibv_reg_mr(pd, map, SIZE, WRITES)), -EFAULT);
	if (with_shim())
		assert_true(log_has("event=refuse", "through an MR that cannot be written"));
	assert_int_equal(ibv_dereg_mr(reader), 0);
	must_stage(result(ibv_reg_mr(pd, map, SIZE, WRITES)));
}

static void read_only_mr__of_staged_memory(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *writer = ibv_reg_mr(pd, map, SIZE, WRITES), *reader;

	(void)state;
	must_stage(result(writer));
	reader = ibv_reg_mr(pd, map, SIZE, READS);
	assert_non_null(reader);
	device_fills(writer, 0, SIZE, DEVICE);
	assert_device_finds(reader, 0, SIZE, DEVICE);
	assert_int_equal(
		ibv_rereg_mr(reader, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, WRITES), 0);
	assert_int_equal(ibv_dereg_mr(reader), 0);
	assert_int_equal(ibv_dereg_mr(writer), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
}

/* ---- given back before it was pinned ---- */

static unsigned char *wanted_by_another;
static unsigned times_wanted;

/* As another thread does that needs the room, each time between staging and pin. */
static void give_back(void)
{
	if (times_wanted && pinstage_query(wanted_by_another, SIZE) == PINSTAGE_STAGED) {
		times_wanted--;
		assert_int_equal(pinstage_release(wanted_by_another, SIZE), 0);
	}
}

static struct ibv_mr *register_while_wanted(unsigned char *map, unsigned times)
{
	struct ibv_mr *mr;

	wanted_by_another = map;
	times_wanted = times;
	double_before(give_back);
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	double_before(NULL);
	return mr;
}

static void reg_mr__given_back_before_the_pin(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = register_while_wanted(map, 3);

	(void)state;
	must_stage(result(mr));
	if (!with_shim() || !kernel_refuses())
		return;
	assert_int_equal(times_wanted, 0);
	assert_int_equal(log_lines("event=refuse"), 0);
	assert_int_equal(double_registrations(), 5);
	device_fills(mr, 0, SIZE, DEVICE);
	assert_content(map, SIZE, 0, DEVICE);
	assert_int_equal(ibv_dereg_mr(mr), 0);
}

/* Not for ever. */
static void reg_mr__given_back_each_time(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = register_while_wanted(map, 1000);

	(void)state;
	if (!kernel_refuses()) {
		assert_non_null(mr);
		return;
	}
	assert_int_equal(result(mr), -EFAULT);
	if (with_shim())
		assert_int_equal(log_lines("event=refuse"), 1);
	assert_content(map, SIZE, 0, OLD);
}

/* On-demand it stays, and needs no staging: not even where there is no room for it. */

/* ---- the older ABI, kernels that refuse nothing ---- */

struct double_old_mr *old_reg_mr(struct double_old_pd *pd, void *addr, size_t length,
				 int access);
int old_dereg_mr(struct double_old_mr *mr);
__asm__(".symver old_reg_mr, ibv_reg_mr@IBVERBS_1.0");
__asm__(".symver old_dereg_mr, ibv_dereg_mr@IBVERBS_1.0");

static void old_abi__shared_file(void **state)
{
	unsigned char *map = start();
	struct double_old_pd old_pd = { .real_pd = pd };
	struct double_old_mr *mr = old_reg_mr(&old_pd, map, SIZE, WRITES);

	(void)state;
	must_stage(mr ? 0 : -errno);
	assert_ptr_equal(mr->pd, &old_pd);
	device_fills(mr->real_mr, 0, SIZE, DEVICE);
	assert_int_equal(old_dereg_mr(mr), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_staged();
}

static void old_kernel__is_not_asked(void **state)
{
	unsigned char *map, *mem;
	struct ibv_mr *mr;

	(void)state;
	assert_int_equal(setenv("DOUBLE_KERNEL", "6.1.0-1-amd64", 1), 0);
	map = start();
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_non_null(ibv_reg_mr(pd, mem, SIZE, WRITES));
	assert_not_staged();
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	assert_non_null(mr);
	assert_int_equal(double_registrations(), 2);
	use(mr, map);
}

static void old_kernel__deny(void **state)
{
	unsigned char *map;
	struct ibv_mr *mr;

	(void)state;
	assert_int_equal(setenv("DOUBLE_KERNEL", "6.4.9", 1), 0);
	needs_setting("PINSTAGE_MODE", "deny", __func__);
	map = start();
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	if (!with_shim() || !kernel_refuses()) {
		assert_non_null(mr);
		return;
	}
	assert_int_equal(result(mr), -EFAULT);
	assert_int_equal(double_registrations(), 0);
	assert_true(log_has("event=deny", "call=ibv_reg_mr"));
}

/* What staging could not do is no reason to let it pass. */
static void old_kernel__deny_part_anonymous(void **state)
{
	unsigned char *map;
	struct ibv_mr *mr;

	(void)state;
	assert_int_equal(setenv("DOUBLE_KERNEL", "6.4.9", 1), 0);
	needs_setting("PINSTAGE_MODE", "deny", __func__);
	map = start();
	assert_ptr_equal(mmap(map + SIZE / 2, SIZE / 2, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 map + SIZE / 2);
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	if (!with_shim() || !kernel_refuses()) {
		assert_non_null(mr);
		return;
	}
	assert_int_equal(result(mr), -EFAULT);
	assert_int_equal(double_registrations(), 0);
	assert_true(log_has("event=deny", "call=ibv_reg_mr"));
	assert_false(log_has("event=refuse", "call=ibv_reg_mr"));
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(reg_mr__shared_file),
		TEST(reg_mr__again_costs_nothing),
		TEST(reg_mr_iova__shared_file),
		TEST(reg_mr_iova2__shared_file),
		TEST(reg_mr_ex__shared_file),
		TEST(reg_mr_ex__dmabuf_passes),
		TEST(reg_mr__relaxed_ordering_and_zero_based),
		TEST(reg_mr__huge_pages),
		TEST(reg_mr__on_demand_passes),
		TEST(reg_mr__part_of_mapping),
		TEST(reg_mr__many_over_one_mapping),
		TEST(reg_mr__two_mappings_of_one_file),
		TEST(close_device__with_mrs_left),
		TEST(dealloc_pd__with_an_mr_left),
		TEST(reg_mr__other_errors),
		TEST(reg_mr__refused_after_staging),
		TEST(reg_mr__not_mapped),
		TEST(reg_mr__anonymous_memory),
		TEST(read_only_mr__passes),
		TEST(read_only_mr__keeps_range_native),
		TEST(read_only_mr__outlives_its_mapping),
		TEST(read_only_mr__failed_deregistration),
		TEST(read_only_mr__of_staged_memory),
		TEST(reg_mr__given_back_before_the_pin),
		TEST(reg_mr__given_back_each_time),
		TEST(old_abi__shared_file),
		TEST(old_kernel__is_not_asked),
		TEST(old_kernel__deny),
		TEST(old_kernel__deny_part_anonymous),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
