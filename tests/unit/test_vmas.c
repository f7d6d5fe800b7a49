/* SPDX-License-Identifier: MIT */
/* links: shim/common/vmas.c shim/common/sys.c */
#include "unit.h"

#include <sys/syscall.h>

#include "common/util.h"
#include "common/vmas.h"

#define RW (VMA_READ | VMA_WRITE)

static void header__real_lines(void **state)
{
	static const struct {
		const char *line;
		struct vma v;
		const char *path;
	} row[] = {
		{ "7f2c1a400000-7f2c1a600000 rw-s 00000000 fe:01 1835021                    /data/file",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0, 0xfeUL << 32 | 1, 1835021,
		    RW | VMA_SHARED, 0 },
		  "/data/file" },
		{ "55d4f3a00000-55d4f3a21000 rw-p 00000000 00:00 0                          [heap]",
		  { 0x55d4f3a00000, 0x55d4f3a21000, 0, 0, 0, RW, 0 },
		  "[heap]" },
		{ "7f2c1a400000-7f2c1a401000 ---p 00000000 00:00 0 ",
		  { 0x7f2c1a400000, 0x7f2c1a401000, 0, 0, 0, 0, 0 },
		  "" },
		{ "08048000-08056000 r-xp 00000000 03:0c 64593      /usr/sbin/gpm",
		  { 0x8048000, 0x8056000, 0, 3UL << 32 | 12, 64593, VMA_READ | VMA_EXEC, 0 },
		  "/usr/sbin/gpm" },
		{ "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
		  { 0xffffffffff600000, 0xffffffffff601000, 0, 0, 0, VMA_EXEC, 0 },
		  "[vsyscall]" },
		{ "7f2c1a400000-7f2c1a600000 rw-s 7ffffffffffff000 fe:01 12 /data/far",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0x7ffffffffffff000, 0xfeUL << 32 | 1, 12,
		    RW | VMA_SHARED, 0 },
		  "/data/far" },
		{ "7f2c1a400000-7f2c1a600000 rw-s fffffffffffff000 ffff:fffff 18446744073709551615 /data/most",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0xfffffffffffff000,
		    0xffffUL << 32 | 0xfffff, UINT64_MAX, RW | VMA_SHARED, 0 },
		  "/data/most" },
		{ "7f2c1a400000-7f2c1a600000 rw-s 00001000 00:2f 99 /data/gone (deleted)",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0x1000, 0x2f, 99, RW | VMA_SHARED, 0 },
		  "/data/gone (deleted)" },
		/* The path stays as the kernel escapes it. */
		{ "7f2c1a400000-7f2c1a600000 rw-s 00000000 00:2f 99 /data/a\\012b\\134c d",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0, 0x2f, 99, RW | VMA_SHARED, 0 },
		  "/data/a\\012b\\134c d" },
		{ "7f2c1a400000-7f2c1a600000 rwxs 00000000 00:01 4 /memfd:two words (deleted)",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0, 1, 4, RW | VMA_EXEC | VMA_SHARED, 0 },
		  "/memfd:two words (deleted)" },
		{ "7f2c1a400000-7f2c1a600000 rw-s 00000000 00:01 4 /1-2 rw-s 0 0:0 0",
		  { 0x7f2c1a400000, 0x7f2c1a600000, 0, 1, 4, RW | VMA_SHARED, 0 },
		  "/1-2 rw-s 0 0:0 0" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		const char *path = NULL;
		struct vma v;

		memset(&v, 0xff, sizeof(v));
		if (!vma_parse_header(row[i].line, &v, &path))
			fail_msg("not taken: %s", row[i].line);
		assert_string_equal(path, row[i].path);
		assert_true(path >= row[i].line && path <= row[i].line + strlen(row[i].line));
		assert_int_equal(v.start, row[i].v.start);
		assert_int_equal(v.end, row[i].v.end);
		assert_int_equal(v.off, row[i].v.off);
		assert_int_equal(v.dev, row[i].v.dev);
		assert_int_equal(v.ino, row[i].v.ino);
		assert_int_equal(v.flags, row[i].v.flags);
		assert_int_equal(v.pkey, 0);
	}
}

