/* SPDX-License-Identifier: MIT */
/*
 * Properties of memory: protection, locks, advice. The kernel does them to whatever stands at
 * the addresses; the lock keeps a curtain away meanwhile, which would put the old ones back.
 * What a mapping would keep for ever is told to the file's own mapping, too, so that it is
 * still so when that one comes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/pin.h"
#include "lib/punch.h"
#include "lib/space.h"

#define WITHOUT_CURTAIN(start, len, call)                                                 \
	({                                                                                \
		struct space_guard guard_;                                                \
		const bool held_ = enabled && space_concerned((uintptr_t)(start), len) && \
				   space_lock(&guard_);                                   \
		const int ret_ = (call);                                                  \
		const int errno_ = errno;                                                 \
		if (held_)                                                                \
			space_unlock(&guard_);                                            \
		errno = errno_;                                                           \
		ret_;                                                                     \
	})

int on_mprotect(void *addr, size_t len, int prot)
{
	return WITHOUT_CURTAIN(addr, len, real.mprotect(addr, len, prot));
}

int on_pkey_mprotect(void *addr, size_t len, int prot, int key)
{
	return WITHOUT_CURTAIN(addr, len, real.pkey_mprotect(addr, len, prot, key));
}

int on_mlock(const void *addr, size_t len)
{
	return WITHOUT_CURTAIN(addr, len, real.mlock(addr, len));
}

int on_mlock2(const void *addr, size_t len, unsigned flags)
{
	return WITHOUT_CURTAIN(addr, len, real.mlock2(addr, len, flags));
}

int on_munlock(const void *addr, size_t len)
{
	return WITHOUT_CURTAIN(addr, len, real.munlock(addr, len));
}

int on_mlockall(int flags)
{
	return WITHOUT_CURTAIN(0, SIZE_MAX / 2, real.mlockall(flags));
}

int on_munlockall(void)
{
	return WITHOUT_CURTAIN(0, SIZE_MAX / 2, real.munlockall());
}

/* What the mapping remembers: neighbours that differ in it are two. */
static bool sticks(int advice)
{
	return advice == MADV_NORMAL || advice == MADV_RANDOM || advice == MADV_SEQUENTIAL ||
	       advice == MADV_DONTFORK || advice == MADV_DOFORK || advice == MADV_DONTDUMP ||
	       advice == MADV_DODUMP || advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE;
}

static void tell_kept(uintptr_t start, uintptr_t end, int advice)
{
	struct area *a;

	for (a = areas_first(&space.areas, start, end); a; a = areas_next(a, end)) {
		const uintptr_t lo = MAX(start, a->start), hi = MIN(end, a->end);

		if (!a->seg)
			continue;
		(void)real.madvise((void *)(a->saved + (lo - a->start)), hi - lo, advice);
		/* Files are not in core dumps, and memory that stands for one is not, either.
		 */
		if (advice == MADV_DODUMP)
			(void)real.madvise((void *)lo, hi - lo, MADV_DONTDUMP);
	}
}

/* Lock held. */
static int advise(void *addr, size_t len, int advice)
{
	const uintptr_t start = (uintptr_t)addr, end = start + page_up(len);
	int ret, saved;

	if (advice == MADV_REMOVE && start % page_size() == 0 && end > start)
		return punch_range(start, end);
	ret = real.madvise(addr, len, advice);
	saved = errno;
	/* ENOMEM: there is a hole in the range, and it was done to the rest. */
	if (sticks(advice) && (ret == 0 || saved == ENOMEM))
		tell_kept(start, end, advice);
	errno = saved;
	return ret;
}

int on_madvise(void *addr, size_t len, int advice)
{
	struct space_guard g;
	int ret, saved;

	if (likely(!space_concerned((uintptr_t)addr, len) || !enabled) || !space_lock(&g))
		return real.madvise(addr, len, advice);
	ret = advise(addr, len, advice);
	saved = errno;
	space_unlock(&g);
	errno = saved;
	return ret;
}

/* Its error is what it returns. libc does not pass on POSIX_MADV_DONTNEED, which is no advice
 * of the kernel's. */
int on_posix_madvise(void *addr, size_t len, int advice)
{
	const int saved = errno;
	struct space_guard g;
	int ret;

	if (likely(!space_concerned((uintptr_t)addr, len) || !enabled) || !space_lock(&g))
		return real.posix_madvise(addr, len, advice);
	ret = real.posix_madvise(addr, len, advice);
	if (sticks(advice) && (ret == 0 || ret == ENOMEM))
		tell_kept((uintptr_t)addr, (uintptr_t)addr + page_up(len), advice);
	space_unlock(&g);
	errno = saved;
	return ret;
}

/* "Pid:\t123" in what the kernel says of a descriptor. Negative numbers that mean the caller
 * itself came with Linux 6.14. */
static bool is_self(int pidfd)
{
	char path[64], text[512];
	const char *pid;
	ssize_t n;
	int fd;

	if (pidfd < 0)
		return pidfd <= -10000;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = real.read(fd, text, sizeof(text) - 1);
	real.close(fd);
	text[MAX(n, 0)] = '\0';
	pid = strstr(text, "\nPid:\t");
	return pid && atoi(pid + 6) == getpid();
}

/* Each range in turn, as the kernel does it. */
ssize_t on_process_madvise(int pidfd, const struct iovec *iov, size_t n, int advice,
			   unsigned flags)
{
	const int saved = errno;
	struct iovec one;
	ssize_t done = 0;
	size_t i;

	if (likely((advice != MADV_REMOVE && !sticks(advice)) || !enabled) || flags ||
	    !space_concerned(0, SIZE_MAX / 2) || !is_self(pidfd) ||
	    real.process_madvise(pidfd, iov, 0, advice, 0) < 0) {
		errno = saved;
		return real.process_madvise(pidfd, iov, n, advice, flags);
	}
	for (i = 0; i < n; i++) {
		if (!pin_copy_in(&one, iov + i, sizeof(one))) {
			errno = EFAULT;
			return -1;
		}
		if (on_madvise(one.iov_base, one.iov_len, advice) < 0)
			return done ? done : -1;
		done += (ssize_t)one.iov_len;
	}
	errno = saved;
	return done;
}
