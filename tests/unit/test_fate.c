/* SPDX-License-Identifier: MIT */
/* links: shim/keeper/fate.c */
#include "unit.h"

#include "keeper/fate.h"

static void group__same(void **state)
{
	(void)state;
	assert_true(fate_same_group("0::/a/b\n", "0::/a/b\n"));
	assert_true(fate_same_group("0::/a/b", "0::/a/b"));
}

/* Whoever ends a group ends those below it. */
static void group__below_the_programs(void **state)
{
	(void)state;
	assert_true(fate_same_group("0::/a/b/keeper\n", "0::/a/b\n"));
	assert_false(fate_same_group("0::/a\n", "0::/a/b\n"));
	assert_false(fate_same_group("0::/a/bc\n", "0::/a/b\n"));
	assert_false(fate_same_group("0::/b\n", "0::/a\n"));
}

static void group__root(void **state)
{
	(void)state;
	assert_false(fate_same_group("0::/\n", "0::/\n"));
	assert_false(fate_same_group("0::/a\n", "0::/\n"));
	assert_false(fate_same_group("", ""));
}

/* Where the unified hierarchy is not in use, systemd has one of its own; limits do not count.
 */
static void group__systemd(void **state)
{
	(void)state;
	assert_true(fate_same_group("4:memory:/x\n1:name=systemd:/s\n0::/\n",
				    "4:memory:/y\n1:name=systemd:/s\n0::/\n"));
	assert_false(fate_same_group("4:memory:/x\n1:name=systemd:/s\n0::/\n",
				     "4:memory:/x\n1:name=systemd:/t\n0::/\n"));
	assert_false(fate_same_group("10::/a\n", "10::/a\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(group__same),
		cmocka_unit_test(group__below_the_programs),
		cmocka_unit_test(group__root),
		cmocka_unit_test(group__systemd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