static const char good[] = "7f2c1a400000-7f2c1a600000 rw-s 00001000 fe:01 1835021 /data/file";

static void header__cut_off_anywhere(void **state)
{
	const char *path;
	struct vma v;

	(void)state;
	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		char *cut = strndup(good, n); /* its end is guarded */
		const bool whole = n > strlen("7f2c1a400000-7f2c1a600000 rw-s 00001000 fe:01 ");

		assert_non_null(cut);
		if (vma_parse_header(cut, &v, &path) != whole)
			fail_msg("'%s'", cut);
		free(cut);
	}
}

static void header__garbage(void **state)
{
	static const char *const line[] = {
		"",
		" ",
		"-",
		"\n",
		"Size:               2048 kB",
		"Rss:                   0 kB",
		"VmFlags: rd wr sh mr mw me ms sd",
		"ProtectionKey:         0",
		"7f2c1a400000 7f2c1a600000 rw-s 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000rw-s 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw- 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s- 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 00001000 fe01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 0000100g fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 00001000 fe:0x 1835021 /data/file",
		"7F2C1A400000-7F2C1A600000 rw-s 00001000 fe:01 1835021 /data/file",
		" 7f2c1a400000-7f2c1a600000 rw-s 00001000 fe:01 1835021 /data/file",
		"0x7f2c1a400000-0x7f2c1a600000 rw-s 00001000 fe:01 1835021 /data/file",
		/* numbers without digits, or with too many */
		"- rw-s  :  /data/file",
		"-7f2c1a600000 rw-s 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000- rw-s 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s  fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 00001000 :01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 00001000 fe: 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 00001000 fe:01 /data/file",
		"17f2c1a40000000000-17f2c1a60000000000 rw-s 00001000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 10000000000000000 fe:01 1835021 /data/file",
		"7f2c1a400000-7f2c1a600000 rw-s 00001000 fe:01 18446744073709551616 /data/file",
	};
	const char *path;
	struct vma v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(line); i++)
		if (vma_parse_header(line[i], &v, &path))
			fail_msg("taken: '%s'", line[i]);
}

static void header__random_bytes(void **state)
{
	uint64_t *rng = random_start();
	const char *path;
	struct vma v;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		char *line = strdup(good);
		size_t len = strlen(line);

		for (uint64_t k = random_below(rng, 4) + 1; k > 0; k--)
			line[random_below(rng, len)] = (char)random_below(rng, 256);
		if (vma_parse_header(line, &v, &path))
			assert_true(path >= line && path <= line + strlen(line));
		vma_parse_detail(line, &v);
		free(line);
	}
}

