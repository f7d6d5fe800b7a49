/* SPDX-License-Identifier: MIT */
/* Data that goes from descriptor to descriptor inside the kernel, from and to a staged file. */
#include "alike.h"
#include "beside.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

static off_t page(unsigned n)
{
	return (off_t)(n * page_size());
}

/* A file that nothing is staged of. */
static int third(int flags)
{
	make_file("third", SIZE);
	return open_file("third", O_RDWR | flags);
}

static void assert_third_is_alike(int other, off_t at, size_t n)
{
	unsigned char *a = malloc(n), *b = malloc(n);

	assert_true(a && b);
	assert_int_equal(pread(other, a, n, 0), n);
	assert_int_equal(pread(t.fd[1], b, n, at), n);
	assert_memory_equal(a, b, n);
	free(a);
	free(b);
}

static void copy_file_range__into(void **state)
{
	loff_t from[2] = { 100, 100 }, to[2] = { page(2) + 7, page(2) + 7 };
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(0);
	assert_int_equal(both(copy_file_range(other, &from[i], fd, &to[i], (size_t)page(9), 0)),
			 page(9));
	assert_int_equal(from[0], 100 + page(9));
	assert_int_equal(to[0], page(11) + 7);
	/* At the positions, and no further than the source reaches. */
	assert_int_equal(both(lseek(other, SIZE - 50, SEEK_SET)), SIZE - 50);
	both(lseek(fd, page(20), SEEK_SET));
	both(lseek(other, SIZE - 50, SEEK_SET) >= 0
		     ? copy_file_range(other, NULL, fd, NULL, 1000, 0)
		     : -2);
	assert_int_equal(both(lseek(fd, 0, SEEK_CUR)), page(20) + 50);
	alike_same();
	close(other);
	alike_end();
}

static void copy_file_range__from(void **state)
{
	loff_t from = page(1), to = 0;
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(0);
	assert_int_equal(copy_file_range(t.fd[0], &from, other, &to, (size_t)page(20), 0),
			 page(20));
	assert_third_is_alike(other, page(1), (size_t)page(20));
	close(other);
	alike_same();
	alike_end();
}

static void copy_file_range__within(void **state)
{
	loff_t from[2] = { page(3), page(3) }, to[2] = { page(30), page(30) };

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(both(copy_file_range(fd, &from[i], fd, &to[i], (size_t)page(5), 0)),
			 page(5));
	from[0] = from[1] = 0;
	to[0] = to[1] = 100; /* overlaps */
	assert_int_equal(both(copy_file_range(fd, &from[i], fd, &to[i], (size_t)page(5), 0)),
			 -1);
	alike_same();
	alike_end();
}

static void copy_file_range__bad_arguments(void **state)
{
	loff_t bad = -5;
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(0);
	both(copy_file_range(other, &bad, fd, NULL, 10, 0));
	both(copy_file_range(other, NULL, fd, &bad, 10, 0));
	both(copy_file_range(other, NULL, fd, NULL, 10, 77));
	both(copy_file_range(-1, NULL, fd, NULL, 10, 0));
	both(copy_file_range(other, (loff_t *)8, fd, NULL, 10, 0));
	alike_same();
	close(other);
	alike_end();
}

/* Both positions are read before anything is moved. */
static void copy_file_range__one_position_for_both(void **state)
{
	const off_t n = (off_t)(5 * MIB);
	loff_t at[2] = { 5, 5 };
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(0);
	assert_int_equal(both(copy_file_range(other, &at[i], fd, &at[i], (size_t)page(9), 0)),
			 page(9));
	assert_int_equal(at[1], 5 + page(9));
	assert_int_equal(at[0], at[1]);
	/* More than goes at once. */
	make_file("third", (size_t)n);
	at[0] = at[1] = 1;
	assert_int_equal(both(copy_file_range(other, &at[i], fd, &at[i], (size_t)n, 0)), n - 1);
	assert_int_equal(at[1], n);
	assert_int_equal(at[0], at[1]);
	alike_same();
	close(other);
	alike_end();
}

