/* SPDX-License-Identifier: MIT */
/* Direct I/O, the limit on file sizes, and many writers at once, on a file that is staged; and
 * what it costs the calls on other files. */
#include "alike.h"
#include "nokeeper.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t off, size_t room);
int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);

static unsigned char buf[2][64 * KIB] __attribute__((aligned(65536)));

static off_t page(unsigned n)
{
	return (off_t)(n * page_size());
}

/* ---- direct I/O ---- */

static int open_direct(const char *name)
{
	int fd = open(path_of(name), O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		skip_test("cannot: no O_DIRECT on this file system");
	return fd;
}

/* What was stored is what comes from the device. */
static void direct_io__reads_staged_range(void **state)
{
	int direct[2];

	(void)state;
	must_begin(SIZE, 0, true);
	for (int i = 0; i < 2; i++)
		direct[i] = open_direct(alike_name[i]);
	assert_int_equal(both(pread(direct[i], buf[i], (size_t)page(4), page(2))), page(4));
	assert_memory_equal(buf[0], buf[1], (size_t)page(4));
	both((map[page(3)] = 77));
	assert_int_equal(both(pread(direct[i], buf[i], (size_t)page(4), page(0))), page(4));
	assert_memory_equal(buf[0], buf[1], (size_t)page(4));
	/* Bad alignment is the file system's to judge. */
	both(pread(direct[i], buf[i] + 1, 511, 3));
	alike_same();
	close(direct[0]);
	close(direct[1]);
	alike_end();
}

/* It is in memory at once, and what is stored there afterwards is not undone. */
static void direct_io__writes_staged_range(void **state)
{
	int direct[2];

	(void)state;
	must_begin(SIZE, 0, true);
	for (int i = 0; i < 2; i++) {
		direct[i] = open_direct(alike_name[i]);
		fill(buf[i], sizeof(buf[i]), 0, DEVICE);
	}
	assert_int_equal(both(pwrite(direct[i], buf[i], (size_t)page(6), page(2))), page(6));
	assert_content(t.map[0] + page(2), (size_t)page(6), 0, DEVICE);
	both((map[page(3) + 5] = 77));
	alike_same();
	/* Beyond the end, too. */
	assert_int_equal(both(pwrite(direct[i], buf[i], (size_t)page(2), SIZE - page(1))),
			 page(2));
	alike_same();
	close(direct[0]);
	close(direct[1]);
	alike_end();
}

/* Staged memory as the memory of direct I/O on another file, and on its own. */
static void direct_io__staged_buffer(void **state)
{
	int other, direct[2];

	(void)state;
	must_begin(SIZE, 0, true);
	make_file("third", SIZE);
	other = open_direct("third");
	for (int i = 0; i < 2; i++)
		direct[i] = open_direct(alike_name[i]);
	assert_int_equal(both(pread(other, map + page(5), (size_t)page(9), page(2))), page(9));
	assert_int_equal(
		both(pwrite(other, map + page(3), (size_t)page(9), i ? page(20) : page(40))),
		page(9));
	for (int i = 0; i < 2; i++)
		assert_int_equal(pread(other, buf[i], (size_t)page(9), i ? page(20) : page(40)),
				 page(9));
	assert_memory_equal(buf[0], buf[1], (size_t)page(9));
	alike_same();
	assert_int_equal(both(pread(direct[i], map + page(30), (size_t)page(3), page(4))),
			 page(3));
	assert_int_equal(both(pwrite(direct[i], map + page(4), (size_t)page(3), page(33))),
			 page(3));
	alike_same();
	close(direct[0]);
	close(direct[1]);
	close(other);
	alike_end();
}

/* ---- RLIMIT_FSIZE ---- */

static volatile sig_atomic_t exceeded;

static void on_exceeded(int sig)
{
	(void)sig;
	exceeded++;
}

static void limit_file_size(rlim_t most)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The result, and how often SIGXFSZ came with it. */
#define COUNTED(call)                                   \
	({                                              \
		long counted_ret_;                      \
                                                        \
		exceeded = 0;                           \
		counted_ret_ = (call);                  \
		counted_ret_ * 10 + (exceeded ? 1 : 0); \
	})

static void limit__of_a_staged_file(void **state)
{
	const off_t most = SIZE - page(4);
	struct iovec iov = { buf[0], 100 };
	struct sigaction action = { .sa_handler = on_exceeded };
	int other;

	(void)state;
	must_begin(SIZE - (size_t)page(8), 0, true);
	make_file("third", SIZE);
	other = open_file("third", O_RDONLY);
	sigaction(SIGXFSZ, &action, NULL);
	fill(buf[0], sizeof(buf[0]), 0, NEWER);
	limit_file_size((rlim_t)most);
	/* Below it nothing happens, and as much as fits is written. */
	assert_int_equal(both(COUNTED(pwrite(fd, buf[0], 100, page(2)))), 1000);
	assert_int_equal(both(COUNTED(pwrite(fd, buf[0], (size_t)page(2), most - page(1)))),
			 page(1) * 10);
	assert_int_equal(both(COUNTED(pwrite(fd, buf[0], 100, most))), -10 + 1);
	both(COUNTED(pwritev(fd, &iov, 1, most + 5)));
	both(lseek(fd, most, SEEK_SET));
	both(COUNTED(write(fd, buf[0], 100)));
	assert_int_equal(both(COUNTED(ftruncate(fd, most + 1))), -10 + 1);
	both(COUNTED(truncate(path, SIZE)));
	both(COUNTED(fallocate(fd, 0, most, page(1))));
	both(COUNTED(lseek(fd, most, SEEK_SET) ? sendfile(fd, other, &(off_t){ 0 }, 100) : -2));
	both(COUNTED(copy_file_range(other, &(off_t){ 0 }, fd, &(off_t){ most }, 100, 0)));
	both(COUNTED(copy_file_range(other, &(off_t){ 0 }, fd, &(off_t){ most - 50 }, 100, 0)));
	/* What memory has there is nobody's write. */
	both((map[page(3)] = 77));
	limit_file_size(RLIM_INFINITY);
	alike_same();
	close(other);
	alike_end();
}

/* ---- many at once, each with bytes of its own in one page ---- */

enum { ROUNDS = 200, STORERS = 2 };

static unsigned char *shared_page;
static int file;
static atomic_bool stop;
static atomic_int lost;

static _Atomic(uint64_t) *word(unsigned n)
{
	return (_Atomic(uint64_t) *)(void *)(shared_page + n * 64);
}

static void *storer(void *arg)
{
	_Atomic(uint64_t) *own = word((unsigned)(uintptr_t)arg);
	uint64_t n = *own;

	while (!stop) {
		if (*own != n)
			lost++;
		*own = ++n;
	}
	return (void *)(uintptr_t)n;
}

static void *writer(void *arg)
{
	const off_t at = 1024;
	uint64_t n, there;

	for (n = 1; n <= ROUNDS; n++) {
		if (pwrite(file, &n, sizeof(n), at) != sizeof(n) ||
		    pread(file, &there, sizeof(there), at) != sizeof(there) || there != n ||
		    *(volatile uint64_t *)(void *)(shared_page + at) != n)
			lost++;
	}
	return arg;
}

/* Bytes of a page, beside those that others store. */
static void *puncher(void *arg)
{
	unsigned char *own = shared_page + 2048 + 3;

	for (unsigned n = 1; n <= ROUNDS; n++) {
		memset(own, (int)(n % 255 + 1), 1000);
		if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2048 + 3, 500) <
			    0 ||
		    own[0] || own[499] || own[500] != n % 255 + 1)
			lost++;
	}
	return arg;
}

