/* SPDX-License-Identifier: MIT */
/* links: shim/command/logline.c shim/command/report_frames.c shim/command/report_remedy.c */
/* Lines of the log taken apart, stacks, and what to do about an offender. */
#include "unit.h"

#include <errno.h>

#include "command/logline.h"
#include "command/report.h"

#define HEAD "pinstage v=1 event=pin time=2026-11-24T10:00:00.000001Z pid=7"

static char text[8192];
static struct logline l;

static enum logline_kind parse(const char *line)
{
	strcpy(text, line);
	return logline_parse(text, strlen(text), &l);
}

static void assert_value(const char *key, const char *value)
{
	assert_non_null(logline_get(&l, key));
	assert_string_equal(logline_get(&l, key), value);
}

static void line__good(void **state)
{
	(void)state;
	assert_int_equal(
		parse(HEAD
		      " call=ibv_reg_mr addr=0x7f00 file=\"/a b\\x22\\x0a\\x3d\\xff\" n=12"),
		LOGLINE_GOOD);
	assert_value("event", "pin");
	assert_value("call", "ibv_reg_mr");
	assert_value("file", "/a b\"\n=\xff");
	assert_int_equal(logline_number(&l, "addr"), 0x7f00);
	assert_int_equal(logline_number(&l, "n"), 12);
	assert_int_equal(logline_number(&l, "none"), 0);
	assert_null(logline_get(&l, "none"));
	assert_int_equal(parse(HEAD " file=\"\""), LOGLINE_GOOD);
	assert_value("file", "");
}

static void line__damaged(void **state)
{
	static const char *const bad[] = {
		"pinstage v=",
		"pinstage v=1",
		"pinstage v=1 event=pin",
		"pinstage v=1 time=2026-11-24T10:00:00Z event=pin",
		HEAD " file",
		HEAD " file=\"",
		HEAD " file=\"x",
		HEAD " file=\"x\"y",
		HEAD " file=\"x\"file=y",
		HEAD " file=\"\\\"",
		HEAD " file=\"\\x4\"",
		HEAD " file=\"\\x00\"",
		HEAD " file=\"\\x4G\"",
		HEAD " file=x\"y",
		HEAD " a=b=c",
		HEAD " =x",
		HEAD " A=x",
		HEAD " event=stage",
		HEAD " n=1 n=2",
		HEAD "\tn=1",
		HEAD " file=\"\x1b[31m\"",
		HEAD " file=\"\xc3\xa4\"",
		HEAD " callpinstage v=1 event=pin",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(bad[i]), LOGLINE_DAMAGED);
	memcpy(text, HEAD "\0 n=1", sizeof(HEAD "\0 n=1"));
	assert_int_equal(logline_parse(text, sizeof(HEAD "\0 n=1") - 1, &l), LOGLINE_DAMAGED);
}

static void line__too_many_keys(void **state)
{
	char many[4096] = HEAD;

	(void)state;
	for (int i = 0; i < LOGLINE_FIELDS; i++)
		snprintf(many + strlen(many), sizeof(many) - strlen(many), " k%c%c=1",
			 'a' + i / 26, 'a' + i % 26);
	assert_int_equal(parse(many), LOGLINE_DAMAGED);
}

static void line__others(void **state)
{
	(void)state;
	assert_int_equal(parse(""), LOGLINE_FOREIGN);
	assert_int_equal(parse("hello"), LOGLINE_FOREIGN);
	assert_int_equal(parse(" " HEAD), LOGLINE_FOREIGN);
	assert_int_equal(parse("pinstage: version 1"), LOGLINE_FOREIGN);
	assert_int_equal(parse("pinstage v=2 event=pin time=2026-11-24T10:00:00Z"),
			 LOGLINE_NEWER);
	assert_int_equal(parse("pinstage v=12 event=pin time=2026-11-24T10:00:00Z"),
			 LOGLINE_NEWER);
}