/* All is moved, and then the kernel cannot say how far. */
static void copy_file_range__positions_that_cannot_be_written(void **state)
{
	loff_t *zero = mmap(NULL, page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int other;

	(void)state;
	assert_ptr_not_equal(zero, MAP_FAILED);
	must_begin(SIZE, 0, true);
	other = third(0);
	both(lseek(fd, 777, SEEK_SET));
	assert_int_equal(both(copy_file_range(other, zero, fd, NULL, 100, 0)), -1);
	assert_int_equal(both(lseek(fd, 0, SEEK_CUR)), 877);
	assert_int_equal(both(lseek(other, 50, SEEK_SET) == 50
				      ? copy_file_range(other, NULL, fd, zero, 100, 0)
				      : -2),
			 -1);
	alike_same();
	close(other);
	alike_end();
}

static void sendfile__into(void **state)
{
	off_t from[2] = { 300, 300 };
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(0);
	both(lseek(fd, page(2) + 1, SEEK_SET));
	assert_int_equal(both(sendfile(fd, other, &from[i], (size_t)page(7))), page(7));
	assert_int_equal(from[0], 300 + page(7));
	assert_int_equal(both(lseek(fd, 0, SEEK_CUR)), page(9) + 1);
	assert_int_equal(lseek(other, 0, SEEK_CUR), 0);
	assert_int_equal(both(lseek(other, 50, SEEK_SET) + sendfile(fd, other, NULL, 100)),
			 150);
	both(sendfile(fd, other, (off_t *)8, 100));
	alike_same();
	close(other);
	alike_end();
}

static void sendfile__from(void **state)
{
	off_t from = page(1);
	int other;

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(0);
	assert_int_equal(sendfile(other, t.fd[0], &from, (size_t)page(20)), page(20));
	assert_third_is_alike(other, page(1), (size_t)page(20));
	close(other);
	alike_same();
	alike_end();
}

/* A source that no position can be read from: most kernels refuse it, of any file. */
static void sendfile__from_pipe_into(void **state)
{
	unsigned char data[5000];
	int p[2];

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(pipe(p), 0);
	fill(data, sizeof(data), 0, OTHER);
	both(lseek(fd, page(2) + 9, SEEK_SET));
	assert_int_equal(both(write(p[1], data, sizeof(data))), sizeof(data));
	if (both(sendfile(fd, p[0], NULL, sizeof(data))) > 0)
		assert_content(t.map[0] + page(2) + 9, sizeof(data), 0, OTHER);
	both(sendfile(fd, p[0], &(off_t){ 0 }, sizeof(data)));
	both(lseek(fd, 0, SEEK_CUR));
	close(p[0]);
	close(p[1]);
	alike_same();
	alike_end();
}

/* A source that has no end, and no content at any position. */
static void sendfile__from_device_into(void **state)
{
	int zero;

	(void)state;
	must_begin(SIZE, 0, true);
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_true(zero >= 0);
	both(lseek(fd, page(3) + 9, SEEK_SET));
	both(sendfile(fd, zero, NULL, (size_t)page(7)));
	both(lseek(fd, 0, SEEK_CUR));
	close(zero);
	alike_same();
	alike_end();
}

/* All that is mapped from here on is locked, and little more of that allowed. */
static void lock_all_memory(struct rlimit *ret_before)
{
	struct rlimit limit;
	unsigned long locked = 0;
	char line[256];
	FILE *f;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		assert_int_equal(mlockall(MCL_FUTURE), 0);
	f = fopen("/proc/self/status", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		(void)sscanf(line, "VmLck: %lu", &locked);
	fclose(f);
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, ret_before), 0);
	limit = *ret_before;
	limit.rlim_cur = (locked + 64) * KIB;
	if (limit.rlim_cur <= limit.rlim_max) /* but for root, to whom it does not matter */
		assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
}

