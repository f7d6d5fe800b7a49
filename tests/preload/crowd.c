// SPDX-License-Identifier: MIT
/*
 * Registration in a process with many mappings. What the kernel's list of them costs is counted
 * in bytes read of it, not in time.
 */
#include "testlib.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SIZE	      (256 * KIB)
#define CROWD	      10000
#define PROCMAP_QUERY 0xc0686611 /* of Linux 6.11 */

/* What this process has read so far, of whatever. */
static unsigned long bytes_read(void)
{
	FILE *io = fopen("/proc/self/io", "re");
	unsigned long n = 0;

	if (!io)
		skip_test("cannot: no /proc/self/io");
	assert_int_equal(fscanf(io, "rchar: %lu", &n), 1);
	fclose(io);
	return n;
}

static unsigned long size_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	static char buf[65536];
	unsigned long sum = 0;
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		sum += (unsigned long)n;
	assert_int_equal(n, 0);
	close(fd);
	return sum;
}

/* Mappings of another file, of which no two can be one. */
static void gather(void)
{
	int fd;

	make_file("crowd", page_size());
	fd = open_file("crowd", O_RDWR);
	for (int i = 0; i < CROWD; i++)
		map_fd(fd, page_size(), 0);
	close(fd);
}

/* Registers and uses a buffer; the list may have been read so often, in hundredths. */
static void register_in_crowd(unsigned long most)
{
	unsigned long before, whole;
	struct io_uring ring;
	unsigned char *map;
	int ret;

	gather();
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	whole = size_of("/proc/self/smaps");
	before = bytes_read();
	ret = register_one(&ring, map, SIZE);
	before = bytes_read() - before;
	must_stage_in_part(ret);
	if (before > whole * most / 100)
		fail_test("%lu bytes read; all of smaps is %lu\n", before, whole);
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	io_uring_queue_exit(&ring);
}

static void in_crowd(void **state)
{
	(void)state;
	register_in_crowd(2);
}

/* What a kernel before 6.11 says. */
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
}

/* maps is read instead, which is a good deal shorter. */
static void in_crowd_without_query(void **state)
{
	(void)state;
	forbid_query();
	register_in_crowd(75);
}

/* Lines of the log read the list, too. */
static void register__among_many_mappings(void **state)
{
	(void)state;
	unsetenv("PINSTAGE_LOG");
	must_run("in_crowd", 0);
}

static void register__among_many_kernel_cannot_say(void **state)
{
	(void)state;
	unsetenv("PINSTAGE_LOG");
	must_run("in_crowd_without_query", 0);
}

/* All at once, each in a mapping of its own. */
static void register__many_mappings(void **state)
{
	enum { N = 100 };
	struct iovec iovecs[N];
	const size_t page = page_size();
	struct io_uring ring;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", 2 * N * page);
	fd = open_file("data", O_RDWR);
	ring_init(&ring);
	for (size_t i = 0; i < N; i++) {
		map = map_fd(fd, page, (off_t)(2 * i * page));
		iovecs[i] = iov(map, page);
	}
	must_stage(io_uring_register_buffers(&ring, iovecs, N));
	for (int i = 0; i < N; i += 33) {
		device_writes(&ring, iovecs[i].iov_base, page, i);
		assert_int_equal(msync(iovecs[i].iov_base, page, MS_SYNC), 0);
		if (!in_file_at("data", 2 * i * (off_t)page, page, 2 * i * (off_t)page, DEVICE))
			fail_test("mapping %d: not in the file\n", i);
	}
	io_uring_queue_exit(&ring);
	close(fd);
}

static const struct test cases[] = {
	TEST(register__among_many_mappings),
	TEST(register__among_many_kernel_cannot_say),
	TEST(register__many_mappings),
	{ 0 },
};

static const struct test parts[] = {
	TEST(in_crowd),
	TEST(in_crowd_without_query),
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases, parts);
}
