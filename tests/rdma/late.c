// SPDX-License-Identifier: MIT
/*
 * A program that is linked to no libibverbs and loads it after it has mapped its file, and
 * after the first of the shim's verbs hooks ran.
 */
#include "testlib.h"

#include <dlfcn.h>
#include <infiniband/verbs.h>

#undef ibv_reg_mr

#define SIZE (64 * KIB)

static void *symbol(const char *name)
{
	void *sym = dlsym(RTLD_DEFAULT, name);

	if (!sym)
		fail_test("no %s\n", name);
	return sym;
}

#define LATE(name) (__typeof__(&name))symbol(#name)

static void dlopen__late(void **state)
{
	struct ibv_device **list;
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	if (with_shim()) {
		struct ibv_pd none = { 0 };

		assert_null((LATE(ibv_reg_mr))(&none, map, SIZE, IBV_ACCESS_LOCAL_WRITE));
		assert_int_equal(errno, ENOSYS);
		assert_not_staged();
	}
	if (!dlopen("libibverbs.so.1", RTLD_NOW | RTLD_GLOBAL))
		fail_test("%s\n", dlerror());
	list = (LATE(ibv_get_device_list))(NULL);
	if (!list || !list[0])
		skip_test("cannot: no RDMA device");
	context = (LATE(ibv_open_device))(list[0]);
	assert_non_null(context);
	pd = (LATE(ibv_alloc_pd))(context);
	assert_non_null(pd);
	mr = (LATE(ibv_reg_mr))(pd, map, SIZE, IBV_ACCESS_LOCAL_WRITE);
	must_stage(mr ? 0 : -errno);
	fill(map, SIZE, 0, NEW);
	assert_int_equal((LATE(ibv_dereg_mr))(mr), 0);
	assert_int_equal((LATE(ibv_close_device))(context), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	assert_staged();
}

int main(int argc, char **argv)
{
	static const struct test cases[] = { TEST(dlopen__late), { 0 } };

	return test_main(argc, argv, cases, NULL);
}