/* A line of 4096 bytes ends anywhere; what is not whole is not believed. */
static void line__cut(void **state)
{
	(void)state;
	assert_int_equal(parse(HEAD " n=1 offset=12 cut=1"), LOGLINE_GOOD);
	assert_value("n", "1");
	assert_null(logline_get(&l, "offset"));
	assert_int_equal(parse(HEAD " n=1 file=\"/da\" cut=1"), LOGLINE_GOOD);
	assert_null(logline_get(&l, "file"));
	assert_int_equal(parse(HEAD " n=1 stack=\"0+0x1 1+0x2\" cut=1"), LOGLINE_GOOD);
	assert_value("stack", "0+0x1");
	assert_int_equal(parse(HEAD " n=1 stack=\"0+0x1\" cut=1"), LOGLINE_GOOD);
	assert_value("stack", "");
	assert_int_equal(parse(HEAD " modules=\"0:aa:/x 1:bb:/y\\\" cut=1"), LOGLINE_GOOD);
	assert_value("modules", "0:aa:/x");
	assert_int_equal(parse(HEAD " modules=\"0:aa:/x 1:bb:/y\\x\" cut=1"), LOGLINE_GOOD);
	assert_value("modules", "0:aa:/x");
	assert_int_equal(parse(HEAD " modules=\"0:aa:/x 1:bb:/y\\x4\" cut=1"), LOGLINE_GOOD);
	assert_value("modules", "0:aa:/x");
	assert_int_equal(parse(HEAD " modules=\"0:aa:/x 1:bb:/y\\x40\" cut=1"), LOGLINE_GOOD);
	assert_value("modules", "0:aa:/x");
}

static void next__behind_a_torn_line(void **state)
{
	char torn[] = "pinstage v=1 event=pin tipinstage v=1 event=stage";

	(void)state;
	assert_string_equal(logline_next(torn), "pinstage v=1 event=stage");
	assert_null(logline_next(logline_next(torn)));
	assert_null(logline_next(strcpy(text, "")));
}

static void time__forms(void **state)
{
	static const char *const bad[] = { "",
					   "now",
					   "2026",
					   "2026-13-01",
					   "2026-11-24T",
					   "2026-11-24T25:00",
					   "2026-11-24T10:00:00x",
					   "1960-01-01" };
	uint64_t ns;

	(void)state;
	assert_true(logline_time("1970-01-01T00:00:01.000002Z", &ns));
	assert_int_equal(ns, 1000002000);
	assert_true(logline_time("1970-01-02", &ns));
	assert_int_equal(ns, 86400ull * 1000000000);
	assert_true(logline_time("1970-01-01 01:00", &ns));
	assert_int_equal(ns, 3600ull * 1000000000);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(logline_time(bad[i], &ns));
}

static void frames__of_a_stack(void **state)
{
	struct frame *f;
	size_t n;

	(void)state;
	f = frames_of("0+0x12ae 11+0x5 ?+0x7f00 3+0x1", "0:aabb:/bin/a\\x20\\x5cb 11::/lib/c",
		      &n);
	assert_int_equal(n, 4);
	assert_string_equal(f[0].module, "/bin/a \\b");
	assert_string_equal(f[0].id, "aabb");
	assert_int_equal(f[0].address, 0x12ae);
	assert_string_equal(f[1].module, "/lib/c");
	assert_string_equal(f[1].id, "");
	assert_string_equal(f[2].module, "");
	assert_int_equal(f[2].address, 0x7f00);
	assert_string_equal(f[3].module, ""); /* not among them: the line was cut */
	frames_free(f, n);
}

static void frames__of_anything(void **state)
{
	static const struct {
		const char *stack;
		size_t n;
	} odd[] = {
		{ "", 0 },   { " ", 0 },      { "0", 0 },      { "+0x1", 0 }, { "x", 0 },
		{ "0+", 1 }, { "0+0x1x", 1 }, { "0+0x1 ", 1 }, { "?", 0 },    { "??+1", 0 }
	};
	static const char *const modules[] = { "",     "0",	   "0:",    "0:a",
					       ":a:b", "0:a:\\x2", " 0:a:b" };
	struct frame *f;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		for (size_t m = 0; m < sizeof(modules) / sizeof(modules[0]); m++) {
			f = frames_of(odd[i].stack, modules[m], &n);
			assert_int_equal(n, odd[i].n);
			frames_free(f, n);
		}
	}
}

static char call_of_row[32], fs_of_row[32];
static struct offence offence = { .call = call_of_row, .fs = fs_of_row };
static const struct offence *all[] = { &offence };

