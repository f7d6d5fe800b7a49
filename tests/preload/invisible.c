/* SPDX-License-Identifier: MIT */
/* Invisible otherwise: children, descriptors, locks and signals are the program's own. */
#include "nokeeper.h"

#include <dirent.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <pinstage.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SIZE (256 * KIB)

static volatile sig_atomic_t signals_seen;

static void on_signal(int sig)
{
	(void)sig;
	signals_seen++;
}

static void children__none_to_wait_for(void **state)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct staged s;
	int ret;

	(void)state;
	sigaction(SIGCHLD, &action, NULL);
	ret = open_and_stage(&s, SIZE);
	/* None while it is staged, none after it was released. */
	errno = 0;
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	assert_int_equal(errno, ECHILD);
	must_stage(ret);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	close(s.fd);
	io_uring_queue_exit(&s.ring);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(signals_seen, 0);
}

static void signals__dispositions_and_mask_untouched(void **state)
{
	struct sigaction before[NSIG], after;
	sigset_t mask_before, mask_after;
	struct staged s;

	(void)state;
	for (int i = 1; i < NSIG; i++)
		sigaction(i, NULL, &before[i]);
	sigprocmask(SIG_SETMASK, NULL, &mask_before);
	must_stage(open_and_stage(&s, SIZE));
	for (int i = 1; i < NSIG; i++) {
		if (sigaction(i, NULL, &after) == 0)
			assert_ptr_equal(after.sa_handler, before[i].sa_handler);
	}
	sigprocmask(SIG_SETMASK, NULL, &mask_after);
	for (int i = 1; i < NSIG; i++)
		assert_int_equal(sigismember(&mask_after, i), sigismember(&mask_before, i));
	io_uring_queue_exit(&s.ring);
}

static void writes_only(void **state)
{
	(void)state;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0 && write(STDERR_FILENO, "", 0) == 0)
		syscall(SYS_exit, 0);
	syscall(SYS_exit, 1);
}

/* Where no other call is allowed than write(), it makes none. Twice: the first program of a
 * user makes the board. */
static void write__all_that_is_allowed(void **state)
{
	(void)state;
	if (with_shim() && !go_where_no_keeper_is())
		skip_test("cannot: this kernel has no name spaces for us");
	for (int program = 0; program < 2; program++)
		assert_int_equal(run_part("writes_only"), 0);
}

static int count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void threads__none_left(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(count_threads(), 1);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_int_equal(count_threads(), 1);
	io_uring_queue_exit(&s.ring);
}

static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

static void descriptors__lowest_free_as_before(void **state)
{
	struct staged s;
	int free_fd, ret;

	(void)state;
	free_fd = lowest_free();
	make_file("data", SIZE);
	assert_int_equal(lowest_free(), free_fd);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	assert_int_equal(lowest_free(), s.fd + 1);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_int_equal(lowest_free(), s.fd + 1);
	must_stage(ret);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_int_equal(lowest_free(), s.fd + 1);
	assert_int_equal(close(s.fd), 0);
	assert_int_equal(lowest_free(), s.fd);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_int_equal(lowest_free(), s.fd);
	io_uring_queue_exit(&s.ring);
	assert_int_equal(lowest_free(), free_fd);
}

/* What is kept open sits high, and no program that this one executes gets it. */
static void descriptors__kept_ones_close_on_exec(void **state)
{
	bool before[1024] = { false };
	struct staged s;
	struct dirent *e;
	DIR *dir;

	(void)state;
	for (int fd = 0; fd < (int)ARRAY_SIZE(before); fd++)
		before[fd] = fcntl(fd, F_GETFD) >= 0;
	must_stage(open_and_stage(&s, SIZE));
	dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while ((e = readdir(dir))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] == '.' || fd == dirfd(dir) || fd == s.fd ||
		    fd == s.ring.ring_fd)
			continue;
		if (fd < (int)ARRAY_SIZE(before) && before[fd])
			continue;
		if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
			fail_test("descriptor %d would be inherited\n", fd);
		if (fd < 256)
			fail_test("descriptor %d is in the way\n", fd);
	}
	closedir(dir);
	io_uring_queue_exit(&s.ring);
}

/* A daemon's habit. The kept descriptors survive it, so the data does. */
static void descriptors__closed_in_a_loop(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	for (int fd = 3; fd < 20000; fd++) {
		if (fd != s.ring.ring_fd)
			close(fd);
	}
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
}

