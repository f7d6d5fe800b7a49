// SPDX-License-Identifier: MIT
/* sanitizers: no. Their run-time maps, too, and makes mlock() do nothing. */
/* Twins (see twin.h): calls that change how memory is kept, and calls that ask. */
#include <sys/uio.h>

#include "twin.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define MADV_GUARD_INSTALL_ 102
#define MADV_GUARD_REMOVE_  103

#define AT(t, page) ((t)->map + (page)*PAGE)

static const int advices[] = {
	MADV_NORMAL,
	MADV_RANDOM,
	MADV_SEQUENTIAL,
	MADV_WILLNEED,
	MADV_DONTNEED,
	MADV_FREE,
	MADV_DONTFORK,
	MADV_DOFORK,
	MADV_WIPEONFORK,
	MADV_KEEPONFORK,
	MADV_MERGEABLE,
	MADV_UNMERGEABLE,
	MADV_HUGEPAGE,
	MADV_NOHUGEPAGE,
	MADV_DONTDUMP,
	MADV_DODUMP,
	MADV_COLD,
	MADV_PAGEOUT,
	MADV_POPULATE_READ,
	MADV_POPULATE_WRITE,
	MADV_COLLAPSE,
	MADV_DONTNEED_LOCKED,
	MADV_GUARD_INSTALL_,
	MADV_GUARD_REMOVE_,
	999,
};

static void advise_each(struct twin *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		const int a = advices[i];

		note(t, "advice %d\n", a);
		store(t, i % 2 ? NEW : NEWER);
		DO(t, madvise(AT(t, 0), PAGES * PAGE, a));
		look(t);
		DO(t, madvise(AT(t, 3), 6 * PAGE, a));
		DO(t, madvise(AT(t, 0) + 1, PAGE, a));
		DO(t, madvise(AT(t, 0), 0, a));
		DO(t, madvise(AT(t, 0), SIZE_MAX - PAGE, a));
	}
	look(t);
	look_file(t);
}

static void madvise__each_as_native(void **state)
{
	(void)state;
	compare(advise_each);
}

static void advise_with_hole(struct twin *t)
{
	store(t, NEW);
	DO(t, munmap(AT(t, 7), PAGE));
	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		note(t, "advice %d\n", advices[i]);
		DO(t, madvise(AT(t, 0), PAGES * PAGE, advices[i]));
	}
	look(t);
}

static void madvise__over_hole_as_native(void **state)
{
	(void)state;
	compare(advise_with_hole);
}

static void remove_pages(struct twin *t)
{
	store(t, NEW);
	DO(t, madvise(AT(t, 2), 3 * PAGE, MADV_REMOVE));
	look(t);
	look_file(t);
	DO(t, madvise(AT(t, 6) + 1, PAGE, MADV_REMOVE));
	DO(t, madvise(AT(t, 6), 0, MADV_REMOVE));
	look(t);
	store_at(t, AT(t, 3), 1, NEWER);
	look(t);
	look_file(t);
	DO(t, madvise(AT(t, 6), 3 * PAGE - 100, MADV_REMOVE)); /* rounds up */
	DO(t, munmap(AT(t, 11), PAGE));
	DO(t, madvise(AT(t, 10), 3 * PAGE, MADV_REMOVE)); /* over the hole */
	look(t);
	DO(t, mprotect(AT(t, 0), PAGE, PROT_READ));
	DO(t, madvise(AT(t, 0), 2 * PAGE, MADV_REMOVE));
	look(t);
	look_file(t);
	DO(t, lseek(t->fd, (off_t)(6 * PAGE), SEEK_DATA));
	DO(t, madvise(AT(t, 0), PAGES * PAGE, MADV_REMOVE));
	look(t);
	look_file(t);
}

static void madvise__remove_as_native(void **state)
{
	(void)state;
	compare(remove_pages);
}

static void advise_by_posix(struct twin *t)
{
	static const int posix[] = { POSIX_MADV_NORMAL,	  POSIX_MADV_SEQUENTIAL,
				     POSIX_MADV_RANDOM,	  POSIX_MADV_WILLNEED,
				     POSIX_MADV_DONTNEED, 77 };

	store(t, NEW);
	for (size_t i = 0; i < ARRAY_SIZE(posix); i++) {
		DO(t, posix_madvise(AT(t, 0), PAGES * PAGE, posix[i]));
		DO(t, posix_madvise(AT(t, 0) + 1, PAGE, posix[i]));
	}
	look(t);
}

static void posix_madvise__as_native(void **state)
{
	(void)state;
	compare(advise_by_posix);
}

static void advise_by_process(struct twin *t)
{
	static const int process[] = { MADV_COLD,   MADV_PAGEOUT,  MADV_WILLNEED, MADV_COLLAPSE,
				       MADV_REMOVE, MADV_DONTNEED, MADV_FREE,	  999 };
	const struct iovec iov[] = { { AT(t, 2), 2 * PAGE }, { AT(t, 8), PAGE } };
	const struct iovec bad[] = { { AT(t, 5), PAGE }, { AT(t, 8) + 1, PAGE } };
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

	assert_true(self >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(process); i++) {
		note(t, "advice %d\n", process[i]);
		store(t, NEW);
		DO(t, process_madvise(self, iov, 2, process[i], 0));
		DO(t, process_madvise(self, bad, 2, process[i], 0));
		DO(t, process_madvise(self, iov, 2, process[i], 1));
		look(t);
		look_file(t);
	}
	DO(t, process_madvise(-1, iov, 2, MADV_COLD, 0));
	close(self);
}

