/* SPDX-License-Identifier: MIT */
/*
 * Several processes that write one staged file. Where a write lands follows from a position
 * that they share, or from the end of the file; memory and file must get all of it, at the same
 * place.
 */
#include "beside.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define SIZE	 (256 * KIB)
#define CHILDREN 4
#define RECORD	 64ul

static struct io_uring ring;
static unsigned char *map;
static int fd;

/* `size` bytes of `data`, mapped with room for SIZE. */
static int pin_data(size_t size)
{
	make_file("data", size);
	fd = open_file("data", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	ring_init(&ring);
	return register_one(&ring, map, size);
}

static void unpin_data(void)
{
	io_uring_queue_exit(&ring);
	close(fd);
}

static void run_children(void (*work)(int file, unsigned n), int file)
{
	pid_t pid[CHILDREN];

	for (unsigned n = 0; n < CHILDREN; n++) {
		pid[n] = fork();
		assert_true(pid[n] >= 0);
		if (pid[n] == 0) {
			work(file, n);
			_exit(0);
		}
	}
	for (unsigned n = 0; n < CHILDREN; n++)
		assert_int_equal(wait_for(pid[n]), 0);
}

static void write_records(int file, unsigned n, unsigned count)
{
	unsigned char record[RECORD];

	memset(record, 0xa0 + (int)n, RECORD);
	for (unsigned i = 0; i < count; i++)
		if (write(file, record, RECORD) != (ssize_t)RECORD)
			_exit(1);
}

/* In `bytes` there are `count` records of each child, whole, one after the other. */
static void assert_records(const unsigned char *bytes, unsigned count, const char *where)
{
	unsigned seen[CHILDREN] = { 0 };

	for (size_t r = 0; r < (size_t)count * CHILDREN; r++) {
		const unsigned char *record = bytes + r * RECORD;

		if (record[0] < 0xa0 || record[0] >= 0xa0 + CHILDREN ||
		    memcmp(record, record + 1, RECORD - 1) != 0)
			fail_test("%s: record %zu begins with %#x\n", where, r, record[0]);
		seen[record[0] - 0xa0]++;
	}
	for (unsigned n = 0; n < CHILDREN; n++)
		if (seen[n] != count)
			fail_test("%s: %u records of child %u, not %u\n", where, seen[n], n,
				  count);
}

/* Past the library, which would have it written first. */
static void assert_records_in_file(off_t offset, unsigned count)
{
	const size_t len = (size_t)count * CHILDREN * RECORD;
	unsigned char *const bytes = malloc(len);
	const int file = (int)syscall(SYS_openat, AT_FDCWD, path_of("data"), O_RDONLY);

	assert_non_null(bytes);
	assert_true(file >= 0);
	assert_int_equal(syscall(SYS_pread64, file, bytes, len, offset), len);
	assert_records(bytes, count, "file");
	syscall(SYS_close, file);
	free(bytes);
}

#define EACH 300

static void write_at_shared_position(int file, unsigned n)
{
	write_records(file, n, EACH);
}

static void position__shared_by_children(void **state)
{
	(void)state;
	must_stage(pin_data(SIZE));
	run_children(write_at_shared_position, fd);
	assert_records(map, EACH, "memory");
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_records_in_file(0, EACH);
	assert_content(map + EACH * CHILDREN * RECORD, SIZE - EACH * CHILDREN * RECORD,
		       EACH * CHILDREN * RECORD, OLD);
	unpin_data();
}

/* Into the last page that is staged: what is behind the end there is memory's, too. */
#define APPENDED 15
#define BEGUN	 (SIZE - 4096 + RECORD)

static void append(int file, unsigned n)
{
	file = open_file("data", O_WRONLY | O_APPEND);
	write_records(file, n, APPENDED);
	close(file);
}

static void append__by_children(void **state)
{
	(void)state;
	must_stage(pin_data(BEGUN));
	run_children(append, fd);
	assert_int_equal(file_size("data"), BEGUN + APPENDED * CHILDREN * RECORD);
	assert_records(map + BEGUN, APPENDED, "memory");
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_records_in_file(BEGUN, APPENDED);
	unpin_data();
}

/* Each empties the file, writes, and finds what it or another one wrote: never zeroes. */
static void empty_and_write(int file, unsigned n)
{
	unsigned char record[RECORD], got[RECORD];

	for (unsigned i = 0; i < 50; i++) {
		file = open_file("data", O_RDWR | O_TRUNC);
		memset(record, 0xa0 + (int)n, RECORD);
		if (pwrite(file, record, RECORD, 0) != (ssize_t)RECORD)
			_exit(1);
		if (pread(file, got, RECORD, 0) == (ssize_t)RECORD &&
		    (got[0] < 0xa0 || memcmp(got, got + 1, RECORD - 1)))
			_exit(2);
		close(file);
	}
}

static void open_truncating__by_children(void **state)
{
	(void)state;
	must_stage(pin_data(SIZE));
	run_children(empty_and_write, fd);
	unpin_data();
}

static atomic_bool over;

static void *exchange_names(void *arg)
{
	while (!over)
		if (renameat2(AT_FDCWD, path_of("data"), AT_FDCWD, path_of("other"),
			      RENAME_EXCHANGE) < 0)
			return arg;
	return NULL;
}

/* Whatever a name leads to when it is used: only the file that was cut loses anything. */
static void names__exchanged(bool by_name)
{
	struct stat mine, cut;
	unsigned staged = 0, others = 0;
	pthread_t thread;
	void *failed;
	int other;

	make_file("other", SIZE);
	assert_int_equal(fstat(fd, &mine), 0);
	assert_int_equal(pthread_create(&thread, NULL, exchange_names, &over), 0);
	for (unsigned i = 0; i < 30; i++) {
		fill(map, SIZE, 0, NEW);
		if (by_name) {
			assert_int_equal(truncate(path_of("data"), 0), 0);
			assert_int_equal(fstat(fd, &cut), 0);
		} else {
			other = open(path_of("data"), O_WRONLY | O_TRUNC | O_CLOEXEC);
			assert_true(other >= 0);
			assert_int_equal(fstat(fd, &cut), 0);
			close(other);
		}
		if (cut.st_size == 0) {
			staged++;
			assert_int_equal(ftruncate(fd, SIZE), 0);
		} else {
			others++;
			assert_content(map, SIZE, 0, NEW);
			assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
		}
	}
	over = true;
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	print_message("%u times ours, %u times the other\n", staged, others);
}

static void open_truncating__names_exchanged(void **state)
{
	(void)state;
	must_stage(pin_data(SIZE));
	names__exchanged(false);
	unpin_data();
}

static void truncate__names_exchanged(void **state)
{
	(void)state;
	must_stage(pin_data(SIZE));
	names__exchanged(true);
	unpin_data();
}

/* ---- by name, where descriptors or /proc do not say what they seem to ---- */

static void *cut_with_own_table(void *arg)
{
	atomic_int *step = arg;

	if (unshare(CLONE_FILES) < 0)
		return NULL;
	atomic_store(step, 1);
	while (atomic_load(step) < 2)
		sched_yield();
	return (void *)(uintptr_t)(truncate(path_of("data"), 4096) == 0);
}

/* In a thread with a descriptor table of its own, numbers mean other files than in the rest of
 * the process. */
static void truncate__by_thread_with_own_table(void **state)
{
	struct rlimit limit;
	atomic_int step = 0;
	int victim, number;
	pthread_t thread;
	void *done;

	(void)state;
	must_stage(pin_data(SIZE));
	make_file("victim", SIZE);
	victim = open_file("victim", O_RDWR);
	assert_int_equal(truncate(path_of("data"), SIZE), 0); /* opens what stays open */
	assert_int_equal(pthread_create(&thread, NULL, cut_with_own_table, &step), 0);
	while (atomic_load(&step) < 1)
		sched_yield();
	/* Where the library's own are, as far as a program can know. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (number = limit.rlim_cur < 8192 ? (int)limit.rlim_cur / 2 : 4096;
	     syscall(SYS_fcntl, number, F_GETFD) >= 0;)
		number++;
	for (int i = 0; i < 4; i++)
		assert_int_equal(dup2(victim, number + i), number + i);
	atomic_store(&step, 2);
	assert_int_equal(pthread_join(thread, &done), 0);
	assert_non_null(done);
	assert_int_equal(file_size("victim"), SIZE);
	assert_in_file("victim", 0, SIZE, OLD);
	assert_int_equal(file_size("data"), 4096);
	for (int i = 0; i < 4; i++)
		close(number + i);
	unpin_data();
}

/* Another root directory, without /proc. */
static void truncate__in_bare_root(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		assert_int_equal(chroot(test_dir()), -1); /* nobody else gets there */
		return;
	}
	must_stage(pin_data(SIZE));
	assert_int_equal(chroot(test_dir()), 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(truncate("/data", 0), 0);
	assert_int_equal(pwrite(fd, "0123456789", 10, 0), 10);
	assert_int_equal(map[20], 0);
	assert_int_equal(close(open("/data", O_WRONLY | O_TRUNC)), 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(map[0], 0);
	unpin_data();
}

/* ---- threads that write as it gets staged ---- */

enum { WRITERS = 3, RECORDS = 12000 };

struct record {
	uint64_t writer, n, rest[6];
};

static atomic_uint running, written[WRITERS];

static void *write_all(void *arg)
{
	struct record r = { .writer = (uintptr_t)arg };

	memset(r.rest, 0xa5, sizeof(r.rest));
	for (r.n = 0; r.n < RECORDS; r.n++)
		if (write(fd, &r, sizeof(r)) == sizeof(r))
			written[r.writer]++;
	written[r.writer] = UINT_MAX / 2;
	running--;
	return NULL;
}

/* Until nobody is left in a call that began before. */
static void wait_for_writers(void)
{
	unsigned before[WRITERS];

	for (int i = 0; i < WRITERS; i++)
		before[i] = written[i];
	for (int i = 0; i < WRITERS; i++)
		while (written[i] < UINT_MAX / 2 && written[i] < before[i] + 2)
			usleep(100);
}

/* In each page, a field that nobody looks at: then the memory of all of them has changed. */
static void store_to_pages(unsigned char *bytes, size_t len)
{
	for (size_t at = 0; at < len; at += page_size())
		((struct record *)(bytes + at))->rest[5]++;
}

/* Whoever began to write before is not told where the kernel put it, and is waited for: where
 * file and memory both have changed, the memory's page would be written over the record. */
static void write_while_staged(int flags)
{
	static unsigned char seen[WRITERS][RECORDS];
	const size_t size = WRITERS * RECORDS * sizeof(struct record);
	const struct record *records;
	pthread_t thread[WRITERS];
	unsigned staged = 0, lost = 0;
	size_t len;

	make_file("data", flags & O_APPEND ? 0 : size);
	fd = open_file("data", O_RDWR | flags);
	ring_init(&ring);
	running = WRITERS;
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, write_all, (void *)i), 0);
	while (running) {
		map = map_fd(fd, size, 0);
		len = file_size("data") & -page_size();
		if (register_one(&ring, map, len) == 0) {
			staged++;
			store_to_pages(map, len);
			assert_int_equal(msync(map, len, MS_SYNC), 0);
			wait_for_writers();
			io_uring_unregister_buffers(&ring);
		}
		munmap(map, size);
		usleep(1000);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	if (with_shim() && kernel_refuses())
		assert_true(staged > 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(file_size("data"), size);
	records = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(records, MAP_FAILED);
	for (size_t i = 0; i < size / sizeof(*records); i++)
		if (records[i].writer >= WRITERS || records[i].n >= RECORDS ||
		    seen[records[i].writer][records[i].n]++)
			lost++;
	if (lost)
		fail_test("%u records lost in %u stagings\n", lost, staged);
	close(fd);
}

static void position__shared_by_threads_while_staged(void **state)
{
	(void)state;
	write_while_staged(0);
}

static void append__by_threads_while_staged(void **state)
{
	(void)state;
	write_while_staged(O_APPEND);
}

/* ---- one call that stands half way ---- */

enum { HELD = 3000 };

static struct {
	ssize_t (*call)(const void *from);
	struct held held;
	struct beside beside;
} straddling;

static ssize_t call_write(const void *from)
{
	return write(fd, from, HELD);
}

static ssize_t call_pwrite(const void *from)
{
	return pwrite(fd, from, HELD, HELD);
}

static ssize_t call_writev(const void *from)
{
	struct iovec v[2] = { iov((void *)(uintptr_t)from, 1000),
			      iov((char *)(uintptr_t)from + 1000, HELD - 1000) };

	return writev(fd, v, 2);
}

static ssize_t call_pwritev(const void *from)
{
	struct iovec v = iov((void *)(uintptr_t)from, HELD);

	return pwritev(fd, &v, 1, HELD);
}

static ssize_t call_pwritev2(const void *from)
{
	struct iovec v = iov((void *)(uintptr_t)from, HELD);

	return pwritev2(fd, &v, 1, HELD, 0);
}

static void *straddling_call(void *result)
{
	struct beside_result *r = result;

	r->ret = straddling.call(straddling.held.at);
	r->err = errno;
	return NULL;
}

static void straddling_body(struct beside *b)
{
	unsigned char content[HELD];
	pthread_t thread;

	fill(content, HELD, HELD, NEW);
	hold(&straddling.held, content, HELD);
	assert_int_equal(pthread_create(&thread, NULL, straddling_call, &b->result), 0);
	wait_held(&straddling.held);
	beside_stand(b, straddling.held.fd >= 0);
	let_go(&straddling.held);
	pthread_join(thread, NULL);
}

/* Memory and file have what it wrote, once each, where it wrote it. */
static void straddle(ssize_t (*call)(const void *from), int flags, bool by_child)
{
	const size_t begin = flags & O_APPEND ? SIZE - KIB : HELD;

	make_file("data", flags & O_APPEND ? begin : SIZE);
	fd = open_file("data", O_RDWR | flags);
	map = map_fd(fd, SIZE, 0);
	assert_int_equal(lseek(fd, HELD, SEEK_SET), HELD);
	ring_init(&ring);
	straddling.call = call;
	straddling.beside = (struct beside){ .child = by_child, .body = straddling_body };
	must_stage(register_beside(&straddling.beside, &ring, map, 128 * KIB));
	assert_int_equal(straddling.beside.result.ret, HELD);
	if (!(flags & O_APPEND))
		assert_content(map + begin, HELD, HELD, NEW);
	map[0]++;
	map[begin - 1]++;
	map[128 * KIB - 1]++;
	assert_int_equal(msync(map, 128 * KIB, MS_SYNC), 0);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
	if (flags & O_APPEND)
		assert_int_equal(file_size("data"), begin + HELD);
	assert_true(in_file_at("data", (off_t)begin, HELD, (off_t)begin - HELD, NEW));
	if (!(flags & O_APPEND))
		assert_in_file("data", begin + HELD, 128 * KIB - 1 - begin - HELD, OLD);
	close(fd);
}

#define STAGED_MEANWHILE(name, call, flags)                           \
	static void name##__staged_meanwhile(void **state)            \
	{                                                             \
		(void)state;                                          \
		straddle(call, flags, false);                         \
	}                                                             \
	static void name##__staged_meanwhile_by_another(void **state) \
	{                                                             \
		(void)state;                                          \
		straddle(call, flags, true);                          \
	}

STAGED_MEANWHILE(write, call_write, 0)
STAGED_MEANWHILE(append, call_write, O_APPEND)
STAGED_MEANWHILE(writev, call_writev, 0)
STAGED_MEANWHILE(pwrite, call_pwrite, 0)
STAGED_MEANWHILE(pwritev, call_pwritev, 0)
STAGED_MEANWHILE(pwritev2, call_pwritev2, 0)

/* Readers that share a position: whoever reads gets what memory has, wherever the others have
 * moved the position meanwhile. */
static ssize_t call_read(void *buf, size_t n)
{
	return read(fd, buf, n);
}

static ssize_t call_readv(void *buf, size_t n)
{
	const struct iovec iov[2] = { { buf, n / 2 }, { (char *)buf + n / 2, n - n / 2 } };

	return readv(fd, iov, 2);
}

static ssize_t call_preadv2(void *buf, size_t n)
{
	const struct iovec iov = { buf, n };

	return preadv2(fd, &iov, 1, -1, 0);
}

static struct {
	ssize_t (*call)(void *buf, size_t n);
	atomic_int value;
	atomic_uint stale, seen;
} reading;

static void *read_all(void *arg)
{
	unsigned char buf[4 * KIB];
	ssize_t n;

	(void)arg;
	while ((n = reading.call(buf, sizeof(buf))) > 0) {
		atomic_fetch_add(&reading.seen, 1);
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] == atomic_load(&reading.value))
				continue;
			atomic_fetch_add(&reading.stale, 1);
			break;
		}
	}
	return NULL;
}

