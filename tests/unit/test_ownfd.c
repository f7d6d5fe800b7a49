/* SPDX-License-Identifier: MIT */
/* links: shim/lib/ownfd.c shim/lib/shadow.c shim/lib/real.c */
#include "unit.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/util.h"
#include "lib/ownfd.h"
#include "lib/real.h"

static struct rlimit limit;

static int remember_limit(void **state)
{
	(void)state;
	return getrlimit(RLIMIT_NOFILE, &limit);
}

static int restore_limit(void **state)
{
	(void)state;
	for (int fd; (fd = ownfd_next(0)) >= 0;)
		ownfd_close(fd);
	return setrlimit(RLIMIT_NOFILE, &limit);
}

static bool set_limit(rlim_t n)
{
	const struct rlimit l = { n, limit.rlim_max };

	return setrlimit(RLIMIT_NOFILE, &l) == 0;
}

static bool set_both_limits(rlim_t n)
{
	const struct rlimit l = { n, n };

	return setrlimit(RLIMIT_NOFILE, &l) == 0;
}

/* It knows no clone() of the kind that a number beyond the limit takes, and leaves the hard
 * limit as it is. */
static void not_under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	if (preload && strstr(preload, "vgpreload")) {
		print_message(
			"skipped: valgrind knows neither such a clone() nor a hard limit\n");
		skip();
	}
}

