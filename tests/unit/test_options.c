/* SPDX-License-Identifier: MIT */
/* links: shim/common/options.c */
#include "unit.h"

#include "common/options.h"
#include "common/util.h"

static const struct option_row *row_of(const char *variable)
{
	for (size_t i = 0; i < option_count; i++)
		if (!strcmp(option_table[i].variable, variable))
			return &option_table[i];
	fail_msg("no %s", variable);
	return NULL;
}

static void table__complete(void **state)
{
	(void)state;
	assert_true(option_count > 0);
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *r = &option_table[i];

		assert_int_equal(strncmp(r->variable, "PINSTAGE_", 9), 0);
		assert_true(*r->option && *r->arg && *r->help);
		assert_true(r->offset < sizeof(struct options));
		for (size_t k = 0; k < i; k++) {
			assert_string_not_equal(r->variable, option_table[k].variable);
			assert_string_not_equal(r->option, option_table[k].option);
			assert_int_not_equal(r->offset, option_table[k].offset);
		}
	}
}

static void default__as_in_the_manual(void **state)
{
	struct options o;

	(void)state;
	memset(&o, 0xff, sizeof(o));
	options_default(&o);
	assert_int_equal(o.mode, MODE_STAGE);
	assert_null(o.log);
	assert_int_equal(o.sync_interval_ms, 5000);
	assert_int_equal(o.max_bytes, 0);
	assert_null(o.only);
	assert_null(o.exclude);
	assert_null(o.fs);
}

static void set__only_its_own_member(void **state)
{
	static const char *const text[] = {
		[OPTION_MODE] = "off",	[OPTION_TEXT] = "t",  [OPTION_FILESYSTEMS] = "+nfs",
		[OPTION_SECONDS] = "7", [OPTION_BYTES] = "9", [OPTION_FLAG] = "yes"
	};
	static const size_t size[] = {
		[OPTION_MODE] = sizeof(enum mode),     [OPTION_TEXT] = sizeof(char *),
		[OPTION_FILESYSTEMS] = sizeof(char *), [OPTION_SECONDS] = sizeof(uint64_t),
		[OPTION_BYTES] = sizeof(uint64_t),     [OPTION_FLAG] = sizeof(bool)
	};
	const char *expected;

	(void)state;
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *r = &option_table[i];
		struct options before, o;

		options_default(&o);
		before = o;
		assert_int_equal(option_set(&o, r, text[r->type], &expected), 0);
		assert_memory_not_equal((char *)&o + r->offset, (char *)&before + r->offset,
					size[r->type]);
		memcpy((char *)&o + r->offset, (char *)&before + r->offset, size[r->type]);
		assert_memory_equal(&o, &before, sizeof(o));
	}
}

/* What is refused leaves the setting as it was, and says what is allowed. */
static void refused(const char *variable, const char *text)
{
	const struct option_row *r = row_of(variable);
	const char *expected = NULL;
	struct options before, o;

	memset(&before, 0x5a, sizeof(before));
	o = before;
	if (option_set(&o, r, text, &expected) != -EINVAL)
		fail_msg("%s takes '%s'", variable, text);
	assert_non_null(expected);
	if (memcmp(&o, &before, sizeof(o)) != 0)
		fail_msg("%s is changed by '%s'", variable, text);
}