static void detail__flags_and_key(void **state)
{
	static const struct {
		const char *line;
		unsigned flags, pkey;
	} row[] = {
		{ "VmFlags: rd wr sh mr mw me ms sd ", VMA_MAYWRITE, 0 },
		{ "VmFlags: rd wr sh mr mw me ms sd", VMA_MAYWRITE, 0 },
		{ "VmFlags: rd sh mr me ms lo dc sd ", VMA_LOCKED | VMA_DONTFORK, 0 },
		{ "VmFlags: um ", VMA_UFFD, 0 },
		{ "VmFlags: rd uw ui", VMA_UFFD, 0 },
		{ "VmFlags: rd wr mr me dd nh ", VMA_NOHUGE, 0 },
		{ "VmFlags: rd lo lf hg ", VMA_LOCKED | VMA_ONFAULT | VMA_HUGE, 0 },
		{ "VmFlags:", 0, 0 },
		{ "VmFlags: ", 0, 0 },
		{ "VmFlags: m", 0, 0 },
		{ "VmFlags: rd w", 0, 0 },
		{ "VmFlags: rd lo", VMA_LOCKED, 0 },
		{ "VmFlags:mw lo ", 0, 0 },
		{ "vmflags: lo ", 0, 0 },
		{ "Locked:                0 kB", 0, 0 },
		{ "ProtectionKey:         0", 0, 0 },
		{ "ProtectionKey:        15", 0, 15 },
		{ "ProtectionKey:", 0, 0 },
		{ "", 0, 0 },
		{ "lo", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		char *line = strdup(row[i].line);
		struct vma v = { .start = 1, .end = 2, .flags = VMA_READ };

		vma_parse_detail(line, &v);
		if (v.flags != (row[i].flags | VMA_READ) || v.pkey != row[i].pkey)
			fail_msg("'%s': flags %#x, key %u", row[i].line, v.flags, v.pkey);
		assert_int_equal(v.start, 1);
		free(line);
	}
}

/* What a scan says of the mapping at an address. */
struct seen {
	uintptr_t at;
	struct vma v;
	char path[4096];
	size_t found, calls;
	uintptr_t last;
	size_t stop_after;
};

static int look(const struct vma *v, const char *path, void *arg)
{
	struct seen *s = arg;

	s->calls++;
	if (v->start < s->last)
		return -EILSEQ;
	s->last = v->end;
	if (v->start <= s->at && s->at < v->end) {
		s->v = *v;
		snprintf(s->path, sizeof(s->path), "%s", path);
		s->found++;
	}
	return s->calls == s->stop_after ? 42 : 0;
}

static char buf[16 * 1024];

static void find(const char *from, void *at, struct seen *s)
{
	size_t count = 0;

	memset(s, 0, sizeof(*s));
	s->at = (uintptr_t)at;
	assert_int_equal(vmas_scan(from, buf, sizeof(buf), look, s, &count), 0);
	assert_int_equal(count, s->calls);
	assert_true(count > 5);
}

static void scan__shared_file(void **state)
{
	static const char *const from[] = { VMAS_MAPS, VMAS_SMAPS };
	const size_t page = page_size();
	int fd = unnamed_file();
	struct seen s;
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(8 * page)), 0);
	p = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(2 * page));
	assert_ptr_not_equal(p, MAP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		find(from[i], p + page, &s);
		assert_int_equal(s.found, 1);
		assert_int_equal(s.v.start, (uintptr_t)p);
		assert_int_equal(s.v.end, (uintptr_t)p + 3 * page);
		assert_int_equal(s.v.off, 2 * page);
		assert_int_equal(s.v.flags & 0xf, RW | VMA_SHARED);
		assert_true(s.v.ino != 0);
		assert_non_null(strstr(s.path, "/unit."));
		assert_non_null(strstr(s.path, " (deleted)"));
	}
	munmap(p, 3 * page);
	find(VMAS_MAPS, p + page, &s);
	assert_int_equal(s.found, 0);
	close(fd);
}

static void scan__protections(void **state)
{
	const size_t page = page_size();
	static const struct {
		int prot;
		unsigned flags;
	} row[] = { { PROT_NONE, 0 },
		    { PROT_READ, VMA_READ },
		    { PROT_WRITE | PROT_READ, RW },
		    { PROT_READ | PROT_EXEC, VMA_READ | VMA_EXEC } };
	int fd = unnamed_file();
	struct seen s;
	void *p;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)page), 0);
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		for (int shared = 0; shared < 2; shared++) {
			p = mmap(NULL, page, row[i].prot, shared ? MAP_SHARED : MAP_PRIVATE, fd,
				 0);
			if (p == MAP_FAILED) { /* mounted noexec */
				assert_true(row[i].prot & PROT_EXEC);
				continue;
			}
			find(VMAS_MAPS, p, &s);
			assert_int_equal(s.found, 1);
			assert_int_equal(s.v.flags, row[i].flags | (shared ? VMA_SHARED : 0));
			munmap(p, page);
		}
	}
	close(fd);
}

