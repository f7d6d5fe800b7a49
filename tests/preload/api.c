// SPDX-License-Identifier: MIT
/* include/pinstage.h, as a program uses it that knows of pinstage but needs it not. */
#include "testlib.h"

#include <pinstage.h>

#define SIZE (256 * KIB)

static void version__only_with_library(void **state)
{
	const char *version = pinstage_version();

	(void)state;
	if (with_shim())
		assert_non_null(version);
	else
		assert_null(version);
}

static void query__tells_what_is_staged(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	if (!with_shim()) {
		assert_int_equal(pinstage_query(map, SIZE), -ENOSYS);
		return;
	}
	assert_int_equal(pinstage_query(map, SIZE), PINSTAGE_NATIVE);
	assert_int_equal(register_one(&ring, map, SIZE / 2), 0);
	if (kernel_refuses()) {
		assert_int_equal(pinstage_query(map, SIZE / 2), PINSTAGE_STAGED);
		assert_int_equal(pinstage_query(map, SIZE), PINSTAGE_PARTLY);
		assert_int_equal(pinstage_query(map + SIZE / 4 + 1, 1), PINSTAGE_STAGED);
	} else {
		assert_int_equal(pinstage_query(map, SIZE), PINSTAGE_NATIVE);
	}
	assert_int_equal(pinstage_query(map + 3 * SIZE / 4, SIZE / 4), PINSTAGE_NATIVE);
	assert_int_equal(pinstage_query(&ring, sizeof(ring)), PINSTAGE_NATIVE);
	io_uring_queue_exit(&ring);
}

static void query__bad_range(void **state)
{
	int expected = with_shim() ? -EINVAL : -ENOSYS;

	(void)state;
	assert_int_equal(pinstage_query(&expected, 0), expected);
	assert_int_equal(pinstage_query(&expected, SIZE_MAX), expected);
	assert_int_equal(pinstage_sync(&expected, 0, 1), expected);
	assert_int_equal(pinstage_sync(&expected, SIZE_MAX, 0), expected);
}

static void sync__writes_to_the_file(void **state)
{
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	if (!with_shim()) {
		assert_int_equal(pinstage_sync(map, SIZE, 0), -ENOSYS);
		return;
	}
	must_stage(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(pinstage_sync(map, SIZE, 0), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	fill(map, SIZE, 0, NEW);
	assert_int_equal(pinstage_sync(map + SIZE / 4, SIZE / 4, 1), 0);
	assert_in_file("data", SIZE / 4, SIZE / 4, NEW);
	io_uring_queue_exit(&ring);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(version__only_with_library),
		TEST(query__tells_what_is_staged),
		TEST(query__bad_range),
		TEST(sync__writes_to_the_file),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