static void read_by_four(ssize_t (*call)(void *buf, size_t n), bool children)
{
	pthread_t thread[4];
	int status;

	must_stage(pin_data(256 * KIB));
	reading.call = call;
	for (int round = 1; round <= 20; round++) {
		atomic_store(&reading.value, round);
		memset(map, round, 256 * KIB);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		for (int i = 0; i < 4 && children; i++) {
			if (fork() == 0) {
				read_all(NULL);
				_exit(reading.stale != 0);
			}
		}
		for (int i = 0; i < 4 && children; i++) {
			assert_true(wait(&status) > 0);
			assert_int_equal(status, 0);
		}
		for (int i = 0; i < 4 && !children; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, read_all, NULL), 0);
		for (int i = 0; i < 4 && !children; i++)
			assert_int_equal(pthread_join(thread[i], NULL), 0);
	}
	assert_int_equal(reading.stale, 0);
	assert_int_equal(reading.seen, children ? 0 : 20 * 64);
	unpin_data();
}

static void read__position_shared_by_threads(void **state)
{
	(void)state;
	read_by_four(call_read, false);
}

static void read__position_shared_by_children(void **state)
{
	(void)state;
	read_by_four(call_read, true);
}

static void readv__position_shared_by_threads(void **state)
{
	(void)state;
	read_by_four(call_readv, false);
}

