// SPDX-License-Identifier: MIT
/*
 * Children of every kind, locks, limits and references that were there first, around a staged
 * range.
 */
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "testlib.h"

#define SIZE (256 * KIB)

extern char **environ;

static bool others_can(const char *how)
{
	int ret = tool("filetool", how, path_of("data"));

	assert_true(ret == 0 || ret == 1);
	return ret == 0;
}

/* ---- children ---- */

static atomic_bool stop;

static void *storer(void *arg)
{
	_Atomic(uint64_t) *word = arg;

	while (!stop)
		(*word)++;
	return NULL;
}

/* Other threads store while the process forks; each child stores, syncs and ends. */
static void fork__with_threads_running(void **state)
{
	pthread_t thread[2];
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, storer, s.map + i * SIZE / 4),
				 0);
	for (unsigned i = 0; i < 8; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEW + i % 2);
			if (msync(s.map, SIZE, MS_SYNC) < 0)
				_exit(1);
			_exit(in_file("data", SIZE / 2, SIZE / 2, NEW + i % 2) ? 0 : 2);
		}
		assert_int_equal(wait_for(pid), 0);
		assert_content(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEW + i % 2);
	}
	stop = true;
	for (size_t i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	fill(s.map, SIZE, 0, NEWER);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEWER);
	io_uring_queue_exit(&s.ring);
}

/* What a child unmaps, or its parent had unmapped, the keeper has all the same: without a
 * descriptor of the file, too, the child ends without a word. */
static void fork__child_without_range_or_descriptor(void **state)
{
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	close(s.fd);
	for (unsigned i = 0; i < 2; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (i == 0) {
				fill(s.map, SIZE, 0, NEW);
				munmap(s.map, SIZE);
			}
			_exit(in_file("data", 0, SIZE, NEW) ? 0 : 2);
		}
		assert_int_equal(wait_for(pid), 0);
		if (i == 0)
			assert_int_equal(munmap(s.map, SIZE), 0);
	}
	assert_int_equal(log_lines("event=error"), 0);
	io_uring_queue_exit(&s.ring);
}

/* Each child stores a quarter, and ends in a way of its own. */
static void fork__children_end_in_every_way(void **state)
{
	const size_t quarter = SIZE / 4;
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	for (size_t i = 0; i < 4; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			fill(s.map + i * quarter, quarter, i * quarter, NEW);
			if (i == 0)
				_exit(0);
			if (i == 1)
				raise(SIGKILL);
			if (i == 2)
				execl("/bin/true", "true", (char *)NULL);
			munmap(s.map, SIZE);
			close(s.fd);
			_exit(0);
		}
		assert_int_equal(wait_for(pid), i == 1 ? -SIGKILL : 0);
		assert_content(s.map, (i + 1) * quarter, 0, NEW);
	}
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&s.ring);
}

static void becomes_daemon(void **state)
{
	struct staged s;

	(void)state;
	must_stage_in_part(open_and_stage(&s, SIZE));
	fill(s.map, SIZE / 2, 0, NEW);
	if (daemon(0, 0) < 0)
		_exit(1);
	fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	_exit(msync(s.map, SIZE, MS_SYNC) == 0 ? 0 : 1);
}

static void daemon__stores_after_its_parent(void **state)
{
	(void)state;
	must_run("becomes_daemon", 0);
	assert_reaches_file("data", 0, SIZE, NEW);
}

static void forks_twice(void **state)
{
	struct staged s;

	(void)state;
	must_stage_in_part(open_and_stage(&s, SIZE));
	if (fork() > 0)
		_exit(0);
	if (fork() > 0)
		_exit(0);
	fill(s.map, SIZE, 0, NEW);
	_exit(0);
}

static void fork__twice(void **state)
{
	(void)state;
	must_run("forks_twice", 0);
	assert_reaches_file("data", 0, SIZE, NEW);
}

static void posix_spawn__leaves_it_staged(void **state)
{
	char *const argv[] = { (char *)(uintptr_t) "true", NULL };
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	assert_int_equal(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ), 0);
	assert_int_equal(wait_for(pid), 0);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&s.ring);
}

