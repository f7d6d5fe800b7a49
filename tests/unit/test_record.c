/* SPDX-License-Identifier: MIT */
/* links: shim/lib/mounts.c shim/lib/sites.c shim/lib/trace.c shim/lib/who.c */
/* links: shim/lib/log.c shim/lib/ownfd.c shim/lib/real.c shim/lib/modules.c */
/* links: shim/lib/scratch.c shim/lib/copy_in.c shim/common/vmas.c shim/lib/shadow.c */
/* What records are made of. */
#include "unit.h"

#include <pthread.h>
#include <sys/auxv.h>
#include <sys/utsname.h>

#include "lib/log.h"
#include "lib/modules.h"
#include "lib/mounts.h"
#include "lib/sites.h"
#include "lib/who.h"

static struct mount parsed(const char *text)
{
	struct mount m = { "", "" };
	char line[512];

	strcpy(line, text);
	if (!mount_parse(line, &m))
		strcpy(m.point, "?");
	return m;
}

static void mount__lines(void **state)
{
	struct mount m;

	(void)state;
	m = parsed(
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue");
	assert_string_equal(m.point, "/mnt2");
	assert_string_equal(m.fs, "ext3");
	m = parsed("1 0 254:0 / / rw - btrfs /dev/vda rw");
	assert_string_equal(m.point, "/");
	assert_string_equal(m.fs, "btrfs");
	m = parsed("1 0 0:5 / /a\\040b\\134c rw shared:1 master:2 unbindable - fuse.x y z");
	assert_string_equal(m.point, "/a b\\c");
	assert_string_equal(m.fs, "fuse.x");
}

static void mount__bad_lines(void **state)
{
	static const char *const bad[] = { "",
					   "1",
					   "1 0 0:5 / /",
					   "1 0 0:5 / /x rw",
					   "1 0 0:5 / /x rw shared:1",
					   "1 0 0:5 / /x rw -",
					   "1 0 0:5 / /x rw - " };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_string_equal(parsed(bad[i]).point, "?");
}

static void mount__covers_whole_names(void **state)
{
	const struct mount root = { "/", "x" }, data = { "/data", "x" }, none = { "", "" };

	(void)state;
	assert_true(mount_covers(&root, "/data/x"));
	assert_true(mount_covers(&data, "/data/x"));
	assert_true(mount_covers(&data, "/data"));
	assert_false(mount_covers(&data, "/database"));
	assert_false(mount_covers(&data, "/dat"));
	assert_false(mount_covers(&root, "memfd:x"));
	assert_false(mount_covers(&none, "/x"));
}

/* Lines reach over the ends of the buffer, whatever its size. */
static void mount__of_proc(void **state)
{
	struct mount small, large;
	char buf[16384];

	(void)state;
	mount_of("/proc/self/maps", &large, buf, sizeof(buf));
	assert_string_equal(large.point, "/proc");
	assert_string_equal(large.fs, "proc");
	mount_of("/proc/self/maps", &small, buf, 1024);
	assert_string_equal(small.point, "/proc");
}

static void command__first_word_only(void **state)
{
	static const char line[] = "/bin/prog\0--password\0a b\"c\0";
	char got[64];

	(void)state;
	who_command(got, sizeof(got), line, sizeof(line) - 1, false);
	assert_string_equal(got, "/bin/prog");
	who_command(got, sizeof(got), line, sizeof(line) - 1, true);
	assert_string_equal(got, "/bin/prog --password a b\\x22c");
	who_command(got, sizeof(got), "", 0, true);
	assert_string_equal(got, "");
	for (size_t size = 1; size < sizeof(got); size++) {
		memset(got, 'x', sizeof(got));
		who_command(got, size, line, sizeof(line) - 1, true);
		assert_true(strlen(got) < size);
	}
}

static void who__says_it_all(void **state)
{
	char got[4096], want[512];
	struct utsname u;

	(void)state;
	who_start(false);
	who_print(got, sizeof(got));
	uname(&u);
	snprintf(want, sizeof(want), "tid=%d thread=\"", (int)getpid());
	assert_int_equal(strncmp(got, want, strlen(want)), 0);
	snprintf(want, sizeof(want), " host=\"%s\" boot=", u.nodename);
	assert_non_null(strstr(got, want));
	snprintf(want, sizeof(want), " uid=%d exe=\"/", (int)getuid());
	assert_non_null(strstr(got, want));
}

static void sites__first_of_each(void **state)
{
	const struct site *s;
	unsigned i = 0;

	(void)state;
	sites_forget();
	assert_int_equal(sites_note(7, 100, 5, SITES_MOST), SITE_FIRST);
	assert_int_equal(sites_note(7, 50, 6, SITES_MOST), SITE_AGAIN);
	/* At the same place. */
	assert_int_equal(sites_note(7 + SITES_MOST, 1, 7, SITES_MOST), SITE_FIRST);
	assert_int_equal(sites_note(0, 1, 8, SITES_MOST), SITE_FIRST);
	s = sites_next(&i);
	assert_int_equal(s->key, 1); /* 0 has a meaning of its own */
	s = sites_next(&i);
	assert_int_equal(s->key, 7);
	assert_int_equal(s->n, 2);
	assert_int_equal(s->bytes, 150);
	assert_int_equal(s->first, 5);
	assert_int_equal(s->last, 6);
	s = sites_next(&i);
	assert_int_equal(s->key, 7 + SITES_MOST);
	assert_null(sites_next(&i));
}

static void sites__too_many(void **state)
{
	unsigned i = 0, n = 0;

	(void)state;
	sites_forget();
	for (unsigned k = 1; k <= SITES_MOST; k++)
		assert_int_equal(sites_note(k * 2654435761u, 1, 1, SITES_MOST), SITE_FIRST);
	assert_int_equal(sites_note(3, 1, 1, SITES_MOST), SITE_LEFT_OUT);
	assert_int_equal(sites_note(3, 1, 1, SITES_MOST), SITE_LEFT_OUT);
	assert_int_equal(sites_note(2654435761u, 1, 1, SITES_MOST), SITE_AGAIN);
	assert_int_equal(sites_left_out(), 2);
	while (sites_next(&i))
		n++;
	assert_int_equal(n, SITES_MOST);
	sites_forget();
	assert_int_equal(sites_left_out(), 0);
	i = 0;
	assert_null(sites_next(&i));
}

/* However many ranges are staged, there is room for what is refused then. */
static void sites__stages_leave_room(void **state)
{
	(void)state;
	sites_forget();
	for (unsigned k = 1; k <= 2 * SITES_MOST; k++)
		assert_int_equal(sites_note(k * 2654435761u, 1, 1, SITES_STAGES),
				 k <= SITES_STAGES ? SITE_FIRST : SITE_LEFT_OUT);
	assert_int_equal(sites_note(2654435761u, 1, 1, SITES_STAGES), SITE_AGAIN);
	assert_int_equal(sites_note(3, 1, 1, SITES_MOST), SITE_FIRST);
	assert_int_equal(sites_note(3, 1, 1, SITES_MOST), SITE_AGAIN);
}

static void *note_all(void *first)
{
	for (unsigned k = 1; k <= 200; k++)
		*(unsigned *)first += sites_note(k, 1, 1, SITES_MOST) == SITE_FIRST;
	return NULL;
}

static void sites__threads(void **state)
{
	unsigned first[4] = { 0 }, i = 0;
	const struct site *s;
	pthread_t t[4];

	(void)state;
	sites_forget();
	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, note_all, &first[i]), 0);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(first[0] + first[1] + first[2] + first[3], 200);
	for (i = 0; (s = sites_next(&i));)
		assert_int_equal(s->n, 4);
}

