/* SPDX-License-Identifier: MIT */
#include "lib/ownfd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/resource.h>

#include "common/util.h"
#include "lib/real.h"

#define OWN_MAX	  (1 << 20)
#define WORD_BITS (sizeof(unsigned long) * CHAR_BIT)

/* A bit per descriptor; pages of it that are never set are never touched. */
typedef _Atomic(unsigned long) fd_bits[OWN_MAX / WORD_BITS];

static fd_bits own, watched;
static _Atomic(int) own_count;
static _Atomic(bool) any_watched; /* ever */

static unsigned long bit_of(int fd)
{
	return 1UL << ((unsigned)fd % WORD_BITS);
}

static bool test(fd_bits bits, int fd)
{
	if ((unsigned)fd >= OWN_MAX)
		return false;
	return atomic_load_explicit(&bits[(unsigned)fd / WORD_BITS], memory_order_relaxed) &
	       bit_of(fd);
}

bool ownfd_is(int fd)
{
	return test(own, fd);
}

bool ownfd_watched(int fd)
{
	return test(watched, fd);
}

void ownfd_watch(int fd)
{
	if ((unsigned)fd >= OWN_MAX)
		return;
	atomic_store(&any_watched, true);
	atomic_fetch_or(&watched[(unsigned)fd / WORD_BITS], bit_of(fd));
}

void ownfd_unwatch(int fd)
{
	if ((unsigned)fd < OWN_MAX)
		atomic_fetch_and(&watched[(unsigned)fd / WORD_BITS], ~bit_of(fd));
}

static int next(fd_bits bits, int fd)
{
	for (fd = MAX(fd, 0); fd < OWN_MAX; fd++) {
		if (fd % (int)WORD_BITS == 0 && !bits[(unsigned)fd / WORD_BITS])
			fd += WORD_BITS - 1;
		else if (test(bits, fd))
			return fd;
	}
	return -1;
}

int ownfd_next(int fd)
{
	return atomic_load_explicit(&own_count, memory_order_relaxed) ? next(own, fd) : -1;
}

int ownfd_next_watched(int fd)
{
	return atomic_load_explicit(&any_watched, memory_order_relaxed) ? next(watched, fd)
									: -1;
}

static void mark(int fd)
{
	atomic_fetch_or(&own[(unsigned)fd / WORD_BITS], bit_of(fd));
	atomic_fetch_add(&own_count, 1);
}

static void unmark(int fd)
{
	atomic_fetch_and(&own[(unsigned)fd / WORD_BITS], ~bit_of(fd));
	atomic_fetch_sub(&own_count, 1);
}

/* High, but not so high that the kernel's table for it becomes large. */
static int high_floor(void)
{
	const rlim_t high = 4096;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 64;
	return (int)MIN(limit.rlim_cur / 2, high);
}

static int move_up(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, high_floor()), err = errno;

	if (up >= OWN_MAX) {
		real.close(up);
		return -EMFILE;
	}
	if (up < 0)
		return -err;
	real.close(fd);
	return up;
}

int ownfd_adopt(int fd)
{
	int up;

	if (fd < 0)
		return fd;
	up = move_up(fd);
	if (up < 0) {
		real.close(fd);
		errno = -up;
		return up;
	}
	mark(up);
	return up;
}

int ownfd_adopt_anyhow(int fd)
{
	int up = move_up(fd);

	if (up < 0)
		up = fd;
	mark(up);
	return up;
}

void ownfd_close(int fd)
{
	if (fd < 0 || !ownfd_is(fd))
		return;
	unmark(fd);
	real.close(fd);
}

int ownfd_evade(int fd, void (*moved)(int from, int to))
{
	int to = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);

	if (to < 0 || to >= OWN_MAX) {
		if (to >= 0)
			real.close(to);
		return -EMFILE;
	}
	mark(to);
	unmark(fd);
	moved(fd, to);
	return to;
}