/* The child does not get the range; it may use the addresses for something else. */
static void madvise__dontfork(void **state)
{
	unsigned char *p;
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(madvise(s.map, SIZE, MADV_DONTFORK), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		p = mmap(s.map, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (p != s.map)
			_exit(1);
		memset(p, 0xee, SIZE);
		if (madvise(p, SIZE, MADV_DONTNEED) < 0 || p[0] != 0)
			_exit(2);
		_exit(munmap(p, SIZE) == 0 ? 0 : 3);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_content(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
}

/* What the child has nothing of, it does not miss: it syncs and reads the file as if nothing
 * were staged here, and there is nothing to complain about. */
static void madvise__dontfork_child_syncs(void **state)
{
	unsigned char *got = malloc(SIZE);
	struct staged s;
	pid_t pid;

	(void)state;
	assert_non_null(got);
	must_stage(open_and_stage(&s, SIZE));
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(madvise(s.map, SIZE, MADV_DONTFORK), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (fsync(s.fd) < 0)
			_exit(1);
		if (pread(s.fd, got, SIZE, 0) != (ssize_t)SIZE)
			_exit(2);
		assert_content(got, SIZE, 0, NEW);
		_exit(0);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_int_equal(log_lines("event=error"), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
	free(got);
}

/* ---- locks ---- */

/* Natively the child's copy of the mapping is what would keep the description, and with it the
 * lock; it was told not to have one. */
static void flock__not_prolonged_by_child_without_range(void **state)
{
	struct staged s;
	int go[2], ret;
	pid_t pid;
	char c;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(flock(s.fd, LOCK_EX), 0);
	ret = register_one(&s.ring, s.map, SIZE);
	if (ret == 0)
		assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(madvise(s.map, SIZE, MADV_DONTFORK), 0);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(s.fd);
		close(go[1]);
		_exit(read(go[0], &c, 1) == 0 ? 0 : 1);
	}
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_false(others_can("flockable"));
	assert_int_equal(close(s.fd), 0);
	for (uint64_t until = now_ms() + 20000; !others_can("flockable");)
		assert_true(now_ms() < until); /* the child closes its own in its own time */
	close(go[1]);
	assert_int_equal(wait_for(pid), 0);
	must_stage(ret);
	io_uring_queue_exit(&s.ring);
}

static void ofd_lock__held_until_closed(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct staged s;
	int ret;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(fcntl(s.fd, F_OFD_SETLK, &lock), 0);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_false(others_can("lockable"));
	if (ret == 0)
		assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_false(others_can("lockable"));
	assert_int_equal(close(s.fd), 0);
	assert_true(others_can("lockable"));
	must_stage(ret);
	io_uring_queue_exit(&s.ring);
}

/* What a child closes and unmaps takes nothing from its parent. */
static void posix_lock__survives_child(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct staged s;
	pid_t pid;
	int ret;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(fcntl(s.fd, F_SETLK, &lock), 0);
	ret = register_one(&s.ring, s.map, SIZE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fill(s.map, SIZE, 0, NEW);
		if (msync(s.map, SIZE, MS_SYNC) < 0 || munmap(s.map, SIZE) < 0)
			_exit(1);
		_exit(close(s.fd) == 0 ? 0 : 2);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_false(others_can("lockable"));
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	assert_false(others_can("lockable"));
	assert_int_equal(close(s.fd), 0);
	assert_true(others_can("lockable"));
	must_stage(ret);
	io_uring_queue_exit(&s.ring);
}

/* ---- descriptors ---- */

/* Every number that may be ours is taken by the program. */
static void descriptors__dup2_onto_all(void **state)
{
	struct staged s;
	int null;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_true(null >= 0);
	for (int fd = 400; fd < 5000; fd++)
		if (fd != s.fd && fd != s.ring.ring_fd)
			(void)dup2(null, fd); /* EBADF above the limit */
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
}

/* A thread that uses numbers where ours are put, one moment after the other. Nobody else of the
 * program does, so everything that it does has one result. */
#define NUMBERS 4
#define FOR_MS	2500

static struct {
	void (*use)(int fd);
	int first, victim;
	struct stat is;
	atomic_bool stop;
	atomic_uint wrong;
} user;

static void use_by_dup2(int fd)
{
	struct stat st;

	user.wrong += dup2(user.victim, fd) != fd;
	user.wrong += fstat(fd, &st) < 0 || st.st_ino != user.is.st_ino;
	user.wrong += close(fd) != 0;
}

static void use_by_dup3(int fd)
{
	struct stat st;

	user.wrong += dup3(user.victim, fd, O_CLOEXEC) != fd;
	user.wrong += fstat(fd, &st) < 0 || st.st_ino != user.is.st_ino;
	user.wrong += close_range((unsigned)fd, (unsigned)fd, 0) != 0;
}

static void use_by_close(int fd)
{
	user.wrong += close(fd) != -1 || errno != EBADF;
}

static void use_by_close_range(int fd)
{
	user.wrong += close_range((unsigned)fd, (unsigned)fd + 1, 0) != 0;
}

static void *use_numbers(void *arg)
{
	while (!user.stop)
		for (int i = 0; i < NUMBERS; i++)
			user.use(user.first + i);
	return arg;
}

static pthread_t start_user(void (*use)(int fd))
{
	struct rlimit limit;
	pthread_t t;

	make_file("victim", SIZE);
	user.use = use;
	user.victim = open_file("victim", O_RDWR);
	assert_int_equal(fstat(user.victim, &user.is), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	user.first = (int)(limit.rlim_cur / 2 < 4096 ? limit.rlim_cur / 2 : 4096);
	assert_int_equal(pthread_create(&t, NULL, use_numbers, NULL), 0);
	return t;
}

static void end_user(pthread_t t)
{
	user.stop = true;
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(user.wrong, 0);
	assert_int_equal(file_size("victim"), SIZE);
	assert_in_file("victim", 0, SIZE, OLD);
}

static void stage_beside(void (*use)(int fd))
{
	const uint64_t until = now_ms() + FOR_MS;
	struct io_uring ring;
	unsigned char *map;
	pthread_t t;
	int fd, ret;

	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	t = start_user(use);
	do {
		map = map_fd(fd, SIZE, 0);
		fill(map, SIZE, 0, NEW);
		ret = register_one(&ring, map, SIZE);
		if (ret == 0)
			device_writes(&ring, map, SIZE, 0);
		if (ret == 0)
			assert_int_equal(io_uring_unregister_buffers(&ring), 0);
		assert_int_equal(munmap(map, SIZE), 0);
	} while (ret == 0 && now_ms() < until);
	end_user(t);
	must_stage(ret);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&ring);
}

static void descriptors__dup2_while_staging(void **state)
{
	(void)state;
	stage_beside(use_by_dup2);
}

static void descriptors__dup3_while_staging(void **state)
{
	(void)state;
	stage_beside(use_by_dup3);
}

static void descriptors__close_while_staging(void **state)
{
	(void)state;
	stage_beside(use_by_close);
}

static void descriptors__close_range_while_staging(void **state)
{
	(void)state;
	stage_beside(use_by_close_range);
}

/* What holds the file while it is cut by its name is not moved from under the call. */
static void descriptors__dup2_while_truncating(void **state)
{
	const uint64_t until = now_ms() + FOR_MS;
	struct staged s;
	pthread_t t;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	t = start_user(use_by_dup2);
	for (unsigned n = 0; now_ms() < until; n++)
		assert_int_equal(truncate(path_of("data"), (off_t)(n % 2 ? SIZE : SIZE / 2)),
				 0);
	end_user(t);
	io_uring_queue_exit(&s.ring);
}

static void set_files(rlim_t n)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void limit__few_files(void **state)
{
	struct staged s;

	(void)state;
	set_files(40);
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&s.ring);
}

/* None is left: the kernel's answer, one line, and nothing changed. */
static void no_file_left_but(unsigned free)
{
	struct staged s;
	int last;

	open_data(&s, SIZE);
	last = dup(s.fd);
	assert_true(last >= 0);
	set_files((rlim_t)last + 1 + free);
	assert_int_equal(register_one(&s.ring, s.map, SIZE), kernel_refuses() ? -EFAULT : 0);
	set_files((rlim_t)last + 200);
	if (kernel_refuses())
		assert_refused_once();
	if (log_lines("event=refuse"))
		assert_true(log_has("event=refuse", "too many open files"));
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
}

static void limit__no_file_left(void **state)
{
	(void)state;
	no_file_left_but(0);
}

/* Enough to look at the mapping, and not to call a keeper. */
static void limit__one_file_left(void **state)
{
	(void)state;
	no_file_left_but(1);
}

/* In a child, for a hard limit does not rise again. 0: staged; 1: refused. */
static int registers_with_few(rlim_t free, bool hard)
{
	unsigned char *map = map_file("data", SIZE);
	const int last = dup(0);
	struct rlimit limit;
	struct io_uring ring;
	int ret;

	if (last < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
	    io_uring_queue_init(8, &ring, 0) < 0)
		return 2;
	limit.rlim_cur = (rlim_t)ring.ring_fd + 1 + free;
	if (hard)
		limit.rlim_max = limit.rlim_cur;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 3;
	ret = register_one(&ring, map, SIZE);
	if (ret != 0 && ret != -EFAULT)
		return 4;
	fill(map, SIZE, 0, NEW);
	return munmap(map, SIZE) < 0 ? 5 : ret != 0;
}

/* However many are left: it is staged, or that is said to be the reason. */
static void any_number_left(bool hard)
{
	unsigned staged = 0;
	int ret;
	pid_t pid;

	if (!with_shim() || !kernel_refuses())
		return;
	for (rlim_t free = 0; free < 40; free++) {
		make_file("data", SIZE);
		pid = fork();
		if (pid == 0)
			_exit(registers_with_few(free, hard));
		ret = wait_for(pid);
		assert_in_range(ret, 0, 1);
		staged += ret == 0;
		assert_in_file("data", 0, SIZE, NEW);
	}
	assert_true(staged > 10 && staged < 40 && log_lines("event=refuse") > 0);
	assert_int_equal(log_lines("event=refuse"), log_lines("too many open files"));
}

static void limit__any_number_left(void **state)
{
	(void)state;
	any_number_left(false);
}

/* Nor may the library have more. */
static void limit__any_number_left_at_all(void **state)
{
	(void)state;
	any_number_left(true);
}

/* ---- references that were there first ---- */

/* What is in the pipe are the file's own pages: whoever reads them must find what was stored
 * until they are read. So nothing is staged before that. */
static void vmsplice__pages_in_a_pipe(void **state)
{
	unsigned char *copy = malloc(SIZE);
	struct iovec part;
	struct staged s;
	int way[2], ret;

	(void)state;
	open_data(&s, SIZE);
	assert_non_null(copy);
	assert_int_equal(pipe(way), 0);
	part = iov(s.map, 4 * page_size());
	assert_int_equal(vmsplice(way[1], &part, 1, 0), part.iov_len);
	ret = register_one(&s.ring, s.map, SIZE);
	assert_int_equal(ret, kernel_refuses() ? -EFAULT : 0);
	if (kernel_refuses())
		assert_refused_once();
	else
		assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(read(way[0], copy, part.iov_len), part.iov_len);
	assert_content(copy, part.iov_len, 0, NEW);
	must_stage(register_one(&s.ring, s.map, SIZE));
	assert_content(s.map, SIZE, 0, NEW);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&s.ring);
	free(copy);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(fork__with_threads_running),
		TEST(fork__child_without_range_or_descriptor),
		TEST(fork__children_end_in_every_way),
		TEST(fork__twice),
		TEST(daemon__stores_after_its_parent),
		TEST(posix_spawn__leaves_it_staged),
		TEST(madvise__dontfork),
		TEST(madvise__dontfork_child_syncs),
		TEST(flock__not_prolonged_by_child_without_range),
		TEST(ofd_lock__held_until_closed),
		TEST(posix_lock__survives_child),
		TEST(descriptors__dup2_onto_all),
		TEST(descriptors__dup2_while_staging),
		TEST(descriptors__dup3_while_staging),
		TEST(descriptors__close_while_staging),
		TEST(descriptors__close_range_while_staging),
		TEST(descriptors__dup2_while_truncating),
		TEST(limit__few_files),
		TEST(limit__no_file_left),
		TEST(limit__one_file_left),
		TEST(limit__any_number_left),
		TEST(limit__any_number_left_at_all),
		TEST(vmsplice__pages_in_a_pipe),
		{ 0 },
	};
	static const struct test parts[] = { TEST(becomes_daemon), TEST(forks_twice), { 0 } };

	return test_main(argc, argv, cases, parts);
}
