/* SPDX-License-Identifier: MIT */
/* Memory regions that are registered anew, on the double of libibverbs (verbs.c). */
#include "verbs_test.h"

static unsigned char *anonymous(void)
{
	void *mem =
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(mem != MAP_FAILED);
	return mem;
}

static void rereg_mr__moves_to_file(void **state)
{
	unsigned char *map = start(), *mem;
	struct ibv_mr *mr;
	int ret;

	(void)state;
	mem = anonymous();
	mr = ibv_reg_mr(pd, mem, SIZE, WRITES);
	assert_non_null(mr);
	ret = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0);
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(ret, IBV_REREG_MR_ERR_CMD);
		assert_int_equal(errno, EFAULT);
		return;
	}
	assert_int_equal(ret, 0);
	use(mr, map);
}

static void rereg_mr__grows_and_changes_access(void **state)
{
	const int both = IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS;
	unsigned char *map = start();
	struct ibv_mr *mr;
	int ret;

	(void)state;
	mr = ibv_reg_mr(pd, map, SIZE / 2, WRITES);
	must_stage(result(mr));
	/* To reading only, over pages that are staged and pages that are not. */
	assert_int_equal(ibv_rereg_mr(mr, both, NULL, map, SIZE, READS), 0);
	assert_device_finds(mr, 0, SIZE, OLD);
	if (!kernel_refuses())
		return;
	/* The second half is held natively. The change is refused, and the MR is what it was.
	 */
	ret = ibv_rereg_mr(mr, both, NULL, map, SIZE, WRITES);
	assert_int_equal(ret, IBV_REREG_MR_ERR_INPUT);
	assert_int_equal(errno, EFAULT);
	assert_true(log_has("event=refuse", "through an MR that cannot be written"));
	assert_device_finds(mr, 0, SIZE, OLD);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	mr = ibv_reg_mr(pd, map, SIZE, WRITES);
	assert_non_null(mr);
	use(mr, map);
}

/* Soft-RoCE grants it, and would then write to pages of the file. */
static void rereg_mr__to_writing_on_native_pages(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, READS);
	int ret;

	(void)state;
	assert_non_null(mr);
	ret = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, WRITES | READS);
	if (!with_shim() || !kernel_refuses()) {
		assert_int_equal(ret, 0);
		return;
	}
	assert_int_equal(ret, IBV_REREG_MR_ERR_INPUT);
	assert_int_equal(errno, EFAULT);
	assert_refused_once();
	assert_device_finds(mr, 0, SIZE, OLD); /* it is what it was */
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, READS), 0);
}

static void rereg_mr__on_demand_moves_to_file(void **state)
{
	unsigned char *map;
	struct ibv_mr *mr;

	(void)state;
	needs_setting("PINSTAGE_MAX_BYTES", "4K", __func__);
	map = start();
	mr = ibv_reg_mr(pd, anonymous(), SIZE, WRITES | IBV_ACCESS_ON_DEMAND);
	assert_non_null(mr);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0),
			 0);
	device_fills(mr, 0, SIZE, DEVICE);
	assert_content(map, SIZE, 0, DEVICE);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_not_staged();
	assert_int_equal(log_lines("event=refuse"), 0);
}

/* The kernel grants it on the file's own pages, as it grants a new one. */
static void rereg_mr__read_only_moves_to_file(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, anonymous(), SIZE, READS), *writer;

	(void)state;
	assert_non_null(mr);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0),
			 0);
	assert_not_staged();
	fill(map, SIZE, 0, NEW);
	assert_device_finds(mr, 0, SIZE, NEW);
	if (!kernel_refuses())
		return;
	/* And remembered as such. */
	assert_int_equal(result(ibv_reg_mr(pd, map, SIZE, WRITES)), -EFAULT);
	assert_refused_once();
	assert_int_equal(ibv_dereg_mr(mr), 0);
	writer = ibv_reg_mr(pd, map, SIZE, WRITES);
	must_stage(result(writer));
	assert_device_finds(writer, 0, SIZE, NEW);
}

/* What counts is what was said last: at a change, a failed deregistration, by a new MR. */
static void rereg_mr__access_is_remembered(void **state)
{
	unsigned char *map = start(), *mem = anonymous();
	struct ibv_mr *mr = ibv_reg_mr(pd, mem, SIZE, WRITES);
	int ret;

	(void)state;
	assert_non_null(mr);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, READS), 0);
	double_fail(EBUSY, 1);
	assert_int_equal(ibv_dereg_mr(mr), EBUSY);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0),
			 0);
	assert_not_staged();
	assert_int_equal(ibv_dereg_mr(mr), 0);
	mr = ibv_reg_mr(pd, mem, SIZE, READS);
	assert_non_null(mr);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, WRITES),
			 0);
	ret = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0);
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(ret, IBV_REREG_MR_ERR_CMD);
		assert_int_equal(errno, EFAULT);
		return;
	}
	assert_int_equal(ret, 0);
	use(mr, map);
}

/* Modes that stage nothing: the kernel's answer, and a line of it. */
static void rereg_is_recorded(const char *event)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, anonymous(), SIZE, WRITES | READS), *reader;
	int ret;

	assert_non_null(mr);
	reader = ibv_reg_mr(pd, anonymous(), SIZE, READS);
	assert_non_null(reader);
	assert_int_equal(
		ibv_rereg_mr(reader, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0), 0);
	assert_int_equal(log_lines("event="), 0);
	ret = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, map, SIZE, 0);
	if (!kernel_refuses()) {
		assert_int_equal(ret, 0);
		return;
	}
	assert_int_equal(ret, IBV_REREG_MR_ERR_CMD);
	assert_int_equal(errno, EFAULT);
	if (!with_shim())
		return;
	assert_true(log_has(event, " errno=14 "));
	assert_logged("ibv_rereg_mr", "access", WRITES | READS);
	assert_logged("ibv_rereg_mr", "iova", (uintptr_t)map);
	assert_int_equal(log_lines("event="), 1);
}

static void rereg_mr__in_mode_log(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_MODE", "log", __func__);
	rereg_is_recorded("event=pin");
}

static void rereg_mr__in_mode_deny(void **state)
{
	(void)state;
	needs_setting("PINSTAGE_MODE", "deny", __func__);
	rereg_is_recorded("event=deny");
}

static void rereg_mr__bad_arguments(void **state)
{
	unsigned char *map = start();
	struct ibv_mr *mr = ibv_reg_mr(pd, map, SIZE, READS);

	(void)state;
	assert_non_null(mr);
	assert_int_equal(ibv_rereg_mr(mr, 64, NULL, NULL, 0, 0), IBV_REREG_MR_ERR_INPUT);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, NULL, 0, 0),
			 IBV_REREG_MR_ERR_INPUT);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_PD, pd, NULL, 0, 0), 0);
	assert_not_staged();
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(rereg_mr__moves_to_file),
		TEST(rereg_mr__grows_and_changes_access),
		TEST(rereg_mr__to_writing_on_native_pages),
		TEST(rereg_mr__on_demand_moves_to_file),
		TEST(rereg_mr__read_only_moves_to_file),
		TEST(rereg_mr__access_is_remembered),
		TEST(rereg_mr__in_mode_log),
		TEST(rereg_mr__in_mode_deny),
		TEST(rereg_mr__bad_arguments),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
