/* SPDX-License-Identifier: MIT */
/* links: shim/common/vmas.c shim/common/vmas_between.c shim/common/sys.c */
#include "unit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "common/util.h"
#include "common/vmas.h"

#define MOST	      2048
#define PROCMAP_QUERY 0xc0686611

/* What is said of the mappings of a range: by maps as a whole, or by vmas_between(). */
struct list {
	uintptr_t start, end;
	size_t n;
	struct {
		struct vma v;
		char path[128];
	} at[MOST];
};

static struct list expected, got;
static char buf[16 * 1024];

static int add(const struct vma *v, const char *path, void *arg)
{
	struct list *l = arg;

	if (v->end <= l->start || v->start >= l->end)
		return 0;
	assert_true(l->n < MOST);
	l->at[l->n].v = *v;
	snprintf(l->at[l->n].path, sizeof(l->at[l->n].path), "%s", path);
	l->n++;
	return 0;
}

static int stop_at_third(const struct vma *v, const char *path, void *arg)
{
	unsigned *calls = arg;

	(void)v, (void)path;
	return ++*calls == 3 ? 42 : 0;
}

static void assert_same(size_t i, bool paths)
{
	const struct vma *a = &expected.at[i].v, *b = &got.at[i].v;

	assert_int_equal(a->start, b->start);
	assert_int_equal(a->end, b->end);
	assert_int_equal(a->off, b->off);
	assert_int_equal(a->dev, b->dev);
	assert_int_equal(a->ino, b->ino);
	assert_int_equal(a->flags, b->flags);
	if (paths)
		assert_string_equal(expected.at[i].path, got.at[i].path);
}

static void expect_between(uintptr_t start, uintptr_t end)
{
	expected.n = got.n = 0;
	expected.start = start;
	expected.end = end;
	got.start = 0; /* add() leaves out nothing */
	got.end = UINTPTR_MAX;
	assert_int_equal(vmas_scan(VMAS_MAPS, buf, sizeof(buf), add, &expected, NULL), 0);
}

static void compare(void *start, void *end, size_t n)
{
	expect_between((uintptr_t)start, (uintptr_t)end);
	assert_int_equal(
		vmas_between((uintptr_t)start, (uintptr_t)end, buf, sizeof(buf), add, &got), 0);
	assert_int_equal(expected.n, n);
	assert_int_equal(got.n, n);
	for (size_t i = 0; i < n; i++)
		assert_same(i, true);
}

/* Where programs have something: the kernel's own page above that is in maps alone. */
#define HIGHEST ((uintptr_t)INTPTR_MAX)

static void compare_outlines(void)
{
	size_t count = 0;

	expect_between(0, HIGHEST);
	got.end = HIGHEST;
	assert_int_equal(vmas_outline(buf, sizeof(buf), add, &got, &count), 0);
	assert_true(count >= got.n && count <= got.n + 1);
	assert_int_equal(got.n, expected.n);
	for (size_t i = 0; i < got.n; i++)
		assert_same(i, false);
}

static void compare_shared(size_t least)
{
	size_t n = 0;

	expect_between(0, HIGHEST);
	for (size_t i = 0; i < expected.n; i++)
		if (expected.at[i].v.flags & VMA_SHARED && expected.at[i].v.ino)
			expected.at[n++] = expected.at[i];
	assert_true(n >= least);
	assert_int_equal(vmas_shared(VMAS_MAPS, buf, sizeof(buf), add, &got), 0);
	assert_int_equal(got.n, n);
	for (size_t i = 0; i < n; i++)
		assert_same(i, true);
}

enum { SLOTS = 40 }; /* each second one is mapped */

