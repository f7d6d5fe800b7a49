// SPDX-License-Identifier: MIT
#include "testlib.h"

#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <time.h>

extern char **environ;

static const char *need_env(const char *name)
{
	const char *value = getenv(name);

	if (!value) {
		fprintf(stderr, "%s is not set: start this through tests/run\n", name);
		_exit(1);
	}
	return value;
}

bool with_shim(void)
{
	return strcmp(need_env("TEST_SHIM"), "1") == 0;
}

bool kernel_refuses(void)
{
	return strcmp(need_env("TEST_FS"), "tmpfs") != 0;
}

const char *test_dir(void)
{
	return need_env("TEST_DIR");
}

size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool poll_until(bool (*done)(void *), void *arg, unsigned limit_ms)
{
	uint64_t end = now_ms() + limit_ms;

	while (!done(arg)) {
		if (now_ms() > end)
			return false;
		poll(NULL, 0, 20);
	}
	return true;
}

/* ---- running ---- */

static const struct test *find(const struct test *tests, const char *name)
{
	for (; tests && tests->name; tests++) {
		if (strcmp(tests->name, name) == 0)
			return tests;
	}
	return NULL;
}

int test_main(int argc, char **argv, const struct test *cases, const struct test *parts)
{
	const struct test *test;

	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (test = cases; test->name; test++)
			puts(test->name);
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "--part") == 0) {
		/* Not under cmocka: how a part ends is often what its case is about. */
		test = find(parts, argv[2]);
		if (!test)
			return 2;
		test->run(NULL);
		return 0;
	}
	test = argc == 2 ? find(cases, argv[1]) : NULL;
	if (!test) {
		fprintf(stderr, "usage: %s --list | CASE\n", argv[0]);
		return 2;
	}

	const struct CMUnitTest one[] = { { .name = test->name, .test_func = test->run } };

	return cmocka_run_group_tests(one, NULL, NULL) ? 1 : 0;
}

void skip_test(const char *reason, ...)
{
	va_list ap;

	va_start(ap, reason);
	printf("SKIP: ");
	vprintf(reason, ap);
	printf("\n");
	va_end(ap);
	fflush(NULL);
	_exit(77);
}

/* ---- files and their content ---- */

const char *path_of(const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", test_dir(), name) > 0);
	return path;
}

static unsigned char byte_at(uint64_t offset, unsigned seed)
{
	uint64_t x = (offset / 8 + 1) * 0x9e3779b97f4a7c15ull ^ seed * 0xbf58476d1ce4e5b9ull;

	x ^= x >> 31;
	return (unsigned char)(x >> (offset % 8 * 8));
}

void fill(void *buf, size_t len, uint64_t offset, unsigned seed)
{
	volatile unsigned char *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = byte_at(offset + i, seed);
}

bool memory_is(const void *memory, const void *want, size_t len)
{
	const volatile unsigned char *p = memory;
	const unsigned char *w = want;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != w[i])
			return false;
	}
	return true;
}

ssize_t differs(const void *buf, size_t len, uint64_t offset, unsigned seed)
{
	const volatile unsigned char *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != byte_at(offset + i, seed))
			return (ssize_t)i;
	}
	return -1;
}

void make_file(const char *name, size_t size)
{
	unsigned char *content = malloc(size + 1);
	int fd = open(path_of(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_non_null(content);
	assert_true(fd >= 0);
	fill(content, size, 0, OLD);
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, content + done, size - done, (off_t)done);

		assert_true(n > 0);
		done += (size_t)n;
	}
	free(content);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
}

