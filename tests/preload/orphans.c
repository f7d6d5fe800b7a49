// SPDX-License-Identifier: MIT
/*
 * A forked child that shows a staged range for reading only, and has not talked to the keeper
 * since the process that staged it is gone: the segment must not end meanwhile, and what the
 * child does then has to come out as on a native mapping.
 */
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "testlib.h"

#define SIZE   (256 * KIB)
#define HALVES 2

/* The children, for the test itself, which outlives their parent: it may get to wait for a
 * keeper's processes, too. */
static pid_t *pids;

struct view {
	int fd;
	unsigned char *map; /* only for reading, and never for more */
	unsigned child;	    /* which */
	pid_t parent;
	int baton[2]; /* from the first child to the second */
};

static bool is_sealed(const char *number)
{
	char name[64] = "", path[300];
	int fd = atoi(number), seals;

	snprintf(path, sizeof(path), "/proc/self/fd/%s", number);
	if (readlink(path, name, sizeof(name) - 1) < 0 || !strstr(name, "memfd:pinstage"))
		return false;
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_WRITE;
}

static bool any_sealed(void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	bool found = false;

	(void)arg;
	while (dir && !found && (e = readdir(dir)))
		found = is_sealed(e->d_name);
	closedir(dir);
	return found;
}

static int stage_for_reading(struct view *v)
{
	struct io_uring ring;
	unsigned char *map;
	int ret, fd;

	make_file("data", SIZE);
	v->fd = open_file("data", O_RDWR);
	map = map_fd(v->fd, SIZE, 0);
	fd = open_file("data", O_RDONLY);
	v->map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(v->map, MAP_FAILED);
	ring_init(&ring);
	ret = register_one(&ring, map, SIZE);
	fill(map, SIZE, 0, NEW);
	io_uring_queue_exit(&ring);
	munmap(map, SIZE);
	return ret;
}

static bool is_orphan(void *arg)
{
	const struct view *v = arg;

	return getppid() != v->parent;
}

/* The keeper learns of the parent's end a little later than we. */
static void child(struct view *v, unsigned which, int (*act)(struct view *))
{
	v->child = which;
	if (!poll_until(is_orphan, v, 20000))
		_exit(100);
	if (poll_until(any_sealed, NULL, 300))
		_exit(103);
	_exit(act(v));
}

/* The process that stages, and forks those that act when it is gone. */
static void parent(unsigned children, int (*act)(struct view *))
{
	struct view v;
	int ret;

	v.parent = getpid();
	if (pipe(v.baton) < 0)
		_exit(101);
	ret = stage_for_reading(&v);
	if (ret)
		_exit(-ret);
	for (unsigned i = 0; i < children; i++) {
		pid_t pid = fork();

		if (pid < 0)
			_exit(102);
		if (pid == 0)
			child(&v, i, act);
		pids[i] = pid;
	}
	_exit(0);
}

/* False where the kernel refuses, and there is no shim. */
static bool run(unsigned children, int (*act)(struct view *))
{
	int ret;
	pid_t pid;

	pids = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		    0);
	assert_ptr_not_equal(pids, MAP_FAILED);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		parent(children, act);
	ret = wait_for(pid);
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(ret, EFAULT);
		return false;
	}
	assert_int_equal(ret, 0);
	for (unsigned i = 0; i < children; i++)
		assert_int_equal(wait_for(pids[i]), 0);
	return true;
}

/* ---- one child ---- */

static int writes(struct view *v)
{
	unsigned char *buf = malloc(SIZE);

	fill(buf, SIZE, 0, NEWER);
	if (pwrite(v->fd, buf, SIZE / 2, 0) != SIZE / 2)
		return 1;
	if (differs(v->map, SIZE / 2, 0, NEWER) >= 0)
		return 2;
	return in_file("data", 0, SIZE / 2, NEWER) && in_file("data", SIZE / 2, SIZE / 2, NEW)
		       ? 0
		       : 3;
}

static void write__parent_gone(void **state)
{
	(void)state;
	if (!run(1, writes))
		return;
	assert_in_file("data", 0, SIZE / 2, NEWER);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
}

static int maps(struct view *v)
{
	unsigned char *map = map_fd(v->fd, SIZE, 0);

	if (differs(map, SIZE, 0, NEW) >= 0)
		return 1;
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEWER);
	if (differs(v->map + SIZE / 2, SIZE / 2, SIZE / 2, NEWER) >= 0)
		return 2;
	if (msync(map, SIZE, MS_SYNC) < 0 || !in_file("data", SIZE / 2, SIZE / 2, NEWER))
		return 3;
	fill(map, SIZE / 2, 0, OTHER);
	return 0;
}