static void trace__not_before_it_is_prepared(void **state)
{
	struct trace t = { .n = 5 };

	(void)state;
	trace_take(&t);
	assert_int_equal(t.n, 0);
	assert_int_equal(trace_keep(&t), 0);
	assert_int_equal(trace_kept(0)->n, 0);
}

static __attribute__((noinline)) void take(struct trace *t)
{
	trace_take(t);
	__asm__ volatile("" ::: "memory");
}

static void trace__kept_once(void **state)
{
	struct trace t[2];
	unsigned number[2];

	(void)state;
	trace_prepare();
	errno = ENOTTY;
	take(&t[0]);
	t[1] = t[0];
	assert_int_equal(errno, ENOTTY);
	assert_true(t[0].n > 2);
	for (int i = 0; i < 2; i++)
		number[i] = trace_keep(&t[i]);
	assert_true(number[0] > 0);
	assert_int_equal(number[0], number[1]);
	assert_int_equal(trace_kept(number[0])->n, t[0].n);
	t[0].frame[0]++;
	assert_int_equal(trace_keep(&t[0]), number[0] + 1);
	for (unsigned i = 0; i < 1000; i++) {
		t[0].frame[1] = i;
		number[1] = trace_keep(&t[0]);
	}
	assert_int_equal(number[1], 0); /* too many */
}

