// SPDX-License-Identifier: MIT
#include "unit.h"

#include "common/util.h"
#include "flipper.h"

#define SIZE 4096

static unsigned char bytes[SIZE];
static void all_zero__of_all_of_it(void **state)
{
	(void)state;
	memset(bytes, 0, SIZE);
	assert_true(all_zero(bytes, 0));
	for (size_t from = 0; from < 600; from += 7) {
		for (size_t to = from + 1; to < 700; to++) {
			bytes[to] = 1;
			assert_true(all_zero(bytes + from, to - from));
			assert_false(all_zero(bytes + from, to - from + 1));
			bytes[to] = 0;
		}
	}
}

/* It is not at any moment. */
static void all_zero__of_memory_that_changes(void **state)
{
	struct flipper f = { .byte = bytes + 448 };

	(void)state;
	memset(bytes, 0, SIZE);
	bytes[3000] = 9;
	flipper_start(&f);
	for (unsigned i = 0; i < 3000000; i++)
		assert_false(all_zero(bytes, SIZE));
	flipper_stop(&f);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(all_zero__of_all_of_it),
	cmocka_unit_test(all_zero__of_memory_that_changes),
};

UNIT_MAIN(tests, NULL, NULL)
