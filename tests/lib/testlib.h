/* SPDX-License-Identifier: MIT */
/*
 * What the preload tests share. These programs are not linked to the shim: tests/run starts
 * each of their cases in a process of its own, once with the shim preloaded and once without.
 *
 * Environment that tests/run gives:
 *   TEST_DIR    a fresh directory on the file system under test, removed afterwards
 *   TEST_FS     ext4, xfs, btrfs, overlay or tmpfs
 *   TEST_SHIM   1 with the shim, 0 without
 *   TEST_LOG    where the shim writes its log (also in PINSTAGE_LOG)
 *   TEST_TOOLS  the directory of the helper programs
 */
#ifndef TESTLIB_H
#define TESTLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <liburing.h>

#define KIB	      1024ul
#define MIB	      (1024ul * KIB)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Contents are told apart by a seed; OLD is what make_file() writes. */
enum { OLD = 1, NEW, NEWER, DEVICE, OTHER };

/* A case, or a part: what a case lets run in another process of the same program. */
struct test {
	const char *name;
	void (*run)(void **state);
};
#define TEST(f)                      \
	{                            \
		.name = #f, .run = f \
	}

/*
 * The main() of a test program: `prog --list`, `prog CASE`, `prog --part PART`.
 * Exit status 0 passed, 1 failed, 77 skipped (the reason is printed).
 */
int test_main(int argc, char **argv, const struct test *cases, const struct test *parts);