static void modules__of_this_program(void **state)
{
	static struct modules ms;
	struct trace t = { .n = 2 };
	const struct trace *both[] = { &t };
	struct scratch scratch;
	char text[8192];

	(void)state;
	t.frame[0] = (uintptr_t)getauxval; /* libc's */
	t.frame[1] = 16;		   /* nobody's */
	assert_int_equal(scratch_open(&scratch), 0);
	assert_int_equal(modules_find(&ms, both, 1, &scratch), 0);
	assert_int_equal(ms.n, 1);
	assert_true(ms.m[0].elf);
	assert_true(ms.m[0].id_len > 0);
	modules_print(text, sizeof(text), &ms);
	assert_int_equal(strncmp(text, "0:", 2), 0);
	assert_non_null(strstr(text, "libc"));
	modules_print_trace(text, sizeof(text), &ms, &t);
	assert_int_equal(strncmp(text, "0+0x", 4), 0);
	assert_string_equal(strchr(text, ' '), " ?+0x10");
	for (size_t size = 1; size < 40; size++) { /* whole frames only */
		memset(text, 'x', sizeof(text));
		modules_print_trace(text, size, &ms, &t);
		assert_true(strlen(text) < size);
		assert_true(!*text || strchr(text, '+'));
		modules_print(text, size, &ms);
		assert_true(!*text || strlen(text) < size);
	}
	scratch_close(&scratch);
}

static void modules__build_id_in_notes(void **state)
{
	static const unsigned char notes[] = { 4, 0, 0,	  0,   4,   0, 0,    0,	   9,	 0,
					       0, 0, 'G', 'N', 'U', 0, 1,    2,	   3,	 4,
					       4, 0, 0,	  0,   3,   0, 0,    0,	   3,	 0,
					       0, 0, 'G', 'N', 'U', 0, 0xaa, 0xbb, 0xcc, 0 };
	unsigned char id[BUILD_ID_BYTES];
	size_t len;

	(void)state;
	modules_note_id(notes, sizeof(notes), id, &len);
	assert_int_equal(len, 3);
	assert_int_equal(id[2], 0xcc);
	for (size_t n = 0; n < sizeof(notes); n++) {
		modules_note_id(notes, n, id, &len);
		assert_int_equal(len, 0);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(mount__lines),
	cmocka_unit_test(mount__bad_lines),
	cmocka_unit_test(mount__covers_whole_names),
	cmocka_unit_test(mount__of_proc),
	cmocka_unit_test(command__first_word_only),
	cmocka_unit_test(who__says_it_all),
	cmocka_unit_test(sites__first_of_each),
	cmocka_unit_test(sites__too_many),
	cmocka_unit_test(sites__stages_leave_room),
	cmocka_unit_test(sites__threads),
	cmocka_unit_test(trace__not_before_it_is_prepared),
	cmocka_unit_test(trace__kept_once),
	cmocka_unit_test(modules__of_this_program),
	cmocka_unit_test(modules__build_id_in_notes),
};

UNIT_MAIN(tests, NULL, NULL)
