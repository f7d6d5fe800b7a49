// SPDX-License-Identifier: MIT
/* How far the file may be behind the memory: docs/reliability.md. */
#include "unit.h"

#include "keeper/pace.h"

/* Of a pass that never waited. */
static struct effort busy(uint64_t ms)
{
	return (struct effort){ ms * 1000, ms };
}

static void pace__short_passes_keep_the_interval(void **state)
{
	(void)state;
	assert_int_equal(pace(5000, busy(0), false), 5000);
	assert_int_equal(pace(5000, busy(41), false), 5000);
	assert_int_equal(pace(5000, busy(1250), true), 5000);
	assert_int_equal(pace(10, busy(1), true), 10);
}

static void pace__idle_memory_costs_less_than_a_hundredth(void **state)
{
	(void)state;
	assert_int_equal(pace(10, busy(1), false), 120);
	assert_int_equal(pace(20, (struct effort){ 900, 0 }, false), 108);
	assert_int_equal(pace(5000, busy(500), false), 60000);
}

/* One that takes long is remembered for some: it will not be the last. */
static void pace__idle_passes_that_take_long_now_and_then(void **state)
{
	uint64_t late = 0;

	(void)state;
	late = pace_of_late(late, 400);
	assert_int_equal(late, 400);
	late = pace_of_late(late, 800);
	assert_int_equal(late, 800);
	late = pace_of_late(late, 400);
	assert_int_equal(late, 700);
	for (int i = 0; i < 10; i++)
		late = pace_of_late(late, 400);
	assert_int_equal(late, 400);
}

static void pace__changing_memory_costs_a_fifth(void **state)
{
	(void)state;
	assert_int_equal(pace(1000, busy(600), true), 2400);
}

static void pace__waiting_is_not_paid_for(void **state)
{
	(void)state;
	assert_int_equal(pace(1000, (struct effort){ 1000, 500 }, false), 2000);
	assert_int_equal(pace(1000, (struct effort){ 1000, 500 }, true), 2000);
	assert_int_equal(pace(1000, (struct effort){ 40000, 500 }, false), 4800);
}

static void pace__a_minute_at_most_or_two_where_nothing_changes(void **state)
{
	(void)state;
	assert_int_equal(pace(5000, busy(950), false), 114000);
	assert_int_equal(pace(5000, busy(100000), false), 120000);
	assert_int_equal(pace(5000, busy(100000), true), 60000);
	assert_int_equal(pace(5000, (struct effort){ 0, 100000 }, false), 60000);
	assert_int_equal(pace(240000, busy(1), false), 240000); /* unless asked for */
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(pace__short_passes_keep_the_interval),
	cmocka_unit_test(pace__idle_memory_costs_less_than_a_hundredth),
	cmocka_unit_test(pace__idle_passes_that_take_long_now_and_then),
	cmocka_unit_test(pace__changing_memory_costs_a_fifth),
	cmocka_unit_test(pace__waiting_is_not_paid_for),
	cmocka_unit_test(pace__a_minute_at_most_or_two_where_nothing_changes),
};

UNIT_MAIN(tests, NULL, NULL)