void make_sparse(const char *name, size_t size)
{
	int fd = open(path_of(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(close(fd), 0);
}

int open_file(const char *name, int flags)
{
	int fd = open(path_of(name), flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

void *map_fd(int fd, size_t size, off_t offset)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

void *map_file(const char *name, size_t size)
{
	int fd = open_file(name, O_RDWR);
	void *map = map_fd(fd, size, 0);

	assert_int_equal(close(fd), 0);
	return map;
}

size_t file_size(const char *name)
{
	struct stat st;

	assert_int_equal(stat(path_of(name), &st), 0);
	return (size_t)st.st_size;
}

/* ---- other processes ---- */

static bool is_shim_setting(const char *entry)
{
	return strncmp(entry, "LD_PRELOAD=", 11) == 0 || strncmp(entry, "PINSTAGE_", 9) == 0;
}

static pid_t spawn(const char *path, const char *const argv[], bool plain)
{
	char **env = environ;
	char **copy = NULL;
	pid_t pid = -1;
	int ret;

	if (plain) {
		size_t n = 0;

		while (environ[n])
			n++;
		copy = calloc(n + 1, sizeof(*copy));
		assert_non_null(copy);
		n = 0;
		for (char **e = environ; *e; e++) {
			if (!is_shim_setting(*e))
				copy[n++] = *e;
		}
		env = copy;
	}
	ret = posix_spawn(&pid, path, NULL, NULL, (char *const *)(uintptr_t)argv, env);
	free(copy);
	if (ret)
		fail_test("cannot start %s: %s\n", path, strerror(ret));
	return pid;
}

int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			fail_test("waitpid: %s\n", strerror(errno));
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

pid_t start_tool(const char *const argv[])
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", need_env("TEST_TOOLS"), argv[0]);
	return spawn(path, argv, true);
}

int run_tool(const char *const argv[])
{
	return wait_for(start_tool(argv));
}

pid_t start_part(const char *part)
{
	const char *const argv[] = { program_invocation_name, "--part", part, NULL };

	return spawn("/proc/self/exe", argv, false);
}

int run_part(const char *part)
{
	return wait_for(start_part(part));
}

void needs_setting(const char *variable, const char *value, const char *name)
{
	const char *is = getenv(variable);

	if (!with_shim() || (is && strcmp(is, value) == 0))
		return;
	assert_int_equal(setenv(variable, value, 1), 0);
	execl("/proc/self/exe", program_invocation_name, name, NULL);
	fail_test("execl: %s\n", strerror(errno));
}

void reached(const char *what)
{
	int fd = open(path_of(what), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static bool exists(void *path)
{
	return access(path, F_OK) == 0;
}

void wait_reached(const char *what)
{
	if (!poll_until(exists, (void *)(uintptr_t)path_of(what), 20000))
		fail_test("the other process did not come to '%s'\n", what);
}

void sleep_for_ever(void)
{
	for (;;)
		pause();
}

bool in_file_at(const char *name, off_t offset, size_t len, off_t base, unsigned seed)
{
	char at[32], n[32], b[32], s[32];

	snprintf(at, sizeof(at), "%lld", (long long)offset);
	snprintf(n, sizeof(n), "%zu", len);
	snprintf(b, sizeof(b), "%lld", (long long)base);
	snprintf(s, sizeof(s), "%u", seed);
	return tool("filecheck", path_of(name), at, n, b, s) == 0;
}

bool in_file(const char *name, off_t offset, size_t len, unsigned seed)
{
	return in_file_at(name, offset, len, 0, seed);
}

struct expected {
	const char *name;
	off_t offset;
	size_t len;
	unsigned seed;
};

static bool is_in_file(void *arg)
{
	struct expected *e = arg;

	return in_file(e->name, e->offset, e->len, e->seed);
}

bool reaches_file(const char *name, off_t offset, size_t len, unsigned seed)
{
	struct expected e = { name, offset, len, seed };

	return poll_until(is_in_file, &e, 20000);
}

struct content {
	const void *buf;
	size_t len;
	uint64_t offset;
	unsigned seed;
};

static bool is_in_memory(void *arg)
{
	const struct content *c = arg;

	return differs(c->buf, c->len, c->offset, c->seed) < 0;
}

bool reaches_memory(const void *buf, size_t len, uint64_t offset, unsigned seed)
{
	struct content c = { buf, len, offset, seed };

	return poll_until(is_in_memory, &c, 30000);
}

/* ---- io_uring ---- */

void ring_init(struct io_uring *ring)
{
	int ret = io_uring_queue_init(8, ring, 0);

	if (ret == -ENOSYS || ret == -EPERM)
		skip_test("cannot: this kernel has no io_uring for us (%s)", strerror(-ret));
	assert_int_equal(ret, 0);
}

struct iovec iov(void *base, size_t len)
{
	return (struct iovec){ .iov_base = base, .iov_len = len };
}

int register_one(struct io_uring *ring, void *base, size_t len)
{
	struct iovec one = iov(base, len);

	return io_uring_register_buffers(ring, &one, 1);
}

void open_data(struct staged *s, size_t size)
{
	make_file("data", size);
	ring_init(&s->ring);
	s->fd = open_file("data", O_RDWR);
	s->map = map_fd(s->fd, size, 0);
}

int open_and_stage(struct staged *s, size_t size)
{
	open_data(s, size);
	return register_one(&s->ring, s->map, size);
}

int make_source(size_t len, unsigned seed)
{
	unsigned char *content = malloc(len);
	int fd = open(path_of("source"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_non_null(content);
	assert_true(fd >= 0);
	fill(content, len, 0, seed);
	assert_int_equal(pwrite(fd, content, len, 0), (ssize_t)len);
	free(content);
	return fd;
}

static struct io_uring_sqe *next_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		abort();
	return sqe;
}

static void run_one(struct io_uring *ring, size_t len)
{
	struct io_uring_cqe *cqe;

	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	assert_int_equal(cqe->res, len);
	io_uring_cqe_seen(ring, cqe);
}

void read_fixed(struct io_uring *ring, int fd, void *buf, size_t len, off_t offset, int index)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	io_uring_prep_read_fixed(sqe, fd, buf, (unsigned)len, (uint64_t)offset, index);
	run_one(ring, len);
}

void write_fixed(struct io_uring *ring, int fd, const void *buf, size_t len, off_t offset,
		 int index)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	io_uring_prep_write_fixed(sqe, fd, buf, (unsigned)len, (uint64_t)offset, index);
	run_one(ring, len);
}

void device_writes(struct io_uring *ring, void *buf, size_t len, int index)
{
	int fd = make_source(len, DEVICE);

	read_fixed(ring, fd, buf, len, 0, index);
	assert_int_equal(close(fd), 0);
}

/* ---- the log ---- */

static unsigned count_lines(const char *what, const char *also)
{
	FILE *log = fopen(need_env("TEST_LOG"), "re");
	unsigned n = 0;
	char line[4096];

	if (!log)
		return 0;
	while (fgets(line, sizeof(line), log)) {
		if (strncmp(line, "pinstage ", 9) != 0)
			fail_test("not a log line: %s", line);
		if (strstr(line, what) && (!also || strstr(line, also)))
			n++;
	}
	fclose(log);
	return n;
}

unsigned log_lines(const char *what)
{
	return count_lines(what, NULL);
}

bool log_has(const char *what, const char *also)
{
	return count_lines(what, also) > 0;
}

void assert_staged(void)
{
	if (with_shim() && kernel_refuses()) {
		if (log_lines("event=stage") == 0)
			fail_test("the log tells of no staging\n");
	} else {
		assert_not_staged();
	}
}

void assert_not_staged(void)
{
	assert_int_equal(log_lines("event=stage"), 0);
}

void assert_refused_once(void)
{
	if (!with_shim())
		return;
	assert_int_equal(log_lines("event=refuse"), 1);
	assert_true(log_has("event=refuse", "reason=\""));
	assert_int_equal(log_lines("event=stage"), 0);
}
