/* SPDX-License-Identifier: MIT */
/* links: shim/common/reason.c shim/common/options.c */
#include "unit.h"

#include "common/options.h"
#include "common/reason.h"

static void every__has_text_and_remedy(void **state)
{
	(void)state;
	for (int r = REASON_NONE + 1; r < REASON_MAX; r++) {
		assert_true(*reason_text(r) != '\0');
		assert_true(*reason_remedy(r) != '\0');
	}
	assert_string_equal(reason_text(REASON_NONE), "");
	assert_string_equal(reason_remedy(REASON_NONE), "");
}

/* They go between the quotes of a log line as they are. */
static void every__fits_a_log_line(void **state)
{
	(void)state;
	for (int r = REASON_NONE; r < REASON_MAX; r++) {
		const char *text[] = { reason_text(r), reason_remedy(r) };

		for (int i = 0; i < 2; i++) {
			assert_true(strlen(text[i]) < 200);
			for (const char *c = text[i]; *c; c++)
				assert_true(*c >= ' ' && *c < 0x7f && *c != '"' && *c != '\\');
		}
	}
}

static void every__is_told_apart(void **state)
{
	(void)state;
	for (int r = REASON_NONE; r < REASON_MAX; r++)
		for (int other = 0; other < r; other++)
			assert_string_not_equal(reason_text(r), reason_text(other));
}

static bool is_setting(const char *name, size_t n)
{
	for (size_t i = 0; i < option_count; i++)
		if (strlen(option_table[i].variable) == n &&
		    !strncmp(option_table[i].variable, name, n))
			return true;
	return false;
}

static void remedy__names_settings_that_exist(void **state)
{
	const char *at;

	(void)state;
	for (int r = REASON_NONE; r < REASON_MAX; r++) {
		for (at = strstr(reason_remedy(r), "PINSTAGE_"); at;
		     at = strstr(at + 1, "PINSTAGE_")) {
			size_t n = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

			if (!is_setting(at, n))
				fail_msg("there is no %.*s", (int)n, at);
		}
	}
}

/* The number may come from another process. */
static void any_number__has_some_text(void **state)
{
	static const int number[] = {
		REASON_MAX, REASON_MAX + 1, 1000, -1, INT32_MAX, INT32_MIN
	};

	(void)state;
	for (size_t i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
		assert_string_equal(reason_text((enum reason)number[i]), "unknown reason");
		assert_string_equal(reason_remedy((enum reason)number[i]), "");
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(every__has_text_and_remedy),
	cmocka_unit_test(every__fits_a_log_line),
	cmocka_unit_test(every__is_told_apart),
	cmocka_unit_test(remedy__names_settings_that_exist),
	cmocka_unit_test(any_number__has_some_text),
};

UNIT_MAIN(tests, NULL, NULL)
