/* SPDX-License-Identifier: MIT */
#include "lib/wake.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/copy_in.h"
#include "lib/real.h"

/* The same on all architectures; not in all headers. */
#define NR_FUTEX_WAITV 449
#define NR_FUTEX_WAIT  455
#define WAITERS_MOST   128

struct waiter { /* struct futex_waitv */
	uint64_t val, addr;
	uint32_t flags, reserved;
};

static void wake_at(const struct wake_span *span, size_t n, uintptr_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (addr >= span[i].addr && addr < span[i].addr + span[i].len)
			real.syscall(SYS_futex, (char *)span[i].old + (addr - span[i].addr),
				     FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* futex_waitv(2): several at once. */
static void wake_each(const struct wake_span *span, size_t n, const char *waiters, size_t count)
{
	struct waiter w;

	for (size_t i = 0; i < count && i < WAITERS_MOST; i++)
		if (pin_copy_in(&w, waiters + i * sizeof(w), sizeof(w)))
			wake_at(span, n, (uintptr_t)w.addr);
}

/* "202 0x7f... 0x80 ..." of a thread in a system call: its number, then its arguments. */
static void wake_thread(const struct wake_span *span, size_t n, int task, const char *tid)
{
	char path[280], text[256], *at;
	uintptr_t arg;
	ssize_t got;
	long nr;
	int fd;

	snprintf(path, sizeof(path), "%s/syscall", tid);
	fd = openat(task, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	got = real.read(fd, text, sizeof(text) - 1);
	real.close(fd);
	if (got <= 0)
		return;
	text[got] = '\0';
	nr = strtol(text, &at, 10);
	arg = strtoul(at, &at, 16);
	if (nr == SYS_futex || nr == NR_FUTEX_WAIT)
		wake_at(span, n, arg);
	else if (nr == NR_FUTEX_WAITV)
		wake_each(span, n, (const char *)arg, strtoul(at, NULL, 16));
}

void wake_sleepers(const struct wake_span *span, size_t n)
{
	char buf[4096];
	ssize_t got, at;
	int task;

	task = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (task < 0)
		return;
	while ((got = getdents64(task, buf, sizeof(buf))) > 0) {
		for (at = 0; at < got;) {
			const struct dirent64 *d =
				(const struct dirent64 *)(const void *)(buf + at);

			if (d->d_name[0] != '.')
				wake_thread(span, n, task, d->d_name);
			at += d->d_reclen;
		}
	}
	real.close(task);
}
