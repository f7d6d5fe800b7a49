// SPDX-License-Identifier: MIT
/* How far the file may be behind the memory: docs/reliability.md. */
#include "unit.h"

#include "keeper/pace.h"

static void pace__short_passes_keep_the_interval(void **state)
{
	(void)state;
	assert_int_equal(pace(5000, 0, false), 5000);
	assert_int_equal(pace(5000, 50, false), 5000);
	assert_int_equal(pace(5000, 1250, true), 5000);
	assert_int_equal(pace(10, 1, true), 10);
}

static void pace__idle_memory_costs_a_hundredth(void **state)
{
	(void)state;
	assert_int_equal(pace(10, 1, false), 100);
	assert_int_equal(pace(5000, 600, false), 60000);
}

static void pace__changing_memory_costs_a_fifth(void **state)
{
	(void)state;
	assert_int_equal(pace(1000, 600, true), 2400);
}

static void pace__a_minute_at_most(void **state)
{
	(void)state;
	assert_int_equal(pace(5000, 100000, false), 60000);
	assert_int_equal(pace(5000, 100000, true), 60000);
	assert_int_equal(pace(120000, 1, false), 120000); /* unless asked for */
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(pace__short_passes_keep_the_interval),
	cmocka_unit_test(pace__idle_memory_costs_a_hundredth),
	cmocka_unit_test(pace__changing_memory_costs_a_fifth),
	cmocka_unit_test(pace__a_minute_at_most),
};

UNIT_MAIN(tests, NULL, NULL)