static void descriptors__closed_by_close_range(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(close_range((unsigned)s.fd, ~0u, 0), 0);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_int_equal(close_range(3, ~0u, 0), 0);
}

/* The same before anything is pinned: the mapping is all that is left. */
static void descriptors__closed_before_registering(void **state)
{
	struct staged s;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	closefrom(s.fd);
	must_stage(register_one(&s.ring, s.map, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
}

/* A number that was closed means what the program opens next. */
static void descriptors__number_used_again(void **state)
{
	struct staged s;
	int other;

	(void)state;
	make_file("data", SIZE);
	make_file("other", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	assert_int_equal(close(s.fd), 0);
	other = open_file("other", O_RDWR);
	assert_int_equal(other, s.fd);
	must_stage(register_one(&s.ring, s.map, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_in_file("other", 0, SIZE, OLD);
	close(other);
}

/* The same, where the number goes inside libc, which no hook sees. */
static void descriptors__closed_by_fclose(void **state)
{
	struct staged s;
	FILE *stream;
	int other;

	(void)state;
	make_file("data", SIZE);
	make_file("other", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	stream = fdopen(s.fd, "r+");
	assert_non_null(stream);
	assert_int_equal(fclose(stream), 0);
	other = open_file("other", O_RDWR);
	assert_int_equal(other, s.fd);
	must_stage(register_one(&s.ring, s.map, SIZE));
	device_writes(&s.ring, s.map, SIZE / 2, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	/* What is written to the other one is not taken for this one's. */
	fill(s.map, 100, 0, NEWER);
	assert_int_equal(pwrite(other, "abc", 3, 1000), 3);
	assert_content(s.map, 100, 0, NEWER);
	assert_content(s.map + 1000, 3, 1000, DEVICE);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, 100, NEWER);
	assert_in_file("data", 100, SIZE / 2 - 100, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	assert_in_file("other", 0, 1000, OLD);
	assert_in_file("other", 1003, SIZE - 1003, OLD);
	close(other);
	io_uring_queue_exit(&s.ring);
}

/* Closed like that while it is staged. */
static void descriptors__closed_by_fclose_when_staged(void **state)
{
	struct staged s;
	FILE *stream;
	int other;

	(void)state;
	make_file("other", SIZE);
	must_stage(open_and_stage(&s, SIZE));
	stream = fdopen(s.fd, "r+");
	assert_non_null(stream);
	assert_int_equal(fclose(stream), 0);
	other = open_file("other", O_RDWR);
	assert_int_equal(other, s.fd);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(ftruncate(other, SIZE / 2), 0);
	assert_content(s.map, SIZE, 0, DEVICE);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	if (with_shim())
		assert_int_equal(pinstage_release(s.map, SIZE), 0);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	assert_int_equal(file_size("other"), SIZE / 2);
	assert_in_file("other", 0, SIZE / 2, OLD);
	close(other);
	io_uring_queue_exit(&s.ring);
}

/* Stores after all descriptors of the file are gone reach it, by msync() and by the end. */
static void stores_reach_the_file(struct staged *s)
{
	fill(s->map, SIZE, 0, NEW);
	assert_int_equal(msync(s->map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	fill(s->map, SIZE, 0, NEWER);
	assert_int_equal(munmap(s->map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEWER);
}

/* The ring with them: nothing is left but the mapping, and what it stands on. */
static void descriptors__all_closed_by_closefrom(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	closefrom(3);
	assert_int_equal(fcntl(s.fd, F_GETFD), -1);
	assert_int_equal(lowest_free(), 3);
	stores_reach_the_file(&s);
}

static void descriptors__all_closed_by_close_range(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(close_range(3, ~0U, 0), 0);
	assert_int_equal(fcntl(s.fd, F_GETFD), -1);
	assert_int_equal(lowest_free(), 3);
	stores_reach_the_file(&s);
}

static void descriptors__close_range_marks(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(fcntl(s.fd, F_SETFD, 0), 0);
	assert_int_equal(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), 0);
	assert_int_equal(fcntl(s.fd, F_GETFD), FD_CLOEXEC);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(fsync(s.fd), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	/* What the kernel does not know closes nothing. */
	errno = 0;
	assert_int_equal(close_range(3, ~0U, 1 << 20), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(close_range(9, 3, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fcntl(s.fd, F_GETFD), FD_CLOEXEC);
	stores_reach_the_file(&s);
	io_uring_queue_exit(&s.ring);
}

struct unsharing {
	struct staged *s;
	int flags;
};

/* Descriptors of its own: what it closes is open in the other threads. */
static void *unshare_and_store(void *arg)
{
	struct unsharing *u = arg;
	struct staged *s = u->s;
	const bool marks = u->flags & CLOSE_RANGE_CLOEXEC;

	assert_int_equal(close_range(3, ~0U, (unsigned)u->flags), 0);
	assert_int_equal(fcntl(s->fd, F_GETFD), marks ? FD_CLOEXEC : -1);
	fill(s->map, SIZE / 2, 0, NEW);
	assert_int_equal(msync(s->map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	return NULL;
}

static void unshared(int flags)
{
	struct unsharing u = { .flags = flags };
	struct staged s;
	pthread_t thread;

	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(fcntl(s.fd, F_SETFD, 0), 0);
	u.s = &s;
	assert_int_equal(pthread_create(&thread, NULL, unshare_and_store, &u), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(fcntl(s.fd, F_GETFD), 0);
	device_writes(&s.ring, s.map + SIZE / 2, SIZE / 2, 0);
	assert_int_equal(fsync(s.fd), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	assert_true(in_file_at("data", SIZE / 2, SIZE / 2, SIZE / 2, DEVICE));
	stores_reach_the_file(&s);
	io_uring_queue_exit(&s.ring);
}

static void descriptors__close_range_unshares(void **state)
{
	(void)state;
	unshared(CLOSE_RANGE_UNSHARE);
}

static void descriptors__close_range_unshares_and_marks(void **state)
{
	(void)state;
	unshared(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC);
}

static void descriptors__replaced_by_dup2(void **state)
{
	struct staged s;
	int other;

	(void)state;
	make_file("data", SIZE);
	make_file("other", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	other = open_file("other", O_RDWR);
	assert_int_equal(dup2(other, s.fd), s.fd);
	must_stage(register_one(&s.ring, s.map, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_in_file("other", 0, SIZE, OLD);
}

static void descriptors__position_untouched(void **state)
{
	struct staged s;
	int flags, ret;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	assert_int_equal(lseek(s.fd, 1234, SEEK_SET), 1234);
	flags = fcntl(s.fd, F_GETFL);
	s.map = map_fd(s.fd, SIZE, 0);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_int_equal(lseek(s.fd, 0, SEEK_CUR), 1234);
	assert_int_equal(fcntl(s.fd, F_GETFL), flags);
	must_stage(ret);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_int_equal(lseek(s.fd, 0, SEEK_CUR), 1234);
	io_uring_queue_exit(&s.ring);
}

/* A program's standard descriptors may be closed: nothing may then slip into 0, 1 or 2. */
static void descriptors__standard_ones_closed(void **state)
{
	struct staged s;
	int fd;

	(void)state;
	fflush(NULL);
	close(0);
	must_stage(open_and_stage(&s, SIZE));
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fd, s.fd + 1);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&s.ring);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(children__none_to_wait_for),
		TEST(signals__dispositions_and_mask_untouched),
		TEST(write__all_that_is_allowed),
		TEST(threads__none_left),
		TEST(descriptors__lowest_free_as_before),
		TEST(descriptors__kept_ones_close_on_exec),
		TEST(descriptors__closed_in_a_loop),
		TEST(descriptors__closed_by_close_range),
		TEST(descriptors__closed_before_registering),
		TEST(descriptors__number_used_again),
		TEST(descriptors__closed_by_fclose),
		TEST(descriptors__closed_by_fclose_when_staged),
		TEST(descriptors__all_closed_by_closefrom),
		TEST(descriptors__all_closed_by_close_range),
		TEST(descriptors__close_range_marks),
		TEST(descriptors__close_range_unshares),
		TEST(descriptors__close_range_unshares_and_marks),
		TEST(descriptors__replaced_by_dup2),
		TEST(descriptors__position_untouched),
		TEST(descriptors__standard_ones_closed),
		{ 0 },
	};
	static const struct test parts[] = { TEST(writes_only), { 0 } };

	return test_main(argc, argv, cases, parts);
}
