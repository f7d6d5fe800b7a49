/* SPDX-License-Identifier: MIT */
#include "lib/wake.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/real.h"

static void wake_at(const struct wake_span *span, size_t n, uintptr_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (addr >= span[i].addr && addr < span[i].addr + span[i].len)
			real.syscall(SYS_futex, (char *)span[i].old + (addr - span[i].addr),
				     FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* "202 0x7f... 0x80 ..." of a thread in a system call: its number, then its arguments. */
static uintptr_t futex_address(int task, const char *tid)
{
	char path[280], text[256], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/syscall", tid);
	fd = openat(task, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = real.read(fd, text, sizeof(text) - 1);
	real.close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtol(text, &end, 10) == SYS_futex ? strtoul(end, NULL, 16) : 0;
}

void wake_sleepers(const struct wake_span *span, size_t n)
{
	char buf[4096];
	ssize_t got, at;
	uintptr_t addr;
	int task;

	task = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (task < 0)
		return;
	while ((got = getdents64(task, buf, sizeof(buf))) > 0) {
		for (at = 0; at < got;) {
			const struct dirent64 *d =
				(const struct dirent64 *)(const void *)(buf + at);

			addr = d->d_name[0] == '.' ? 0 : futex_address(task, d->d_name);
			if (addr)
				wake_at(span, n, addr);
			at += d->d_reclen;
		}
	}
	real.close(task);
}