static void all_memory_locked__into(void **state)
{
	loff_t from[2] = { 100, 100 }, to[2] = { page(2) + 7, page(2) + 7 };
	struct rlimit limit;
	int other, p[2];

	(void)state;
	must_begin(SIZE - 100, 0, true);
	other = third(0);
	assert_int_equal(pipe(p), 0);
	lock_all_memory(&limit);
	assert_int_equal(both(copy_file_range(other, &from[i], fd, &to[i], (size_t)page(9), 0)),
			 page(9));
	both(lseek(fd, page(12) + 1, SEEK_SET));
	assert_int_equal(both(sendfile(fd, other, &from[i], (size_t)page(7))), page(7));
	assert_int_equal(both(splice(other, &from[i], p[1], NULL, 5000, 0)), 5000);
	to[0] = to[1] = page(30) + 9;
	assert_int_equal(both(splice(p[0], NULL, fd, &to[i], 5000, 0)), 5000);
	/* Over a gap: what was stored behind the end reads zero. */
	to[0] = to[1] = SIZE + 10;
	assert_int_equal(both(copy_file_range(other, &from[i], fd, &to[i], 100, 0)), 100);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	alike_same();
	close(p[0]);
	close(p[1]);
	close(other);
	alike_end();
}

static void all_memory_locked__from(void **state)
{
	off_t from = page(1), to = 0;
	struct rlimit limit;
	int other, p[2];

	(void)state;
	must_begin(SIZE, 0, true);
	other = third(O_TRUNC);
	assert_int_equal(pipe(p), 0);
	lock_all_memory(&limit);
	assert_int_equal(copy_file_range(t.fd[0], &from, other, &to, (size_t)page(7), 0),
			 page(7));
	assert_int_equal(lseek(other, page(7), SEEK_SET), page(7));
	assert_int_equal(sendfile(other, t.fd[0], &from, (size_t)page(7)), page(7));
	assert_int_equal(splice(t.fd[0], &from, p[1], NULL, (size_t)page(7), 0), page(7));
	assert_int_equal(splice(p[0], NULL, other, NULL, (size_t)page(7), 0), page(7));
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	assert_third_is_alike(other, page(1), (size_t)page(21));
	close(p[0]);
	close(p[1]);
	close(other);
	alike_same();
	alike_end();
}

static void splice__into(void **state)
{
	loff_t to[2] = { page(2) + 9, page(2) + 9 };
	unsigned char data[5000];
	int p[2];

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(pipe(p), 0);
	fill(data, sizeof(data), 0, OTHER);
	assert_int_equal(both(write(p[1], data, sizeof(data))), sizeof(data) * 1);
	/* Both have written 5000 bytes: each takes its own. */
	assert_int_equal(both(splice(p[0], NULL, fd, &to[i], sizeof(data), 0)), sizeof(data));
	assert_int_equal(to[0], page(2) + 9 + (off_t)sizeof(data));
	both(lseek(fd, page(9), SEEK_SET));
	assert_int_equal(both(write(p[1], data, 100)), 100);
	assert_int_equal(both(splice(p[0], NULL, fd, NULL, 100, 0)), 100);
	assert_int_equal(both(lseek(fd, 0, SEEK_CUR)), page(9) + 100);
	assert_int_equal(both(splice(p[0], NULL, fd, NULL, 100, SPLICE_F_NONBLOCK)), -1);
	close(p[1]);
	assert_int_equal(both(splice(p[0], NULL, fd, NULL, 100, 0)), 0);
	close(p[0]);
	alike_same();
	alike_end();
}

