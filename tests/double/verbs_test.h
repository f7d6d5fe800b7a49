/* SPDX-License-Identifier: MIT */
/* What the tests of RDMA's registrations share: the double's device, and what it finds. */
#ifndef VERBS_TEST_H
#define VERBS_TEST_H

#include "testlib.h"

#include <pinstage.h>
#include "double.h"

#include <inttypes.h>

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define SIZE	 (256 * KIB)
#define WRITES	 IBV_ACCESS_LOCAL_WRITE
#define READS	 IBV_ACCESS_REMOTE_READ
#define ANY_ADDR ((uint64_t)0x123456000)

static struct ibv_context *context;
static struct ibv_pd *pd;

static void open_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	assert_non_null(list);
	context = ibv_open_device(list[0]);
	assert_non_null(context);
	ibv_free_device_list(list);
	pd = ibv_alloc_pd(context);
	assert_non_null(pd);
}

static int result(const struct ibv_mr *mr)
{
	return mr ? 0 : -errno;
}

static void device_fills(struct ibv_mr *mr, size_t offset, size_t len, unsigned seed)
{
	unsigned char *content = malloc(len);

	assert_non_null(content);
	fill(content, len, offset, seed);
	assert_int_equal(double_write(mr, offset, content, len), 0);
	free(content);
}

static void assert_device_finds(struct ibv_mr *mr, size_t offset, size_t len, unsigned seed)
{
	unsigned char *content = malloc(len);

	assert_non_null(content);
	assert_int_equal(double_read(mr, offset, content, len), 0);
	assert_content(content, len, offset, seed);
	free(content);
}

/* What every registration that was staged has to show. */
static void use(struct ibv_mr *mr, unsigned char *map)
{
	assert_device_finds(mr, 0, SIZE, OLD);
	device_fills(mr, 0, SIZE, DEVICE);
	assert_content(map, SIZE, 0, DEVICE);
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	assert_device_finds(mr, SIZE / 2, SIZE / 2, NEW);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	assert_staged();
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(file_size("data"), SIZE);
}

static unsigned char *start(void)
{
	open_device();
	make_file("data", SIZE);
	return map_file("data", SIZE);
}

/* Of the line that says what was staged or recorded. */
static void assert_logged(const char *call, const char *key, uint64_t value)
{
	char a[64], b[64];

	if (!with_shim() || !kernel_refuses())
		return;
	snprintf(a, sizeof(a), " call=%s ", call);
	snprintf(b, sizeof(b), " %s=%#" PRIx64 " ", key, value);
	assert_true(log_has(a, b));
}

#endif