static void mode__names(void **state)
{
	static const char *const name[] = { "stage", "log", "deny", "off" };
	static const char *const bad[] = { "",	   "Stage",  "stage ", " stage",
					   "stag", "stages", "0",      "on" };
	const char *expected;
	struct options o;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(name); i++) {
		assert_int_equal(option_set(&o, row_of("PINSTAGE_MODE"), name[i], &expected),
				 0);
		assert_int_equal(o.mode, i);
		assert_non_null(strstr(expected, name[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused("PINSTAGE_MODE", bad[i]);
}

static void text__keeps_the_pointer(void **state)
{
	static const char text[] = "/var/log/x";
	const char *expected;
	struct options o;

	(void)state;
	assert_int_equal(option_set(&o, row_of("PINSTAGE_LOG"), text, &expected), 0);
	assert_ptr_equal(o.log, text);
	refused("PINSTAGE_LOG", "");
	refused("PINSTAGE_LOG_ARGS", "");
	refused("PINSTAGE_LOG_ARGS", "true");
}

static void filesystems__known_names(void **state)
{
	static const char *const good[] = { "nfs",  "+nfs",	"+nfs,+fuse",	  "fuse,nfs4",
					    "ext4", "+fuseblk", "tmpfs,+bcachefs" };
	static const char *const bad[] = { "",	     "+",	   ",",	   "nfs,",
					   ",nfs",   "++nfs",	   "nfs ", "NFS",
					   "nfsx",   "+nosuchfs",  "+nf",  "+nfs;ceph",
					   "+nfs,+", "garbage %s", ":::",  "[" };
	const char *expected;
	struct options o;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (option_set(&o, row_of("PINSTAGE_FS"), good[i], &expected) != 0)
			fail_msg("'%s' is refused", good[i]);
		assert_ptr_equal(o.fs, good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused("PINSTAGE_FS", bad[i]);
	(void)option_set(&o, row_of("PINSTAGE_FS"), "", &expected);
	assert_non_null(strstr(expected, " nfs "));
}

static void seconds__understood(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} row[] = { { "1", 1000 },
		    { "5s", 5000 },
		    { "0.001", 1 },
		    { "0.01", 10 },
		    { "0.1", 100 },
		    { "0.5s", 500 },
		    { "1.25", 1250 },
		    { "12.345", 12345 },
		    { "007", 7000 },
		    { "86400", 86400000 },
		    { "86400s", 86400000 },
		    { "86399.999", 86399999 },
		    { "86400.000", 86400000 } };
	uint64_t ms;
	const char *expected;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		if (option_parse(OPTION_SECONDS, row[i].text, &ms, &expected))
			fail_msg("'%s' is refused", row[i].text);
		assert_int_equal(ms, row[i].ms);
	}
}

static void seconds__refused(void **state)
{
	static const char *const bad[] = { "",
					   "0",
					   "0.0",
					   "0.000",
					   "0s",
					   "-1",
					   "+1",
					   " 1",
					   "1 ",
					   "1.s.",
					   "1ss",
					   "1m",
					   ".5",
					   "1,5",
					   "1e3",
					   "0x10",
					   "abc",
					   "0.0001",
					   "1.2345",
					   "nan",
					   "inf",
					   "86401",
					   "86400.001",
					   "86400.999",
					   "1.5.",
					   "99999999",
					   "1.-5",
					   "\xc2\xb2",
					   "1\n",
					   "18446744073709551616",
					   "18446744073709551615",
					   "999999999999999999999999999999999999" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused("PINSTAGE_SYNC_INTERVAL", bad[i]);
}

static void bytes__understood(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} row[] = { { "0", 0 },
		    { "0T", 0 },
		    { "1", 1 },
		    { "4096", 4096 },
		    { "1K", 1UL << 10 },
		    { "1k", 1UL << 10 },
		    { "3M", 3UL << 20 },
		    { "3m", 3UL << 20 },
		    { "2G", 2UL << 30 },
		    { "5t", 5UL << 40 },
		    { "18446744073709551615", UINT64_MAX },
		    { "18014398509481983K", UINT64_MAX - 1023 },
		    { "16777215T", 16777215UL << 40 },
		    { "010", 10 } };
	uint64_t bytes;
	const char *expected;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		if (option_parse(OPTION_BYTES, row[i].text, &bytes, &expected))
			fail_msg("'%s' is refused", row[i].text);
		assert_int_equal(bytes, row[i].bytes);
	}
}

static void bytes__refused(void **state)
{
	static const char *const bad[] = { "",
					   "-1",
					   "+1",
					   " 1",
					   "1 ",
					   "1KB",
					   "1Ki",
					   "1B",
					   "K",
					   "1.5G",
					   "1P",
					   "0x10",
					   "1KK",
					   "1 K",
					   "abc",
					   "1\xff",
					   "18446744073709551616",
					   "18014398509481984K",
					   "16777216T",
					   "17592186044416M",
					   "99999999999999999999999" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused("PINSTAGE_MAX_BYTES", bad[i]);
}

static void globs__path_or_last_component(void **state)
{
	static const struct {
		const char *globs, *path;
		bool match;
	} row[] = {
		{ "fio", "/usr/bin/fio", true },
		{ "fio", "fio", true },
		{ "fio", "/usr/bin/fio2", false },
		{ "fio", "/fio/other", false },
		{ "fi*", "/usr/bin/fio", true },
		{ "f?o", "/usr/bin/fio", true },
		{ "[e-g]io", "/usr/bin/fio", true },
		{ "/usr/bin/fio", "/usr/bin/fio", true },
		{ "/usr/*", "/usr/bin/fio", true },
		{ "/usr/lib/*", "/usr/bin/fio", false },
		{ "*", "/usr/bin/fio", true },
		{ "a:b:fio", "/usr/bin/fio", true },
		{ "fio:a:b", "/usr/bin/fio", true },
		{ "a:fio:b", "/usr/bin/fio", true },
		{ "a:b", "/usr/bin/fio", false },
		{ "::fio::", "/usr/bin/fio", true },
		{ "", "/usr/bin/fio", false },
		{ ":", "/usr/bin/fio", false },
		{ ":", "", false },
		{ "*", "", true },
		{ "FIO", "/usr/bin/fio", false },
		{ "fio ", "/usr/bin/fio", false },
		{ "[", "/usr/bin/fio", false },
		{ "[", "/usr/bin/[", true },
		{ "a\\:b", "/bin/a:b", false }, /* a colon cannot be had */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		if (globs_match(row[i].globs, row[i].path) != row[i].match)
			fail_msg("'%s' and '%s'", row[i].globs, row[i].path);
}

/* A path can be long, and so can the glob that names it. */
static void globs__long(void **state)
{
	static const size_t len[] = { 100, 254, 255, 256, 257, 1000, 4095 };
	char path[4096], globs[5000];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(len); i++) {
		memset(path, 'x', len[i]);
		path[0] = '/';
		path[len[i]] = '\0';
		if (!globs_match(path, path))
			fail_msg("a glob of %zu bytes", len[i]);
		snprintf(globs, sizeof(globs), "%s:fio", path);
		assert_true(globs_match(globs, "/usr/bin/fio"));
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(table__complete),
	cmocka_unit_test(default__as_in_the_manual),
	cmocka_unit_test(set__only_its_own_member),
	cmocka_unit_test(mode__names),
	cmocka_unit_test(text__keeps_the_pointer),
	cmocka_unit_test(filesystems__known_names),
	cmocka_unit_test(seconds__understood),
	cmocka_unit_test(seconds__refused),
	cmocka_unit_test(bytes__understood),
	cmocka_unit_test(bytes__refused),
	cmocka_unit_test(globs__path_or_last_component),
	cmocka_unit_test(globs__long),
};

UNIT_MAIN(tests, NULL, NULL)