/* All is moved, and then the kernel cannot say how far. */
static void splice__position_that_cannot_be_written(void **state)
{
	loff_t *zero = mmap(NULL, page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char data[100];
	int p[2];

	(void)state;
	assert_ptr_not_equal(zero, MAP_FAILED);
	must_begin(SIZE, 0, true);
	assert_int_equal(pipe(p), 0);
	fill(data, sizeof(data), 0, OTHER);
	assert_int_equal(both(write(p[1], data, sizeof(data))), sizeof(data));
	assert_int_equal(both(splice(p[0], NULL, fd, zero, sizeof(data), 0)), -1);
	alike_same();
	close(p[0]);
	close(p[1]);
	alike_end();
}

/* Waiting for the pipe holds nobody else up. */
static void splice__waits_for_data(void **state)
{
	unsigned char data[64];
	int p[2], status;
	pid_t pid;

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(pipe(p), 0);
	fill(data, sizeof(data), 0, OTHER);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct timespec ms = { .tv_nsec = 20 * 1000 * 1000 };

		nanosleep(&ms, NULL); /* so that it waits; right either way */
		_exit(write(p[1], data, sizeof(data)) == sizeof(data) ? 0 : 1);
	}
	assert_int_equal(lseek(t.fd[0], 0, SEEK_SET), 0);
	assert_int_equal(splice(p[0], NULL, t.fd[0], NULL, sizeof(data), 0), sizeof(data));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_memory_equal(t.map[0], data, sizeof(data));
	assert_int_equal(pwrite(t.fd[1], data, sizeof(data), 0), sizeof(data));
	close(p[0]);
	close(p[1]);
	alike_same();
	alike_end();
}

/* Nothing that was stored behind the end shows in the gap. */
static void splice__behind_the_end(void **state)
{
	loff_t to[2] = { SIZE - 1000, SIZE - 1000 };
	int p[2];

	(void)state;
	must_begin(SIZE - 3000, 0, true);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "abcabcdefdef", 12), 12);
	assert_int_equal(both(splice(p[0], NULL, fd, &to[i], 3, 0)), 3);
	alike_same();
	close(p[0]);
	close(p[1]);
	alike_end();
}

static void splice__from(void **state)
{
	loff_t from[2] = { page(1) + 90, page(1) + 90 };
	unsigned char got[2][500];
	int p[2];

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(both(splice(fd, &from[i], p[1], NULL, 500, 0)), 500);
	assert_int_equal(both(read(p[0], got[i], 500)), 500);
	assert_memory_equal(got[0], got[1], 500);
	close(p[0]);
	close(p[1]);
	alike_same();
	alike_end();
}

/* ---- staged while such a call into the file goes on ---- */

#define AT    (64 * KIB)
#define COUNT (64 * KIB)

static struct {
	ssize_t (*call)(void);
	int to, from, pipe[2];
	unsigned char data[COUNT];
	struct held held; /* an argument of the call */
	struct beside beside;
} meanwhile;

static ssize_t meanwhile_copy_file_range(void)
{
	return copy_file_range(meanwhile.from, meanwhile.held.at, meanwhile.to, NULL, COUNT, 0);
}

static ssize_t meanwhile_copy_to_offset(void)
{
	loff_t to = AT;

	return copy_file_range(meanwhile.from, meanwhile.held.at, meanwhile.to, &to, COUNT, 0);
}

static ssize_t meanwhile_sendfile(void)
{
	return sendfile(meanwhile.to, meanwhile.from, meanwhile.held.at, COUNT);
}

static ssize_t meanwhile_splice(void)
{
	return splice(meanwhile.pipe[0], NULL, meanwhile.to, NULL, COUNT, 0);
}

static ssize_t meanwhile_splice_to_offset(void)
{
	loff_t to = AT;

	return splice(meanwhile.pipe[0], NULL, meanwhile.to, &to, COUNT, 0);
}

static ssize_t meanwhile_clone(void)
{
	return ioctl(meanwhile.to, FICLONERANGE, meanwhile.held.at) == 0 ? (ssize_t)COUNT : -1;
}

static ssize_t meanwhile_clone_whole(void)
{
	return ioctl(meanwhile.to, FICLONE, meanwhile.from) == 0 ? (ssize_t)COUNT : -1;
}

static void *meanwhile_call(void *result)
{
	struct beside_result *r = result;

	r->ret = meanwhile.call();
	r->err = errno;
	return NULL;
}

