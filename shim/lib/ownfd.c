/* SPDX-License-Identifier: MIT */
#include "lib/ownfd.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/resource.h>

#include "common/util.h"
#include "lib/real.h"
#include "lib/shadow.h"

#define OWN_MAX	  (1 << 20)
#define WORD_BITS (sizeof(unsigned long) * CHAR_BIT)

/* A bit per descriptor; pages of it that are never set are never touched. */
typedef _Atomic(unsigned long) fd_bits[OWN_MAX / WORD_BITS];

static fd_bits own, watched;
static _Atomic(int) own_count;
static _Atomic(bool) any_watched; /* ever */

/* The lock; whether anybody has it, whether this thread does; and the first number of those
 * that it is about. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool held;
static __thread bool inside __attribute__((tls_model("initial-exec")));
static _Atomic(int) lowest = OWN_MAX;

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

void ownfd_begin(void)
{
	atomic_store(&lowest, high_floor());
}

void ownfd_after_fork(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	atomic_store(&held, false);
}

void ownfd_lock(struct ownfd_guard *g)
{
	sigset_t all;

	g->nested = inside;
	if (g->nested)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &g->mask);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &g->cancel);
	pthread_mutex_lock(&lock);
	atomic_store(&held, true);
	inside = true;
}

void ownfd_unlock(struct ownfd_guard *g)
{
	if (g->nested)
		return;
	inside = false;
	atomic_store(&held, false);
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(g->cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &g->mask, NULL);
}

bool ownfd_reaches(int last)
{
	return last >= atomic_load_explicit(&lowest, memory_order_relaxed);
}

/* In this order: whoever takes a number has the lock before it is open. */
bool ownfd_may_come(int fd)
{
	if (likely(!ownfd_reaches(fd)))
		return false;
	if (arch_syscall(SYS_fcntl, fd, F_GETFD, 0, 0, 0, 0) < 0)
		return true;
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load(&held);
}

struct beyond {
	int fd, from;
	struct rlimit limit;
};

static int dup_with_its_own_limit(void *arg)
{
	const struct beyond *b = arg;
	int to;

	if (setrlimit(RLIMIT_NOFILE, &b->limit) < 0)
		return -errno;
	to = fcntl(b->fd, F_DUPFD_CLOEXEC, b->from);
	return to < 0 ? -errno : to;
}

/* A number that the program could have only if it raised its limit: none of its own is spent.
 * A child with our descriptor table has a limit of its own; to raise the program's for a moment
 * would be seen by whatever it starts meanwhile. */
static int dup_beyond(int fd, int from)
{
	struct beyond b = { .fd = fd };

	if (getrlimit(RLIMIT_NOFILE, &b.limit) < 0)
		return -errno;
	if (b.limit.rlim_cur >= MIN(b.limit.rlim_max, (rlim_t)OWN_MAX))
		return -EMFILE;
	b.from = MAX(from, (int)b.limit.rlim_cur);
	b.limit.rlim_cur = b.limit.rlim_max;
	return shadow_run_with_files(dup_with_its_own_limit, &b);
}

/* The child takes a tenth of a millisecond: the first few numbers are of the program's. */
static bool have_enough_of_its_own(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	       (rlim_t)atomic_load(&own_count) >= limit.rlim_cur / 16;
}

static int dup_high(int fd, int from)
{
	const bool beyond_first = have_enough_of_its_own();
	int err, up = beyond_first ? dup_beyond(fd, from) : -EMFILE;

	if (up >= 0)
		return up;
	up = fcntl(fd, F_DUPFD_CLOEXEC, from);
	if (up >= 0)
		return up;
	err = -errno;
	/* EINVAL: what is asked for is beyond the limit. */
	if (beyond_first || (err != -EMFILE && err != -EINVAL))
		return err;
	up = dup_beyond(fd, from);
	return up < 0 ? err : up;
}

/* With the lock held, so that nothing is ours for a moment that is not marked. */
static int move_up(int fd)
{
	const int from = high_floor();
	int up;

	if (!ownfd_reaches(from)) /* the program has lowered its limit */
		atomic_store(&lowest, from);
	up = dup_high(fd, from);
	if (up >= OWN_MAX) {
		real.close(up);
		return -EMFILE;
	}
	if (up < 0)
		return up;
	mark(up);
	real.close(fd);
	return up;
}

int ownfd_adopt(int fd)
{
	struct ownfd_guard g;
	int up;

	if (fd < 0)
		return fd;
	ownfd_lock(&g);
	up = move_up(fd);
	ownfd_unlock(&g);
	if (up < 0) {
		real.close(fd);
		errno = -up;
	}
	return up;
}

int ownfd_adopt_anyhow(int fd)
{
	struct ownfd_guard g;
	int up;

	ownfd_lock(&g);
	up = move_up(fd);
	if (up < 0) {
		up = fd;
		mark(up);
	}
	ownfd_unlock(&g);
	return up;
}

void ownfd_close(int fd)
{
	struct ownfd_guard g;

	if (fd < 0)
		return;
	ownfd_lock(&g);
	if (ownfd_is(fd)) {
		unmark(fd);
		real.close(fd);
	}
	ownfd_unlock(&g);
}

int ownfd_evade(int fd, void (*moved)(int from, int to))
{
	int to = dup_high(fd, fd + 1);

	/* A call that no hook sees has closed it: nobody may take for ours what comes there. */
	if (to == -EBADF) {
		unmark(fd);
		moved(fd, -1);
		return -EBADF;
	}
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