static void scan__details(void **state)
{
	const size_t page = page_size();
	struct seen s;
	char *p, path[64];
	int fd = unnamed_file(), ro;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)page), 0);
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	find(VMAS_SMAPS, p, &s);
	assert_int_equal(s.v.flags, RW | VMA_SHARED | VMA_MAYWRITE);
	assert_int_equal(madvise(p, page, MADV_DONTFORK), 0);
	find(VMAS_SMAPS, p, &s);
	assert_int_equal(s.v.flags, RW | VMA_SHARED | VMA_MAYWRITE | VMA_DONTFORK);
	if (syscall(SYS_mlock, p, page) == 0) {
		find(VMAS_SMAPS, p, &s);
		assert_int_equal(s.v.flags,
				 RW | VMA_SHARED | VMA_MAYWRITE | VMA_DONTFORK | VMA_LOCKED);
	}
	munmap(p, page);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(ro >= 0);
	p = mmap(NULL, page, PROT_READ, MAP_SHARED, ro, 0);
	find(VMAS_SMAPS, p, &s);
	assert_int_equal(s.v.flags & (VMA_SHARED | VMA_WRITE | VMA_MAYWRITE), VMA_SHARED);
	munmap(p, page);
	close(ro);
	close(fd);
}

/* More than one buffer's worth, of every length. */
static void scan__many_mappings(void **state)
{
	enum { N = 400 };
	const size_t page = page_size();
	int fd = unnamed_file();
	struct seen s;
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(2 * N * page)), 0);
	p = mmap(NULL, N * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < N; i++) /* no two of them can be joined */
		assert_ptr_not_equal(mmap(p + i * page, page, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_FIXED, fd, (off_t)(2 * i * page)),
				     MAP_FAILED);
	for (size_t i = 0; i < N; i += 57) {
		find(VMAS_MAPS, p + i * page, &s);
		assert_true(s.calls >= N);
		assert_int_equal(s.found, 1);
		assert_int_equal(s.v.end - s.v.start, page);
		assert_int_equal(s.v.off, 2 * i * page);
	}
	munmap(p, N * page);
	close(fd);
}

static void scan__callback_ends_it(void **state)
{
	struct seen s = { .stop_after = 3 };
	unsigned fds = open_fds();
	size_t count = 0;

	(void)state;
	assert_int_equal(vmas_scan(VMAS_MAPS, buf, sizeof(buf), look, &s, &count), 42);
	assert_int_equal(s.calls, 3);
	assert_int_equal(count, 3);
	s = (struct seen){ .stop_after = 1 };
	assert_int_equal(vmas_scan(VMAS_MAPS, buf, sizeof(buf), look, &s, NULL), 42);
	assert_int_equal(open_fds(), fds);
}

static void scan__no_such_file(void **state)
{
	struct seen s = { 0 };

	(void)state;
	assert_int_equal(vmas_scan("/proc/self/no-such-file", buf, sizeof(buf), look, &s, NULL),
			 -ENOENT);
	assert_int_equal(vmas_scan("/proc/self", buf, sizeof(buf), look, &s, NULL), -EISDIR);
	assert_int_equal(s.calls, 0);
}