static void meanwhile_body(struct beside *b)
{
	struct file_clone_range range = { .src_fd = meanwhile.from,
					  .src_length = COUNT,
					  .dest_offset = AT };
	const bool splices = meanwhile.call == meanwhile_splice ||
			     meanwhile.call == meanwhile_splice_to_offset;
	long number = with_shim() ? SYS_read : SYS_splice;
	pthread_t thread;

	if (meanwhile.call == meanwhile_clone)
		hold(&meanwhile.held, &range, sizeof(range));
	else
		hold(&meanwhile.held, (loff_t[]){ 0 }, sizeof(loff_t));
	assert_int_equal(pthread_create(&thread, NULL, meanwhile_call, &b->result), 0);
	if (splices)
		assert_true(poll_until(thread_sleeps_in, &number, 20000));
	else if (meanwhile.call != meanwhile_clone_whole)
		wait_held(&meanwhile.held);
	/* An offset or a range the library may read itself first: where other processes have
	 * staged something, and of a clone always. Splices wait for data without it. */
	beside_stand(b, false);
	if (splices)
		assert_int_equal(write(meanwhile.pipe[1], meanwhile.data, COUNT), COUNT);
	else if (meanwhile.call != meanwhile_clone_whole)
		let_go(&meanwhile.held);
	pthread_join(thread, NULL);
}