static void mmap__writable_parent_gone(void **state)
{
	(void)state;
	if (!run(1, maps))
		return;
	assert_in_file("data", 0, SIZE / 2, OTHER);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEWER);
}

static int registers(struct view *v)
{
	unsigned char *map = map_fd(v->fd, SIZE, 0);
	struct io_uring ring;

	ring_init(&ring);
	if (register_one(&ring, map, SIZE))
		return 1;
	device_writes(&ring, map, SIZE, 0);
	return differs(v->map, SIZE, 0, DEVICE) < 0 ? 0 : 2;
}

static void register__parent_gone(void **state)
{
	(void)state;
	if (!run(1, registers))
		return;
	assert_in_file("data", 0, SIZE, DEVICE);
}

static int grows(struct view *v)
{
	static const char zero[SIZE / 2];

	/* The end moves into the range, and out of it again. */
	if (ftruncate(v->fd, SIZE / 2) < 0 || ftruncate(v->fd, SIZE) < 0)
		return 1;
	if (differs(v->map, SIZE / 2, 0, NEW) >= 0)
		return 2;
	return memcmp(v->map + SIZE / 2, zero, SIZE / 2) ? 3 : 0;
}

static void ftruncate__parent_gone(void **state)
{
	(void)state;
	if (!run(1, grows))
		return;
	assert_in_file("data", 0, SIZE / 2, NEW);
}

static int reads(struct view *v)
{
	unsigned char *buf = malloc(SIZE);

	if (pread(v->fd, buf, SIZE, 0) != SIZE || differs(buf, SIZE, 0, NEW) >= 0)
		return 1;
	return differs(v->map, SIZE, 0, NEW) < 0 ? 0 : 2;
}

static void read__parent_gone(void **state)
{
	(void)state;
	if (!run(1, reads))
		return;
	assert_in_file("data", 0, SIZE, NEW);
}

#define LATER	 (SIZE / 2) /* where others write, and who comes later */
#define LATER_BY 4096

/* Finds what others wrote, and stores once more what memory had before that. */
static void part_comes_later(void **state)
{
	static const unsigned char zeroes[LATER_BY];
	unsigned char *map = map_file("data", SIZE);

	(void)state;
	if (memcmp(map + LATER, zeroes, LATER_BY) != 0)
		_exit(1);
	fill(map + LATER, LATER_BY, LATER, NEW);
	_exit(msync(map, SIZE, MS_SYNC) < 0 ? 2 : 0);
}

static int waits_for_one_who_comes(struct view *v)
{
	static const unsigned char zeroes[LATER_BY];
	int ret;

	for (int round = 0; round < 20; round++) {
		if (syscall(SYS_pwrite64, v->fd, zeroes, LATER_BY, LATER) != LATER_BY)
			return 10;
		ret = run_part("comes_later");
		if (ret)
			return ret;
		if (!in_file("data", LATER, LATER_BY, NEW))
			return 11;
	}
	return 0;
}

/* It maps what nobody uses any more, and is still staged. */
static void mmap__after_an_outsider(void **state)
{
	(void)state;
	if (!run(1, waits_for_one_who_comes))
		return;
	assert_in_file("data", 0, SIZE, NEW);
}

/* ---- two ---- */

static bool sees_newer(void *arg)
{
	struct view *v = arg;

	return differs(v->map, SIZE, 0, NEWER) < 0;
}

/* Each writes a half; both see both. */
static int write_in_turn(struct view *v)
{
	unsigned char *buf = malloc(SIZE), c = 0;
	const size_t at = v->child * SIZE / HALVES;

	fill(buf, SIZE, 0, NEWER);
	if (v->child == 1 && read(v->baton[0], &c, 1) != 1)
		return 1;
	if (pwrite(v->fd, buf + at, SIZE / HALVES, (off_t)at) != SIZE / HALVES)
		return 2;
	if (v->child == 0 && write(v->baton[1], &c, 1) != 1)
		return 3;
	return poll_until(sees_newer, v, 20000) ? 0 : 4;
}

static void write__two_children_parent_gone(void **state)
{
	(void)state;
	if (!run(HALVES, write_in_turn))
		return;
	assert_in_file("data", 0, SIZE, NEWER);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(write__parent_gone),
		TEST(mmap__writable_parent_gone),
		TEST(register__parent_gone),
		TEST(ftruncate__parent_gone),
		TEST(read__parent_gone),
		TEST(mmap__after_an_outsider),
		TEST(write__two_children_parent_gone),
		{ 0 },
	};
	static const struct test parts[] = {
		{ .name = "comes_later", .run = part_comes_later },
		{ 0 },
	};

	return test_main(argc, argv, cases, parts);
}