/* The names of what is advised, in order. */
static const char *advised(const char *call, const char *fs, enum outcome outcome,
			   unsigned access)
{
	struct row row = { .one = &offence, .access = access, .all = all, .n = 1 };
	struct remedy r[REMEDIES_MOST];
	size_t n;

	strcpy(call_of_row, call);
	strcpy(fs_of_row, fs);
	offence.outcome = outcome;
	row.outcome[outcome] = 1;
	n = report_remedies(&row, r);
	text[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		assert_true(strlen(r[i].text) > 20);
		assert_int_equal(r[i].text[strlen(r[i].text) - 1], '.');
		strcat(strcat(text, i ? " " : ""), r[i].name);
	}
	return text;
}

static void remedy__each_file_system_and_cause(void **state)
{
	static char none[1], reason[] = "pages of the range are in use",
			     remedy[] = "unmap it elsewhere";

	(void)state;
	offence.reason = offence.remedy = none;
	assert_string_equal(advised("io_uring_register_buffers", "ext4", OUTCOME_LOGGED, 0),
			    "stage unregistered pwrite memory private");
	assert_string_equal(advised("io_uring_register", "overlay", OUTCOME_STAGED, 0),
			    "unregistered pwrite memory private");
	assert_string_equal(advised("ibv_reg_mr", "xfs", OUTCOME_DENIED, 1),
			    "stage access odp pwrite memory private");
	assert_string_equal(advised("ibv_reg_mr", "xfs", OUTCOME_DENIED, 4),
			    "stage odp pwrite memory private");
	assert_string_equal(advised("ibv_reg_mr_iova", "fuse.sshfs", OUTCOME_LOGGED, 0),
			    "file-system odp pwrite memory private");
	assert_string_equal(advised("io_uring_register", "lustre", OUTCOME_LOGGED, 0),
			    "file-system unregistered pwrite memory private");
	assert_string_equal(advised("io_uring_register", "tmpfs", OUTCOME_REFUSED, 0),
			    "unregistered pwrite private");
	offence.reason = reason;
	offence.remedy = remedy;
	assert_string_equal(advised("io_uring_register", "ext4", OUTCOME_REFUSED, 0),
			    "refused unregistered pwrite memory private");
	assert_string_equal(advised("io_uring_register", "nfs4", OUTCOME_REFUSED, 0),
			    "refused file-system unregistered pwrite memory private");
	assert_string_equal(advised("io_uring_register", "ext4", OUTCOME_LOGGED, 0),
			    "stage unregistered pwrite memory private");
}

/* Of a file system that is not said, as in a brief line, or was not found, nothing is said. */
static void remedy__unknown_file_system(void **state)
{
	static char none[1];

	(void)state;
	offence.reason = offence.remedy = none;
	assert_string_equal(advised("io_uring_register", "", OUTCOME_REFUSED, 0),
			    "unregistered pwrite memory private");
	assert_string_equal(advised("io_uring_register", "unknown", OUTCOME_LOGGED, 0),
			    "unregistered pwrite memory private");
}

/* DAX, and what io_uring says before Linux 6.5: read-only and private mappings are refused,
 * too. */
static void remedy__whatever_the_access(void **state)
{
	static char none[1];

	(void)state;
	offence.reason = offence.remedy = none;
	offence.error = EFAULT;
	assert_string_equal(advised("ibv_reg_mr", "ext4", OUTCOME_LOGGED, 1),
			    "stage access odp pwrite memory private");
	offence.error = EOPNOTSUPP;
	assert_string_equal(advised("ibv_reg_mr", "ext4", OUTCOME_LOGGED, 1),
			    "stage odp pwrite memory");
	assert_string_equal(advised("io_uring_register", "xfs", OUTCOME_LOGGED, 0),
			    "stage unregistered pwrite memory");
	offence.error = 0;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(line__good),
	cmocka_unit_test(line__damaged),
	cmocka_unit_test(line__too_many_keys),
	cmocka_unit_test(line__others),
	cmocka_unit_test(line__cut),
	cmocka_unit_test(next__behind_a_torn_line),
	cmocka_unit_test(time__forms),
	cmocka_unit_test(frames__of_a_stack),
	cmocka_unit_test(frames__of_anything),
	cmocka_unit_test(remedy__each_file_system_and_cause),
	cmocka_unit_test(remedy__unknown_file_system),
	cmocka_unit_test(remedy__whatever_the_access),
};

UNIT_MAIN(tests, NULL, NULL)