/* Ends the case: this machine cannot do what the case needs. */
void skip_test(const char *reason, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Ends the case with a message, from the file and line of the caller. */
#define fail_test(...) (print_error(__VA_ARGS__), _fail(__FILE__, __LINE__))

bool with_shim(void);
/* Whether TEST_FS is one on which the kernel refuses to pin a shared writable mapping. */
bool kernel_refuses(void);
const char *test_dir(void);
size_t page_size(void);
uint64_t now_ms(void);
/* No event can be waited for: asks `done` again every few ms, at most `limit_ms`. */
bool poll_until(bool (*done)(void *), void *arg, unsigned limit_ms);

/*
 * The result of registering a range that the kernel refuses. Without the shim the kernel's
 * own EFAULT must show, and the case is over; with it the registration must have worked.
 */
#define must_stage(ret)                                             \
	do {                                                        \
		int must_stage_ret_ = (ret);                        \
		if (kernel_refuses() && !with_shim()) {             \
			assert_int_equal(must_stage_ret_, -EFAULT); \
			return;                                     \
		}                                                   \
		assert_int_equal(must_stage_ret_, 0);               \
	} while (0)

/* The same in a part, which then ends with EFAULT as its exit status; see must_run(). */
#define must_stage_in_part(ret)                                                     \
	do {                                                                        \
		int must_stage_ret_ = (ret);                                        \
		if (kernel_refuses() && !with_shim() && must_stage_ret_ == -EFAULT) \
			_exit(EFAULT);                                              \
		assert_int_equal(must_stage_ret_, 0);                               \
	} while (0)
/* Runs a part that has to stage and must then end with exit status 0, or -signal. */
#define must_run(part, status)                                   \
	do {                                                     \
		int must_run_ret_ = run_part(part);              \
		if (kernel_refuses() && !with_shim()) {          \
			assert_int_equal(must_run_ret_, EFAULT); \
			return;                                  \
		}                                                \
		assert_int_equal(must_run_ret_, status);         \
	} while (0)

/* Files, all in test_dir(). Functions that cannot do their work fail the case. */
const char *path_of(const char *name);	       /* lives as long as the process */
void make_file(const char *name, size_t size); /* filled with OLD */
void make_sparse(const char *name, size_t size);
int open_file(const char *name, int flags);
void *map_fd(int fd, size_t size, off_t offset); /* shared and writable */
void *map_file(const char *name, size_t size);	 /* the same; keeps no descriptor */
size_t file_size(const char *name);

/* The content that `seed` has at file offset `offset`. */
void fill(void *buf, size_t len, uint64_t offset, unsigned seed);
/* Of memory that others may be changing, which memcmp() looks at twice. */
bool memory_is(const void *memory, const void *want, size_t len);
/* Offset of the first byte of `buf` that is not `seed`'s, or -1. */
ssize_t differs(const void *buf, size_t len, uint64_t offset, unsigned seed);
#define assert_content(buf, len, offset, seed)                                                 \
	do {                                                                                   \
		ssize_t at_ = differs(buf, len, offset, seed);                                 \
		if (at_ >= 0)                                                                  \
			fail_test("memory differs from pattern %d at byte %zd of %zu\n", seed, \
				  at_, (size_t)(len));                                         \
	} while (0)

/*
 * What a process without the shim finds in the file. The pattern is placed by file offset;
 * `base` is the file offset at which the pattern's own offset 0 lies.
 */
bool in_file_at(const char *name, off_t offset, size_t len, off_t base, unsigned seed);
bool in_file(const char *name, off_t offset, size_t len, unsigned seed);
#define assert_in_file(name, offset, len, seed)                                           \
	do {                                                                              \
		if (!in_file(name, offset, len, seed))                                    \
			fail_test("%s does not hold pattern %d in %zu+%zu\n", name, seed, \
				  (size_t)(offset), (size_t)(len));                       \
	} while (0)
/* The same, for changes that no sync point announces: waits up to 20 s. */
#define assert_reaches_file(name, offset, len, seed)                                      \
	do {                                                                              \
		if (!reaches_file(name, offset, len, seed))                               \
			fail_test("pattern %d did not reach %s in %zu+%zu\n", seed, name, \
				  (size_t)(offset), (size_t)(len));                       \
	} while (0)
bool reaches_file(const char *name, off_t offset, size_t len, unsigned seed);
/* What came into the file in a way that nobody sees: waits up to 30 s for it to show. */
#define assert_reaches_memory(buf, len, offset, seed)                                      \
	do {                                                                               \
		if (!reaches_memory(buf, len, offset, seed))                               \
			fail_test("pattern %u of %zu+%zu does not show in memory\n", seed, \
				  (size_t)(offset), (size_t)(len));                        \
	} while (0)
bool reaches_memory(const void *buf, size_t len, uint64_t offset, unsigned seed);

/* Other processes. Neither has the shim's settings of the caller changed; argv ends in NULL. */
pid_t start_tool(const char *const argv[]); /* one of TEST_TOOLS, without the shim */
int run_tool(const char *const argv[]);	    /* its exit status; -signal */
/* Runs a part of this program as this program is run, with or without the shim. */
pid_t start_part(const char *part);
int run_part(const char *part);
int wait_for(pid_t pid);
#define tool(...) run_tool((const char *const[]){ __VA_ARGS__, NULL })

/* Where a setting has to be there from the start: runs the case again with it. */
void needs_setting(const char *variable, const char *value, const char *name);

/* Parts tell their parent that they came somewhere, and wait there until they are killed. */
void reached(const char *what);
void wait_reached(const char *what);
void sleep_for_ever(void) __attribute__((noreturn));

/* io_uring */
void ring_init(struct io_uring *ring);
struct iovec iov(void *base, size_t len);
int register_one(struct io_uring *ring, void *base, size_t len);
/* What most cases start from: a file `data` filled with OLD, mapped, and a ring. */
struct staged {
	struct io_uring ring;
	unsigned char *map;
	int fd;
};
void open_data(struct staged *s, size_t size);
/* And all of it registered: the result of that. */
int open_and_stage(struct staged *s, size_t size);
/* A file `source` with `len` bytes of `seed`, to read from into fixed buffers. */
int make_source(size_t len, unsigned seed);
/* One READ_FIXED or WRITE_FIXED through buffer `index`; all bytes must be moved. */
void read_fixed(struct io_uring *ring, int fd, void *buf, size_t len, off_t offset, int index);
void write_fixed(struct io_uring *ring, int fd, const void *buf, size_t len, off_t offset,
		 int index);
/* The device's part of most tests: DEVICE's content comes in through buffer 0. */
void device_writes(struct io_uring *ring, void *buf, size_t len, int index);

/* The shim's log: lines that contain `what`. */
unsigned log_lines(const char *what);
/* True if a line with `what` also contains `also`. */
bool log_has(const char *what, const char *also);
/* Fails unless the log has, with the shim and where the kernel refuses, a staging; else none.
 */
void assert_staged(void);
void assert_not_staged(void);
/* Exactly one line that refuses, with a reason. Nothing is asked without the shim. */
void assert_refused_once(void);

#endif