/* A made-up file. */
static int scan_text(const char *text, size_t len, struct seen *s, size_t *count)
{
	const unsigned fds = open_fds();
	int fd = unnamed_file(), err;
	char path[64];

	assert_int_equal(write(fd, text, len), (ssize_t)len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	err = vmas_scan(path, buf, sizeof(buf), look, s, count);
	close(fd);
	assert_int_equal(open_fds(), fds);
	return err;
}

static void scan__last_line_cut_off(void **state)
{
	static const char text[] = "1000-2000 rw-s 00000000 00:01 4 /a\n"
				   "VmFlags: rd wr lo\n"
				   "2000-3000 rw-s 00000000 00:01 4 /b";
	struct seen s = { .at = 0x1000 };
	size_t count;

	(void)state;
	assert_int_equal(scan_text(text, strlen(text), &s, &count), 0);
	assert_int_equal(count, 1);
	assert_string_equal(s.path, "/a");
	assert_true(s.v.flags & VMA_LOCKED);
}

static void scan__nothing_in_it(void **state)
{
	static const char text[] = "VmFlags: rd wr lo\n\n\nabc\n";
	struct seen s = { 0 };
	size_t count = 9;

	(void)state;
	assert_int_equal(scan_text("", 0, &s, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(scan_text(text, strlen(text), &s, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(s.calls, 0);
}

static void scan__long_path(void **state)
{
	static char text[3 * sizeof(buf)];
	struct seen s = { .at = 0x1000 };
	size_t count, n;

	(void)state;
	n = (size_t)snprintf(text, sizeof(text), "1000-2000 rw-s 00000000 00:01 4 /");
	memset(text + n, 'x', 9000);
	strcpy(text + n + 9000, "\n2000-3000 rw-s 00000000 00:01 4 /b\n");
	assert_int_equal(scan_text(text, strlen(text), &s, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(strlen(s.path), 4095); /* no path is longer */
	assert_int_equal(strspn(s.path, "/x"), 4095);

	memset(text + n, 'x', 2 * sizeof(buf));
	s = (struct seen){ 0 };
	assert_int_equal(scan_text(text, 2 * sizeof(buf), &s, &count), -EPROTO);
	assert_int_equal(s.calls, 0);
}

static void scan__garbage(void **state)
{
	uint64_t *rng = random_start();
	static char text[40000];

	(void)state;
	for (int i = 0; i < 50; i++) {
		struct seen s = { 0 };
		size_t len = random_below(rng, sizeof(text)), count;

		for (size_t k = 0; k < len; k++)
			text[k] = (char)(random_below(rng, 40) ? random_below(rng, 256) : '\n');
		(void)scan_text(text, len, &s, &count);
		assert_int_equal(count, s.calls);
	}
}

#define JOINED 400 /* mappings: many more than one read() tells of */

struct joining {
	struct seen seen;
	char *room;
	size_t told; /* bytes of the room */
};

/* All that are in the room become one. */
static int join(const struct vma *v, const char *path, void *arg)
{
	struct joining *j = arg;
	const uintptr_t room = (uintptr_t)j->room, end = room + JOINED * page_size();

	if (v->start < end && v->end > room) {
		assert_int_equal(v->off, v->start - room);
		assert_int_equal(mprotect(j->room, end - room, PROT_READ), 0);
		j->told += v->end - v->start;
	}
	return look(v, path, &j->seen);
}

/* Nothing is told of twice. */
static void scan__mappings_become_one(void **state)
{
	const size_t page = page_size(), size = JOINED * page;
	struct joining j = { .told = 0 };
	int fd = unnamed_file();

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	j.room = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(j.room, MAP_FAILED);
	for (size_t p = 0; p < JOINED; p += 2)
		assert_int_equal(mprotect(j.room + p * page, page, PROT_READ), 0);
	assert_int_equal(vmas_scan(VMAS_MAPS, buf, sizeof(buf), join, &j, NULL), 0);
	assert_int_equal(j.told, size);
	munmap(j.room, size);
	close(fd);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(header__real_lines),	 cmocka_unit_test(header__cut_off_anywhere),
	cmocka_unit_test(header__garbage),	 cmocka_unit_test(header__random_bytes),
	cmocka_unit_test(detail__flags_and_key), cmocka_unit_test(scan__shared_file),
	cmocka_unit_test(scan__protections),	 cmocka_unit_test(scan__details),
	cmocka_unit_test(scan__many_mappings),	 cmocka_unit_test(scan__callback_ends_it),
	cmocka_unit_test(scan__no_such_file),	 cmocka_unit_test(scan__last_line_cut_off),
	cmocka_unit_test(scan__nothing_in_it),	 cmocka_unit_test(scan__long_path),
	cmocka_unit_test(scan__garbage),	 cmocka_unit_test(scan__mappings_become_one),
};

UNIT_MAIN(tests, NULL, NULL)