static ino_t inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static void adopt__high_private_and_protected(void **state)
{
	const unsigned before = open_fds();
	int low = unnamed_file(), up;
	const ino_t ino = inode(low);

	(void)state;
	up = ownfd_adopt(low);
	assert_true(up > low);
	assert_true((rlim_t)up >= (limit.rlim_cur / 2 < 4096 ? limit.rlim_cur / 2 : 4096));
	assert_false(fd_is_open(low));
	assert_true(fcntl(up, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(inode(up), ino);
	assert_true(ownfd_is(up));
	assert_false(ownfd_is(low));
	assert_int_equal(open_fds(), before + 1);
	ownfd_close(up);
	assert_false(ownfd_is(up));
	assert_int_equal(open_fds(), before);
}

static void adopt__negative_passes_through(void **state)
{
	(void)state;
	assert_int_equal(ownfd_adopt(-1), -1);
	assert_int_equal(ownfd_adopt(-EMFILE), -EMFILE);
	assert_int_equal(ownfd_next(0), -1);
}

static void adopt__low_limit(void **state)
{
	int up;

	(void)state;
	assert_true(set_limit(64));
	up = ownfd_adopt(unnamed_file());
	assert_in_range(up, 32, 63);
}

/* The descriptor is closed all the same. */
static int no_room(void *arg)
{
	const unsigned before = open_fds();
	int fd[64], n = 0, low = unnamed_file(), up;

	(void)arg;
	if (!set_both_limits(64))
		return 1;
	while ((up = fcntl(low, F_DUPFD_CLOEXEC, 32)) >= 0)
		fd[n++] = up;
	errno = 0;
	if (n != 32 || ownfd_adopt(low) != -EMFILE || errno != EMFILE)
		return 2;
	if (fd_is_open(low) || ownfd_next(0) != -1)
		return 3;
	while (n > 0)
		close(fd[--n]);
	return open_fds() == before ? 0 : 4;
}

static void adopt__no_room(void **state)
{
	(void)state;
	not_under_valgrind();
	assert_int_equal(in_child(no_room, NULL), 0);
}

/* Many are not of what the program may have, which stays as it is. */
static void adopt__beyond_the_limit(void **state)
{
	int low = unnamed_file(), up, n = 0;
	const ino_t ino = inode(low);
	struct rlimit now;

	(void)state;
	not_under_valgrind();
	assert_true(set_limit(64));
	for (int i = 0; i < 100; i++) {
		up = ownfd_adopt(dup(low));
		assert_true(up >= 32);
		assert_int_equal(inode(up), ino);
		assert_true(fcntl(up, F_GETFD) & FD_CLOEXEC);
		assert_true(ownfd_is(up));
		n += up < 64;
	}
	assert_in_range(n, 1, 8);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(now.rlim_cur, 64);
	assert_int_equal(now.rlim_max, limit.rlim_max);
	close(low);
}

/* What the program has there is no reason to refuse. */
static void adopt__program_has_all(void **state)
{
	int fd[64], n = 0, low = unnamed_file(), up;

	(void)state;
	not_under_valgrind();
	assert_true(set_limit(64));
	while ((up = fcntl(low, F_DUPFD_CLOEXEC, 32)) >= 0)
		fd[n++] = up;
	up = ownfd_adopt(low);
	assert_true(up >= 64);
	assert_false(fd_is_open(low));
	while (n > 0)
		close(fd[--n]);
}

static void adopt__not_open(void **state)
{
	int fd = unnamed_file();

	(void)state;
	close(fd);
	assert_int_equal(ownfd_adopt(fd), -EBADF);
	assert_int_equal(ownfd_next(0), -1);
}

static void close__not_ours(void **state)
{
	int fd = unnamed_file();

	(void)state;
	ownfd_close(fd);
	assert_true(fd_is_open(fd));
	ownfd_close(-1);
	ownfd_close(INT32_MAX);
	close(fd);
}

static void is__any_number(void **state)
{
	static const int fd[] = { -1, INT32_MIN, INT32_MAX, 1 << 20, (1 << 20) - 1, 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		assert_false(ownfd_is(fd[i]));
		assert_false(ownfd_watched(fd[i]));
	}
}

/* In order, across gaps of every size. */
static void next__in_order(void **state)
{
	enum { N = 150 };
	int fd[N], seen = 0, low = unnamed_file();

	(void)state;
	assert_true(set_limit(limit.rlim_max)); /* all of them within it */
	for (int i = 0; i < N; i++)
		fd[i] = ownfd_adopt(dup(low));
	for (int i = 0; i < N; i++)
		if (i % 7 == 3 || (i > 60 && i < 140))
			ownfd_close(fd[i]);
	for (int at = ownfd_next(-5), last = -1; at >= 0; at = ownfd_next(at + 1)) {
		assert_true(at > last);
		assert_true(ownfd_is(at));
		assert_int_equal(ownfd_next(at), at);
		last = at;
		seen++;
	}
	for (int i = 0; i < N; i++)
		seen -= ownfd_is(fd[i]);
	assert_int_equal(seen, 0);
	assert_int_equal(ownfd_next(fd[N - 1] + 1), -1);
	assert_int_equal(ownfd_next(INT32_MAX), -1);
	close(low);
}

static int moved_from, moved_to, moved_count;

static void moved(int from, int to)
{
	moved_from = from;
	moved_to = to;
	moved_count++;
}

static void evade__to_another_number(void **state)
{
	int fd = ownfd_adopt(unnamed_file()), to, other = unnamed_file();
	const ino_t ino = inode(fd);

	(void)state;
	moved_count = 0;
	to = ownfd_evade(fd, moved);
	assert_true(to > fd);
	assert_int_equal(moved_count, 1);
	assert_int_equal(moved_from, fd);
	assert_int_equal(moved_to, to);
	assert_true(ownfd_is(to));
	assert_false(ownfd_is(fd));
	assert_int_equal(inode(to), ino);
	assert_true(fcntl(to, F_GETFD) & FD_CLOEXEC);
	/* The old number is the program's to overwrite. */
	assert_int_equal(dup2(other, fd), fd);
	assert_int_equal(inode(to), ino);
	close(other);
	close(fd);
}

static int evade_without_room(void *arg)
{
	int fd = ownfd_adopt(unnamed_file());
	const unsigned before = open_fds();

	(void)arg;
	moved_count = 0;
	if (!set_both_limits((rlim_t)fd + 1))
		return 1;
	if (ownfd_evade(fd, moved) != -EMFILE || moved_count)
		return 2;
	return ownfd_is(fd) && fd_is_open(fd) && open_fds() == before ? 0 : 3;
}

static void evade__no_room(void **state)
{
	(void)state;
	not_under_valgrind();
	assert_int_equal(in_child(evade_without_room, NULL), 0);
}

/* The number is the last that the program may have, or one that it may not. */
static void evade__beyond_the_limit(void **state)
{
	int fd = ownfd_adopt(unnamed_file()), to, further;

	(void)state;
	not_under_valgrind();
	assert_true(set_limit((rlim_t)fd + 1));
	to = ownfd_evade(fd, moved);
	assert_true(to > fd);
	assert_true(ownfd_is(to));
	further = ownfd_evade(to, moved);
	assert_true(further > to);
	assert_int_equal(moved_to, further);
	assert_int_equal(inode(further), inode(fd));
	close(to);
	close(fd);
}

static void evade__closed_behind_our_back(void **state)
{
	int fd = ownfd_adopt(unnamed_file());

	(void)state;
	moved_count = 0;
	close(fd);
	assert_int_equal(ownfd_evade(fd, moved), -EBADF);
	assert_int_equal(moved_count, 1);
	assert_int_equal(moved_from, fd);
	assert_int_equal(moved_to, -1);
	assert_false(ownfd_is(fd));
	assert_int_equal(ownfd_next(0), -1);
}

/* Only where ours are put, and only what nobody has, or may be about to get. */
static void may_come__where_ours_do(void **state)
{
	struct ownfd_guard outer, inner;
	int low = unnamed_file(), theirs, own = ownfd_adopt(dup(low));

	(void)state;
	theirs = fcntl(low, F_DUPFD_CLOEXEC, own + 1);
	assert_true(theirs > own);
	assert_false(ownfd_reaches(low));
	assert_true(ownfd_reaches(own));
	assert_false(ownfd_may_come(-1));
	assert_false(ownfd_may_come(low));
	assert_false(ownfd_may_come(theirs));
	assert_true(ownfd_may_come(theirs + 1));
	ownfd_lock(&outer);
	ownfd_lock(&inner);
	ownfd_unlock(&inner);
	assert_false(ownfd_may_come(low));
	assert_true(ownfd_may_come(theirs));
	ownfd_unlock(&outer);
	assert_false(ownfd_may_come(theirs));
	close(theirs);
	close(low);
}

static void *adopt_another(void *arg)
{
	*(int *)arg = ownfd_adopt(unnamed_file());
	return NULL;
}

/* Who had the lock is not in the copy. */
static void after_fork__lock_is_free(void **state)
{
	struct ownfd_guard g;
	pthread_t t;
	pid_t pid;
	int fd = -1;

	(void)state;
	ownfd_lock(&g);
	pid = fork();
	if (pid == 0) {
		alarm(10);
		ownfd_after_fork();
		_exit(pthread_create(&t, NULL, adopt_another, &fd) || pthread_join(t, NULL) ||
		      !ownfd_is(fd));
	}
	ownfd_unlock(&g);
	assert_int_equal(waitpid(pid, &fd, 0), pid);
	assert_int_equal(fd, 0);
}

static void watch__any_number(void **state)
{
	static const int fd[] = { 0, 5, 63, 64, 65, 1000, (1 << 20) - 1 };
	int at = -1;

	(void)state;
	assert_int_equal(ownfd_next_watched(0), -1);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		ownfd_watch(fd[i]);
	ownfd_watch(-1);
	ownfd_watch(1 << 20);
	ownfd_watch(INT32_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		assert_true(ownfd_watched(fd[i]));
		assert_false(ownfd_is(fd[i]));
		at = ownfd_next_watched(at + 1);
		assert_int_equal(at, fd[i]);
	}
	assert_int_equal(ownfd_next_watched(at + 1), -1);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		ownfd_unwatch(fd[i]);
		assert_false(ownfd_watched(fd[i]));
	}
	ownfd_unwatch(-1);
	ownfd_unwatch(1 << 20);
	assert_int_equal(ownfd_next_watched(0), -1);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_teardown(adopt__high_private_and_protected, restore_limit),
	cmocka_unit_test_teardown(adopt__negative_passes_through, restore_limit),
	cmocka_unit_test_teardown(adopt__low_limit, restore_limit),
	cmocka_unit_test_teardown(adopt__no_room, restore_limit),
	cmocka_unit_test_teardown(adopt__beyond_the_limit, restore_limit),
	cmocka_unit_test_teardown(adopt__program_has_all, restore_limit),
	cmocka_unit_test_teardown(adopt__not_open, restore_limit),
	cmocka_unit_test_teardown(close__not_ours, restore_limit),
	cmocka_unit_test(is__any_number),
	cmocka_unit_test_teardown(next__in_order, restore_limit),
	cmocka_unit_test_teardown(evade__to_another_number, restore_limit),
	cmocka_unit_test_teardown(evade__no_room, restore_limit),
	cmocka_unit_test_teardown(evade__beyond_the_limit, restore_limit),
	cmocka_unit_test_teardown(evade__closed_behind_our_back, restore_limit),
	cmocka_unit_test_teardown(may_come__where_ours_do, restore_limit),
	cmocka_unit_test_teardown(after_fork__lock_is_free, restore_limit),
	cmocka_unit_test(watch__any_number),
};

UNIT_MAIN(tests, remember_limit, NULL)