static void process_madvise__as_native(void **state)
{
	(void)state;
	compare(advise_by_process);
}

/* The flags of the mappings that concern locking, page by page. */
static void look_locks(struct twin *t)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long from = 0, to = 0, first, last;
	const uintptr_t map = (uintptr_t)t->map;
	char line[512];

	assert_non_null(smaps);
	note(t, "locked:");
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &first, &last) == 2) {
			from = first;
			to = last;
		}
		if (strncmp(line, "VmFlags:", 8) != 0)
			continue;
		for (uintptr_t at = from; at < to; at += PAGE)
			if (at >= map && at < map + PAGES * PAGE)
				note(t, " %s%s", strstr(line, " lo") ? "lock" : "-",
				     strstr(line, " lf") ? "onfault" : "");
	}
	note(t, "\n");
	fclose(smaps);
}

static void lock(struct twin *t)
{
	store(t, NEW);
	DO(t, mlock(AT(t, 3), 6 * PAGE));
	look_locks(t);
	DO(t, msync(AT(t, 0), PAGES * PAGE, MS_INVALIDATE));
	DO(t, msync(AT(t, 0), PAGES * PAGE, MS_SYNC | MS_INVALIDATE));
	DO(t, msync(AT(t, 0), PAGES * PAGE, MS_SYNC));
	DO(t, madvise(AT(t, 0), PAGES * PAGE, MADV_DONTNEED));
	DO(t, madvise(AT(t, 4), PAGE, MADV_REMOVE));
	DO(t, madvise(AT(t, 4), PAGE, MADV_COLD));
	DO(t, munlock(AT(t, 5), PAGE));
	look_locks(t);
	DO(t, mlock2(AT(t, 8), 4 * PAGE, MLOCK_ONFAULT));
	DO(t, mlock2(AT(t, 8), 4 * PAGE, 64));
	look_locks(t);
	DO(t, mlock(AT(t, 0) + 1, PAGE)); /* rounds down */
	DO(t, mlock(AT(t, 0), SIZE_MAX - PAGE));
	DO(t, munmap(AT(t, 14), PAGE));
	DO(t, mlock(AT(t, 12), 4 * PAGE));
	look_locks(t);
	DO(t, munlock(AT(t, 12), 4 * PAGE));
	look_locks(t);
	DO(t, mlockall(MCL_CURRENT));
	look_locks(t);
	DO(t, munlockall());
	look_locks(t);
	look(t);
}

static void mlock__as_native(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip_test("cannot: the limit on locked memory is for small tests");
	compare(lock);
}

static void sync_each(struct twin *t)
{
	static const int flags[] = { 0,
				     MS_ASYNC,
				     MS_SYNC,
				     MS_INVALIDATE,
				     MS_ASYNC | MS_INVALIDATE,
				     MS_SYNC | MS_INVALIDATE,
				     MS_SYNC | MS_ASYNC,
				     8,
				     8 | MS_SYNC,
				     -1 };

	for (int hole = 0; hole < 2; hole++) {
		for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
			note(t, "flags %d\n", flags[i]);
			store(t, i % 2 ? NEW : NEWER);
			DO(t, msync(AT(t, 0), PAGES * PAGE, flags[i]));
			DO(t, msync(AT(t, 0) + 1, PAGE, flags[i]));
			DO(t, msync(AT(t, 0), 0, flags[i]));
			DO(t, msync(AT(t, 0), 1, flags[i]));
			DO(t, msync(AT(t, 0), SIZE_MAX - PAGE, flags[i]));
			DO(t, msync(AT(t, 0), SIZE_MAX, flags[i]));
			look(t);
		}
		DO(t, munmap(AT(t, 7), PAGE));
	}
	DO(t, mprotect(AT(t, 0), 4 * PAGE, PROT_NONE));
	DO(t, msync(AT(t, 0), 6 * PAGE, MS_SYNC));
}

static void msync__each_flag_as_native(void **state)
{
	(void)state;
	compare(sync_each);
}

static void ask_residency(struct twin *t)
{
	unsigned char vec[ROOM];

	memset(vec, 7, sizeof(vec));
	store(t, NEW);
	DO(t, mincore(AT(t, 0), PAGES * PAGE, vec));
	for (size_t i = 0; i < PAGES; i++)
		note(t, "%d", vec[i] & 1);
	note(t, "\n");
	DO(t, madvise(AT(t, 0), PAGES * PAGE, MADV_DONTNEED)); /* unmapped, still cached */
	DO(t, mincore(AT(t, 0), PAGES * PAGE, vec));
	for (size_t i = 0; i < PAGES; i++)
		note(t, "%d", vec[i] & 1);
	note(t, "\n");
	DO(t, mincore(AT(t, 0) + 1, PAGE, vec));
	DO(t, mincore(AT(t, 0), PAGES * PAGE, (void *)8));
	DO(t, mincore(AT(t, 0), 0, vec));
	DO(t, munmap(AT(t, 7), PAGE));
	DO(t, mincore(AT(t, 0), PAGES * PAGE, vec));
	DO(t, mincore(AT(t, 0), SIZE_MAX - PAGE, vec));
	look(t);
}

static void mincore__as_native(void **state)
{
	(void)state;
	compare(ask_residency);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(madvise__each_as_native),
		TEST(madvise__over_hole_as_native),
		TEST(madvise__remove_as_native),
		TEST(posix_madvise__as_native),
		TEST(process_madvise__as_native),
		TEST(mlock__as_native),
		TEST(msync__each_flag_as_native),
		TEST(mincore__as_native),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