static void *syncer(void *arg)
{
	while (!stop)
		if (msync(shared_page, page_size(), MS_SYNC) < 0)
			lost++;
	return arg;
}

static void writers__at_once(void **state)
{
	void *(*const rest[])(void *) = { writer, puncher, syncer };
	pthread_t storers[STORERS], others[ARRAY_SIZE(rest)];
	unsigned char expected[4096], seen[4096];
	struct io_uring ring;
	void *last;

	(void)state;
	make_file("data", SIZE);
	file = open_file("data", O_RDWR);
	shared_page = map_fd(file, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, shared_page, SIZE));
	memset(shared_page, 0, 1024);
	for (uintptr_t i = 0; i < STORERS; i++)
		assert_int_equal(pthread_create(&storers[i], NULL, storer, (void *)i), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		assert_int_equal(pthread_create(&others[i], NULL, rest[i], NULL), 0);
	pthread_join(others[0], NULL);
	pthread_join(others[1], NULL);
	stop = true;
	pthread_join(others[2], NULL);
	for (unsigned i = 0; i < STORERS; i++) {
		pthread_join(storers[i], &last);
		assert_int_equal(*word(i), (uintptr_t)last);
	}
	assert_int_equal(lost, 0);
	memcpy(expected, shared_page, sizeof(expected));
	assert_int_equal(munmap(shared_page, SIZE), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(pread(file, seen, sizeof(seen), 0), sizeof(seen));
	assert_memory_equal(seen, expected, sizeof(seen));
	close(file);
}

/* ---- files that are not concerned ---- */

enum { CALLS = 50 };

static void read_other(int fd)
{
	for (int i = 0; i < CALLS; i++)
		if (pread(fd, buf[0], 100, 0) != 100)
			_exit(2);
}

static void write_other(int fd)
{
	for (int i = 0; i < CALLS; i++)
		if (pwrite(fd, buf[0], 100, 0) != 100)
			_exit(2);
}

/* How many system calls it makes, from one stop to the next. */
static unsigned system_calls(void (*what)(int fd), int fd)
{
	unsigned stops = 0;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(3);
		raise(SIGSTOP);
		what(fd);
		raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	assert_int_equal(
		ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
		0);
	do {
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		stops += WSTOPSIG(status) == (SIGTRAP | 0x80);
	} while (WSTOPSIG(status) != SIGSTOP);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return stops / 2;
}

/* Beside a staged file, reading or writing another costs one fstat(). */
static void other_files__cost_no_lock(void **state)
{
	const unsigned around = 16; /* raise(), and what the library does once in a child */
	unsigned calls;
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	make_file("third", SIZE);
	other = open_file("third", O_RDWR);
	calls = system_calls(read_other, other);
	assert_in_range(calls, CALLS, (with_shim() ? 2 * CALLS : CALLS) + around);
	calls = system_calls(write_other, other);
	assert_in_range(calls, CALLS, (with_shim() ? 2 * CALLS : CALLS) + around);
	/* And the staged one is not taken for another. */
	calls = system_calls(read_other, t.fd[0]);
	if (with_shim() && kernel_refuses())
		assert_in_range(calls, 3 * CALLS, 100 * CALLS);
	close(other);
	alike_end();
}

/* ---- nothing is staged ---- */

static struct {
	int fd, other, dir, pipe[2];
	const char *path;
	int times;
} quiet;

#define IOV (&(struct iovec){ buf[0], 100 })

/* Each name of an input, output or shape of a file, and the system calls that libc makes for
 * it. What a call gives is not looked at. */
#define QUIET(X)                                                                            \
	X(read, 1, read(quiet.fd, buf[0], 100))                                             \
	X(pread, 1, pread(quiet.fd, buf[0], 100, 0))                                        \
	X(readv, 1, readv(quiet.fd, IOV, 1))                                                \
	X(preadv, 1, preadv(quiet.fd, IOV, 1, 0))                                           \
	X(preadv2, 1, preadv2(quiet.fd, IOV, 1, 0, 0))                                      \
	X(read_chk, 1, __read_chk(quiet.fd, buf[0], 100, 100))                              \
	X(pread_chk, 1, __pread_chk(quiet.fd, buf[0], 100, 0, 100))                         \
	X(lseek, 1, lseek(quiet.fd, 0, SEEK_SET))                                           \
	X(lseek_data, 1, lseek(quiet.fd, 0, SEEK_DATA))                                     \
	X(ioctl, 1, ioctl(quiet.fd, FIGETBSZ, (int *)(void *)buf[0]))                       \
	X(clone, 1, ioctl(quiet.fd, FICLONE, quiet.other))                                  \
	X(write, 1, write(quiet.fd, buf[0], 100))                                           \
	X(pwrite, 1, pwrite(quiet.fd, buf[0], 100, 0))                                      \
	X(writev, 1, writev(quiet.fd, IOV, 1))                                              \
	X(pwritev, 1, pwritev(quiet.fd, IOV, 1, 0))                                         \
	X(pwritev2, 1, pwritev2(quiet.fd, IOV, 1, 0, 0))                                    \
	X(ftruncate, 1, ftruncate(quiet.fd, SIZE))                                          \
	X(truncate, 1, truncate(quiet.path, SIZE))                                          \
	X(fallocate, 1, fallocate(quiet.fd, 0, 0, 100))                                     \
	X(posix_fallocate, 1, posix_fallocate(quiet.fd, 0, 100))                            \
	X(copy_file_range, 1,                                                               \
	  copy_file_range(quiet.other, &(off_t){ 0 }, quiet.fd, &(off_t){ 0 }, 100, 0))     \
	X(sendfile, 1, sendfile(quiet.fd, quiet.other, &(off_t){ 0 }, 100))                 \
	X(splice, 1, splice(quiet.pipe[0], NULL, quiet.fd, NULL, 100, SPLICE_F_NONBLOCK))   \
	X(open, 2, close(open(quiet.path, O_RDWR | O_CLOEXEC)))                             \
	X(open_trunc, 2, close(open(quiet.path, O_RDWR | O_TRUNC | O_CLOEXEC)))             \
	X(openat, 2, close(openat(quiet.dir, "quiet", O_RDWR | O_CLOEXEC)))                 \
	X(openat_trunc, 2, close(openat(quiet.dir, "quiet", O_RDWR | O_TRUNC | O_CLOEXEC))) \
	X(creat, 2, close(creat(quiet.path, 0600)))                                         \
	X(open_2, 2, close(__open_2(quiet.path, O_RDWR | O_TRUNC | O_CLOEXEC)))             \
	X(openat_2, 2, close(__openat_2(quiet.dir, "quiet", O_RDWR | O_TRUNC | O_CLOEXEC))) \
	X(dup2, 1, dup2(quiet.fd, quiet.other))                                             \
	X(dup3, 1, dup3(quiet.fd, quiet.other, O_CLOEXEC))                                  \
	X(close_range, 1, close_range(600, 700, 0))                                         \
	X(fsync, 1, fsync(quiet.fd))                                                        \
	X(fdatasync, 1, fdatasync(quiet.fd))                                                \
	X(sync_file_range, 1, sync_file_range(quiet.fd, 0, 100, SYNC_FILE_RANGE_WRITE))     \
	X(syncfs, 1, syncfs(quiet.fd))

#define QUIET_FUNCTION(name, calls, call)             \
	static void quiet_##name(int unused)          \
	{                                             \
		(void)unused;                         \
		for (int i = 0; i < quiet.times; i++) \
			(void)!(call);                \
	}
QUIET(QUIET_FUNCTION)

static const struct {
	const char *name;
	unsigned calls;
	void (*make)(int unused);
} quiet_calls[] = {
#define QUIET_ROW(name, calls, call) { #name, calls, quiet_##name },
	QUIET(QUIET_ROW)
};

/* Of one more call than before, in a child: the first ones may do what is done once there. */
static unsigned calls_of_one(void (*make)(int unused))
{
	unsigned before;

	quiet.times = 2;
	before = system_calls(make, -1);
	quiet.times = 3;
	return system_calls(make, -1) - before;
}

static void part_pays_nothing(void **state)
{
	bool costs = false;
	unsigned calls;

	(void)state;
	quiet.path = path_of("quiet");
	quiet.fd = open_file("quiet", O_RDWR);
	quiet.other = open_file("other", O_RDWR);
	quiet.dir = open(test_dir(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(pipe(quiet.pipe), 0);
	for (int mapped = 0; mapped < 2; mapped++) {
		for (size_t i = 0; i < ARRAY_SIZE(quiet_calls); i++) {
			calls = calls_of_one(quiet_calls[i].make);
			if (calls == quiet_calls[i].calls)
				continue;
			print_error("%s%s: %u system calls, not %u\n", quiet_calls[i].name,
				    mapped ? " of a mapped file" : "", calls,
				    quiet_calls[i].calls);
			costs = true;
		}
		map_fd(quiet.fd, SIZE, 0);
	}
	_exit(costs ? 1 : 0);
}

/* What no program pays for that has nothing staged, whether it maps files or not. */
static void nothing_staged__costs_no_call(void **state)
{
	(void)state;
	make_file("quiet", SIZE);
	make_file("other", SIZE);
	if (with_shim() && !go_where_no_keeper_is())
		skip_test("cannot: this kernel has no name spaces for us");
	assert_int_equal(run_part("pays_nothing"), 0);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(direct_io__reads_staged_range),
		TEST(direct_io__writes_staged_range),
		TEST(direct_io__staged_buffer),
		TEST(limit__of_a_staged_file),
		TEST(writers__at_once),
		TEST(other_files__cost_no_lock),
		TEST(nothing_staged__costs_no_call),
		{ 0 },
	};

	static const struct test parts[] = {
		{ .name = "pays_nothing", .run = part_pays_nothing },
		{ 0 },
	};

	return test_main(argc, argv, cases, parts);
}