/* Memory has what the call wrote, and so has the file after the program went on with that. */
static void staged_meanwhile(ssize_t (*call)(void), int access, bool by_child)
{
	static unsigned char want[SIZE];
	struct io_uring ring;
	unsigned char *map;
	off_t at = AT;
	int fd, plain;

	make_file("staged", SIZE);
	make_file("plain", SIZE);
	make_file("source", call == meanwhile_clone_whole ? SIZE : COUNT);
	fd = open_file("staged", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	meanwhile.call = call;
	meanwhile.to = access == O_RDWR ? fd : open_file("staged", access);
	meanwhile.from = open_file("source", O_RDWR);
	fill(meanwhile.data, COUNT, 0, NEW);
	fill(want, SIZE, 0, OLD);
	assert_int_equal(pwrite(meanwhile.from, meanwhile.data, COUNT, 0), COUNT);
	assert_int_equal(lseek(meanwhile.to, AT, SEEK_SET), AT);
	assert_int_equal(pipe(meanwhile.pipe), 0);
	ring_init(&ring);
	meanwhile.beside = (struct beside){ .child = by_child, .body = meanwhile_body };
	must_stage(register_beside(&meanwhile.beside, &ring, map, SIZE));
	if (call == meanwhile_clone_whole)
		at = 0;
	if (meanwhile.beside.result.ret < 0) {
		assert_true(call == meanwhile_clone || call == meanwhile_clone_whole);
		assert_true(meanwhile.beside.result.err == EOPNOTSUPP ||
			    meanwhile.beside.result.err == ENOTTY);
	} else {
		assert_in_range(meanwhile.beside.result.ret, 1, COUNT);
		memcpy(want + at, meanwhile.data, (size_t)meanwhile.beside.result.ret);
	}
	assert_memory_equal(map, want, SIZE);
	for (size_t n = 100; n < SIZE; n += page_size())
		map[n] = want[n] = 77;
	assert_int_equal(munmap(map, SIZE), 0);
	io_uring_queue_exit(&ring);
	plain = open_file("plain", O_RDWR);
	assert_int_equal(pwrite(plain, want, SIZE, 0), SIZE);
	assert_int_equal(tool("filetool", "same", path_of("staged"), path_of("plain")), 0);
}

#define STAGED_MEANWHILE(name, call, access)                          \
	static void name##__staged_meanwhile(void **state)            \
	{                                                             \
		(void)state;                                          \
		staged_meanwhile(call, access, false);                \
	}                                                             \
	static void name##__staged_meanwhile_by_another(void **state) \
	{                                                             \
		(void)state;                                          \
		staged_meanwhile(call, access, true);                 \
	}

STAGED_MEANWHILE(copy_file_range, meanwhile_copy_file_range, O_RDWR)
STAGED_MEANWHILE(copy_file_range__to_offset, meanwhile_copy_to_offset, O_WRONLY)
STAGED_MEANWHILE(sendfile, meanwhile_sendfile, O_RDWR)
STAGED_MEANWHILE(splice, meanwhile_splice, O_RDWR)
STAGED_MEANWHILE(splice__to_offset, meanwhile_splice_to_offset, O_WRONLY)
STAGED_MEANWHILE(clone__of_range, meanwhile_clone, O_RDWR)
STAGED_MEANWHILE(clone__of_file, meanwhile_clone_whole, O_RDWR)

/* Nobody knows when it will write, and until then it is in nobody's way. */
static void splice__that_waits_for_data(void **state)
{
	struct beside_result result;
	long number = SYS_read;
	struct io_uring ring;
	unsigned char *map;
	pthread_t thread;

	(void)state;
	if (!with_shim())
		number = SYS_splice;
	make_file("staged", SIZE);
	map = map_file("staged", SIZE);
	meanwhile.call = meanwhile_splice;
	meanwhile.to = open_file("staged", O_RDWR);
	assert_int_equal(pipe(meanwhile.pipe), 0);
	fill(meanwhile.data, COUNT, 0, NEW);
	ring_init(&ring);
	assert_int_equal(pthread_create(&thread, NULL, meanwhile_call, &result), 0);
	assert_true(poll_until(thread_sleeps_in, &number, 20000));
	must_stage(register_one(&ring, map, SIZE));
	assert_content(map, SIZE, 0, OLD);
	assert_int_equal(write(meanwhile.pipe[1], meanwhile.data, 1000), 1000);
	pthread_join(thread, NULL);
	assert_int_equal(result.ret, 1000);
	assert_content(map, 1000, 0, NEW);
	assert_content(map + 1000, SIZE - 1000, 1000, OLD);
	io_uring_queue_exit(&ring);
}

static void clone__has_what_was_stored(void **state)
{
	struct file_clone_range range = { .src_offset = 0, .src_length = SIZE };
	int fd, to, plain, clones, ret;
	unsigned char *map, stored = 0;
	struct io_uring ring;

	(void)state;
	make_file("data", SIZE);
	make_file("clone", SIZE);
	fd = open_file("data", O_RDWR);
	to = open_file("clone", O_RDWR);
	plain = third(0);
	clones = ioctl(to, FICLONE, plain) == 0 ? 0 : errno;
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	map[page(20)] = 7;
	ret = ioctl(to, FICLONE, fd);
	assert_int_equal(ret < 0 ? errno : 0, clones);
	if (!clones) {
		assert_int_equal(pread(to, &stored, 1, page(20)), 1);
		assert_int_equal(stored, 7);
		map[page(20)] = 8;
		range.src_fd = fd;
		assert_int_equal(ioctl(to, FICLONERANGE, &range), 0);
		assert_int_equal(pread(to, &stored, 1, page(20)), 1);
		assert_int_equal(stored, 8);
	}
	/* Into it: as on a file system that has no clones. */
	if (kernel_refuses()) {
		assert_int_equal(ioctl(fd, FICLONE, plain), -1);
		assert_true(errno == EOPNOTSUPP);
		assert_int_equal(map[page(20)], clones ? 7 : 8);
	}
	io_uring_queue_exit(&ring);
	close(plain);
	close(to);
	close(fd);
}

/* Whether two files have the same there is asked of what memory has, on either side. */
static int dedupe(int from, int to, off_t at)
{
	const size_t size =
		sizeof(struct file_dedupe_range) + sizeof(struct file_dedupe_range_info);
	struct file_dedupe_range *range = calloc(1, size);
	int ret;

	assert_non_null(range);
	range->src_offset = (uint64_t)at;
	range->src_length = page_size();
	range->dest_count = 1;
	range->info[0].dest_fd = to;
	range->info[0].dest_offset = (uint64_t)at;
	ret = ioctl(from, FIDEDUPERANGE, range) < 0 ? -errno : range->info[0].status;
	free(range);
	return ret;
}

static void dedupe__compares_what_was_stored(void **state)
{
	unsigned char *map;
	struct io_uring ring;
	int fd, plain;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	plain = third(0);
	if (dedupe(fd, plain, 0) != FILE_DEDUPE_RANGE_SAME)
		skip_test("only for file systems that share what is the same");
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, map, SIZE));
	map[page(20)] ^= 7;
	map[page(24)] ^= 7;
	assert_int_equal(dedupe(fd, plain, page(20)), FILE_DEDUPE_RANGE_DIFFERS);
	assert_int_equal(dedupe(plain, fd, page(24)), FILE_DEDUPE_RANGE_DIFFERS);
	assert_int_equal(pwrite(plain, map + page(20), page_size(), page(20)), page_size());
	assert_int_equal(pwrite(plain, map + page(24), page_size(), page(24)), page_size());
	map[page(28)] ^= 7;
	assert_int_equal(dedupe(fd, plain, page(20)), FILE_DEDUPE_RANGE_SAME);
	assert_int_equal(dedupe(plain, fd, page(24)), FILE_DEDUPE_RANGE_SAME);
	/* Shared or not, the one does not change with the other. */
	map[page(20)] ^= 7;
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(dedupe(fd, plain, page(20)), FILE_DEDUPE_RANGE_DIFFERS);
	io_uring_queue_exit(&ring);
	close(plain);
	close(fd);
}