static char *slots(int fd, size_t page)
{
	char *p = mmap(NULL, SLOTS * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	munmap(p, SLOTS * page);
	for (size_t i = 0; i < SLOTS; i += 2)
		assert_ptr_equal(mmap(p + i * page, page,
				      i % 4 ? PROT_READ : PROT_READ | PROT_WRITE,
				      (i % 8 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, fd,
				      (off_t)(2 * i * page)),
				 p + i * page);
	return p;
}

/* Shared, and never to be written: the kernel has two notions of what is shared. */
static void compare_read_only(size_t page)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *p = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	compare_shared(1);
	munmap(p, page);
	close(fd);
}

/* All cases once more where the kernel does not answer: there maps is read. */
static void ranges(void)
{
	const size_t page = page_size();
	const unsigned fds = open_fds();
	int fd = unnamed_file(), memfd = (int)syscall(SYS_memfd_create, "two words", 0);
	unsigned calls = 0;
	char *p, *q, *r;

	assert_int_equal(ftruncate(fd, (off_t)(4 * SLOTS * page)), 0);
	assert_int_equal(ftruncate(memfd, (off_t)(4 * page)), 0);
	p = slots(fd, page);
	compare(p, p + SLOTS * page, SLOTS / 2);
	compare(p, p + page, 1);
	compare(p, p + 1, 1);
	compare(p + page - 1, p + page, 1);
	compare(p + page, p + 2 * page, 0); /* a hole */
	compare(p + page, p + 2 * page + 1, 1);
	compare(p + 2 * page, p + 2 * page, 0); /* nothing */
	compare(p + 5 * page, p + 9 * page, 2);
	assert_int_equal(vmas_between((uintptr_t)p, (uintptr_t)(p + SLOTS * page), buf,
				      sizeof(buf), stop_at_third, &calls),
			 42);
	assert_int_equal(calls, 3);

	compare_outlines();
	compare_shared(SLOTS / 4);
	compare_read_only(page);
	calls = 0;
	assert_int_equal(vmas_shared(VMAS_MAPS, buf, sizeof(buf), stop_at_third, &calls), 42);
	assert_int_equal(calls, 3);

	q = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_ptr_not_equal(q, MAP_FAILED);
	compare(q + page, q + 2 * page, 1);
	assert_string_equal(got.at[0].path, "/memfd:two words (deleted)");
	r = mmap(NULL, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(r, MAP_FAILED);
	compare(r, r + page, 1);
	compare_shared(SLOTS / 4 + 2);
	munmap(r, page);
	r = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(r, MAP_FAILED);
	compare(r, r + 1, 1);
	munmap(r, page);
	r = (char *)getauxval(AT_SYSINFO_EHDR); /* no file, but a name */
	if (r)
		compare(r, r + 1, 1);
	munmap(q, 4 * page);
	munmap(p, SLOTS * page);
	close(fd);
	close(memfd);
	assert_int_equal(open_fds(), fds);
}

/* It has no mappings any more, whichever way that is asked. */
static void shared__of_a_process_that_has_ended(void **state)
{
	const pid_t child = fork();
	siginfo_t info;
	char maps[64];

	(void)state;
	if (child == 0)
		_exit(0);
	assert_true(child > 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	snprintf(maps, sizeof(maps), "/proc/%d/maps", (int)child);
	got.n = 0;
	assert_int_equal(vmas_shared(maps, buf, sizeof(buf), add, &got), 0);
	assert_int_equal(got.n, 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

/* Lets the kernel make one mapping of the first page and the next. */
static int merge_after_first(const struct vma *v, const char *path, void *arg)
{
	struct list *l = arg;
	int err = add(v, path, arg);

	if (l->n == 1)
		assert_int_equal(mprotect((void *)v->end, page_size(), PROT_READ | PROT_WRITE),
				 0);
	return err;
}

/* What has been told of does not come again. */
static void between__mappings_that_become_one(void **state)
{
	const size_t page = page_size();
	int fd = unnamed_file();
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(4 * page)), 0);
	p = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)page);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + page, page, PROT_READ), 0);
	assert_int_equal(mprotect(p + 2 * page, page, PROT_NONE), 0);
	got.n = 0;
	got.start = 0;
	got.end = UINTPTR_MAX;
	assert_int_equal(vmas_between((uintptr_t)p, (uintptr_t)p + 3 * page, buf, sizeof(buf),
				      merge_after_first, &got),
			 0);
	assert_int_equal(got.n, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(got.at[i].v.start, (uintptr_t)p + i * page);
		assert_int_equal(got.at[i].v.end, (uintptr_t)p + (i + 1) * page);
		assert_int_equal(got.at[i].v.off, (i + 1) * page);
	}
	munmap(p, 3 * page);
	close(fd);
}

/* What the kernel says to PROCMAP_QUERY: EINVAL if it knows it, for nothing is asked. */
static int query_errno(void)
{
	int fd = open(VMAS_MAPS, O_RDONLY | O_CLOEXEC), err;
	uint64_t nothing[13] = { 0 };

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, PROCMAP_QUERY, nothing), -1);
	err = errno;
	close(fd);
	return err;
}

static void between__what_maps_says(void **state)
{
	struct utsname u;
	int major, minor;

	(void)state;
	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%d.%d", &major, &minor), 2);
	assert_int_equal(query_errno(),
			 major > 6 || (major == 6 && minor >= 11) ? EINVAL : ENOTTY);
	ranges();
}

/* What a kernel before 6.11 says to it. */
static void forbid_query(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROCMAP_QUERY, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(filter), filter };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
	assert_int_equal(query_errno(), ENOTTY);
}

/* For the rest of this process: the last case. */
static void between__kernel_cannot_say(void **state)
{
	(void)state;
	forbid_query();
	ranges();
}

/* maps escapes a line's end, and the kernel's other answer does not. */
static void between__line_end_in_a_name(void **state)
{
	const size_t page = page_size();
	int fd = (int)syscall(SYS_memfd_create, "two\nlines", 0);
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(4 * page)), 0);
	p = mmap(NULL, 3 * page, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + page, page, PROT_NONE), 0);
	compare(p, p + 3 * page, 3);
	assert_string_equal(got.at[2].path, "/memfd:two\\012lines (deleted)");
	munmap(p, 3 * page);
	close(fd);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(between__what_maps_says),
	cmocka_unit_test(between__line_end_in_a_name),
	cmocka_unit_test(between__mappings_that_become_one),
	cmocka_unit_test(shared__of_a_process_that_has_ended),
	cmocka_unit_test(between__kernel_cannot_say),
};

UNIT_MAIN(tests, NULL, NULL)
