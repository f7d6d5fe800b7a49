/* SPDX-License-Identifier: MIT */
/*
 * Twins: the same sequence of calls on a staged mapping and on a native one of a twin file.
 * What a sequence sees (results, errno, content, faults) is noted as text, and must be the
 * same. Without the shim there is nothing to compare with, and the case ends at the pin.
 *
 *   room   64 pages without access; the mapping stands in the middle, so that what happens to
 *          its neighbours is the program's doing
 *   map    the file's 16 pages
 */
#ifndef TWIN_H
#define TWIN_H

#include "testlib.h"

#include <sys/syscall.h>

#define PAGE	  4096ul
#define PAGES	  16ul
#define ROOM	  64ul
#define BEFORE	  16ul
#define NOTE_SIZE (256 * KIB)

struct twin {
	const char *name;
	int fd;
	unsigned char *room, *map;
	char *notes;
	size_t used;
};

/* Which pages are staged. */
struct layout {
	size_t first, pages;
	bool pinned; /* still, while the sequence runs */
};

__attribute__((format(printf, 2, 3))) static void note(struct twin *t, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	t->used += (size_t)vsnprintf(t->notes + t->used, NOTE_SIZE - t->used, format, ap);
	va_end(ap);
	assert_true(t->used < NOTE_SIZE);
}

static void note_result(struct twin *t, const char *what, long ret)
{
	const char *error = ret == -1 ? strerrorname_np(errno) : NULL;
	const uintptr_t at = (uintptr_t)ret, room = (uintptr_t)t->room;

	if (error)
		note(t, "%s: %s\n", what, error);
	else if (at >= room && at < room + ROOM * PAGE)
		note(t, "%s: page %zu\n", what, (at - room) / PAGE);
	else
		note(t, "%s: %ld\n", what, at > 1ul << 32 ? 1 : ret);
}