static void preadv2__position_shared_by_threads(void **state)
{
	(void)state;
	read_by_four(call_preadv2, false);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(position__shared_by_children),
		TEST(append__by_children),
		TEST(open_truncating__by_children),
		TEST(open_truncating__names_exchanged),
		TEST(truncate__names_exchanged),
		TEST(truncate__by_thread_with_own_table),
		TEST(truncate__in_bare_root),
		TEST(position__shared_by_threads_while_staged),
		TEST(append__by_threads_while_staged),
		TEST(write__staged_meanwhile),
		TEST(write__staged_meanwhile_by_another),
		TEST(append__staged_meanwhile),
		TEST(append__staged_meanwhile_by_another),
		TEST(writev__staged_meanwhile),
		TEST(writev__staged_meanwhile_by_another),
		TEST(pwrite__staged_meanwhile),
		TEST(pwrite__staged_meanwhile_by_another),
		TEST(pwritev__staged_meanwhile),
		TEST(pwritev__staged_meanwhile_by_another),
		TEST(pwritev2__staged_meanwhile),
		TEST(pwritev2__staged_meanwhile_by_another),
		TEST(read__position_shared_by_threads),
		TEST(read__position_shared_by_children),
		TEST(readv__position_shared_by_threads),
		TEST(preadv2__position_shared_by_threads),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