static void fiemap__has_what_was_stored(void **state)
{
	struct fiemap map = { .fm_length = SIZE, .fm_flags = FIEMAP_FLAG_SYNC };
	struct io_uring ring;
	unsigned char *mem;
	int fd;

	(void)state;
	make_sparse("sparse", SIZE);
	fd = open_file("sparse", O_RDWR);
	mem = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	must_stage(register_one(&ring, mem, SIZE));
	mem[page(20)] = 7;
	if (ioctl(fd, FS_IOC_FIEMAP, &map) == 0)
		assert_int_equal(map.fm_mapped_extents, 1);
	else
		assert_int_equal(errno, EOPNOTSUPP);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* Whatever else ioctl() is asked goes to the kernel as it is, with a number or an address. */
static void ioctl__others_pass(void **state)
{
	int pair[2], n = 0;

	(void)state;
	must_begin(SIZE, 0, true);
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(write(pair[1], "abc", 3), 3);
	assert_int_equal(ioctl(pair[0], FIONREAD, &n), 0);
	assert_int_equal(n, 3);
	errno = 0;
	assert_int_equal(ioctl(-1, FICLONE, t.fd[0]), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(ioctl(t.fd[1], FICLONERANGE, (void *)1), -1);
	assert_true(errno == EFAULT || errno == EOPNOTSUPP || errno == ENOTTY);
	alike_same();
	alike_end();
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(copy_file_range__into),
		TEST(copy_file_range__from),
		TEST(copy_file_range__within),
		TEST(copy_file_range__bad_arguments),
		TEST(copy_file_range__one_position_for_both),
		TEST(copy_file_range__positions_that_cannot_be_written),
		TEST(sendfile__into),
		TEST(sendfile__from),
		TEST(sendfile__from_pipe_into),
		TEST(sendfile__from_device_into),
		TEST(all_memory_locked__into),
		TEST(all_memory_locked__from),
		TEST(splice__into),
		TEST(splice__position_that_cannot_be_written),
		TEST(splice__waits_for_data),
		TEST(splice__behind_the_end),
		TEST(splice__from),
		TEST(copy_file_range__staged_meanwhile),
		TEST(copy_file_range__staged_meanwhile_by_another),
		TEST(copy_file_range__to_offset__staged_meanwhile),
		TEST(copy_file_range__to_offset__staged_meanwhile_by_another),
		TEST(sendfile__staged_meanwhile),
		TEST(sendfile__staged_meanwhile_by_another),
		TEST(splice__staged_meanwhile),
		TEST(splice__staged_meanwhile_by_another),
		TEST(splice__to_offset__staged_meanwhile),
		TEST(splice__to_offset__staged_meanwhile_by_another),
		TEST(clone__of_range__staged_meanwhile),
		TEST(clone__of_range__staged_meanwhile_by_another),
		TEST(clone__of_file__staged_meanwhile),
		TEST(clone__of_file__staged_meanwhile_by_another),
		TEST(splice__that_waits_for_data),
		TEST(clone__has_what_was_stored),
		TEST(dedupe__compares_what_was_stored),
		TEST(fiemap__has_what_was_stored),
		TEST(ioctl__others_pass),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