/* The call's own text says what it was. Pointers elsewhere are one as good as another. */
#define DO(t, call)                                               \
	({                                                        \
		errno = 0;                                        \
		__typeof__(call) do_ret_ = (call);                \
		note_result((t), #call, (long)(intptr_t)do_ret_); \
		do_ret_;                                          \
	})

static sigjmp_buf fault_jump;
static volatile sig_atomic_t fault_signal;

static void on_fault(int sig)
{
	fault_signal = sig;
	siglongjmp(fault_jump, 1);
}

static unsigned checksum(const volatile unsigned char *p, size_t n)
{
	unsigned sum = 5381;

	for (size_t i = 0; i < n; i++)
		sum = sum * 33 + p[i];
	return sum;
}

/* A macro, because the frame that calls sigsetjmp() must still be there. */
#define GUARDED(t, what, stmt)                                                             \
	do {                                                                               \
		struct sigaction guarded_ = { .sa_handler = on_fault,                      \
					      .sa_flags = SA_NODEFER };                    \
		sigaction(SIGBUS, &guarded_, NULL);                                        \
		sigaction(SIGSEGV, &guarded_, NULL);                                       \
		if (sigsetjmp(fault_jump, 1) == 0)                                         \
			stmt;                                                              \
		else                                                                       \
			note((t), "%s%s ", what, fault_signal == SIGBUS ? "bus" : "segv"); \
	} while (0)

/* What every page between two addresses holds, or how it faults. */
static void look_at(struct twin *t, const char *what, unsigned char *from, size_t pages)
{
	note(t, "%s:", what);
	for (size_t i = 0; i < pages; i++)
		GUARDED(t, " ", note(t, " %x", checksum(from + i * PAGE, PAGE)));
	note(t, "\n");
}

static void look(struct twin *t)
{
	look_at(t, "room", t->room, ROOM);
}

/* Stores a pattern at the start of every page; those that fault are noted. */
static void store_at(struct twin *t, unsigned char *from, size_t pages, unsigned seed)
{
	note(t, "store:");
	for (size_t i = 0; i < pages; i++)
		GUARDED(t, " ", fill(from + i * PAGE, 64, i * PAGE, seed));
	note(t, "\n");
}

static void store(struct twin *t, unsigned seed)
{
	store_at(t, t->map, PAGES, seed);
}

/* The file after a sync, as the kernel has it. */
static void look_file(struct twin *t)
{
	unsigned char page[PAGE];
	struct stat st;
	long n;

	DO(t, fsync(t->fd));
	assert_int_equal(fstat(t->fd, &st), 0);
	note(t, "file %zu:", (size_t)st.st_size);
	for (off_t at = 0; at < st.st_size; at += (off_t)PAGE) {
		n = syscall(SYS_pread64, t->fd, page, PAGE, at);
		note(t, " %x", n < 0 ? 0 : checksum(page, (size_t)n));
	}
	note(t, "\n");
}

static void twin_open(struct twin *t, const char *name, size_t size)
{
	*t = (struct twin){ .name = name, .notes = malloc(NOTE_SIZE) };
	assert_non_null(t->notes);
	t->notes[0] = '\0';
	make_file(name, size);
	t->fd = open_file(name, O_RDWR);
	t->room = mmap(NULL, ROOM * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(t->room, MAP_FAILED);
	t->map = mmap(t->room + BEFORE * PAGE, PAGES * PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED, t->fd, 0);
	assert_ptr_equal(t->map, t->room + BEFORE * PAGE);
}

static void twin_close(struct twin *t)
{
	assert_int_equal(munmap(t->room, ROOM * PAGE), 0);
	assert_int_equal(close(t->fd), 0);
}

static void print_differences(const struct twin *a, const struct twin *b)
{
	const char *p = a->notes, *q = b->notes;

	while (*p && *q) {
		const size_t n = strcspn(p, "\n"), m = strcspn(q, "\n");

		if (n != m || strncmp(p, q, n) != 0) {
			print_error("native  %.*s\n", (int)n, p);
			print_error("staged  %.*s\n", (int)m, q);
		}
		p += n + (p[n] != '\0');
		q += m + (q[m] != '\0');
	}
}

/* Runs the sequence on a native and on a staged mapping of `size` bytes. False: the kernel
 * refuses and there is no shim, so there is nothing to compare. */
static bool compare_layout(void (*sequence)(struct twin *t), size_t size,
			   const struct layout *l)
{
	struct twin native, staged;
	struct io_uring ring;
	int ret;

	twin_open(&native, "native", size);
	sequence(&native);
	look_file(&native);
	twin_close(&native);

	twin_open(&staged, "staged", size);
	ring_init(&ring);
	ret = register_one(&ring, staged.map + l->first * PAGE, l->pages * PAGE);
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(ret, -EFAULT);
		return false;
	}
	assert_int_equal(ret, 0);
	if (!l->pinned)
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	sequence(&staged);
	look_file(&staged);
	twin_close(&staged);
	/* Now, and not some time after the ring's end: the limit on locked memory is small. */
	if (l->pinned)
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	io_uring_queue_exit(&ring);

	if (strcmp(native.notes, staged.notes) != 0) {
		print_differences(&native, &staged);
		fail_test("staged pages %zu+%zu, %s: not what a native mapping gives\n",
			  l->first, l->pages, l->pinned ? "pinned" : "not pinned");
	}
	free(native.notes);
	free(staged.notes);
	return true;
}

static void compare_size(void (*sequence)(struct twin *t), size_t size)
{
	const size_t pages = size / PAGE;
	const struct layout layouts[] = {
		{ 0, pages, true },
		{ 0, pages, false },
		{ 0, pages / 2, true },
		{ pages / 2, pages / 2, false },
		{ pages / 4, pages / 2, true },
		{ pages / 4, pages / 2, false },
	};

	if (page_size() != PAGE)
		skip_test("only for pages of 4 KiB");
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		if (!compare_layout(sequence, size, &layouts[i]))
			return;
	assert_staged();
}

static void compare(void (*sequence)(struct twin *t))
{
	compare_size(sequence, PAGES * PAGE);
}

#endif
