/* SPDX-License-Identifier: MIT */
#include "lib/inflight.h"

#include <linux/membarrier.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/real.h"

#define PATIENCE_MS 10000 /* a write of gigabytes to a slow disk may take that long */
#define TRUST_MS    2	  /* for which a note is taken at its word */
#define COPIES_MS   1000  /* a call on a file that never ends is no reason not to stage */
#define PLACES	    63

/* Places are never given back to the system: whoever looks through them needs no lock. */
struct chunk {
	struct {
		struct inflight note;
	} __attribute__((aligned(64))) place[PLACES]; /* no two in one line of a cache */
	_Atomic(struct chunk *) next;
};

__thread struct inflight *inflight_mine __attribute__((tls_model("initial-exec")));

/* Of threads that nobody waits for. */
static __thread struct inflight homeless __attribute__((tls_model("initial-exec")));

static struct chunk first = {
	.place = { [0 ... PLACES - 1] = { .note = { .fd = INFLIGHT_NOTHING } } },
};
static enum { NOT_YET, NEVER, STARTED } state;

/* The thread that starts us has its place from here on: what the library itself has called
 * until now gave it none, and it may forbid itself to ask for its number (seccomp). */
void inflight_start(bool ever)
{
	state = ever ? STARTED : NEVER;
	if (ever)
		(void)inflight_join();
}

static pid_t own_number(void)
{
	return (pid_t)arch_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

/* Nobody tells when a thread ends: its place is taken when it is wanted. */
static bool is_dead(pid_t thread)
{
	const long process = arch_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);

	return arch_syscall(SYS_tgkill, process, thread, 0, 0, 0, 0) == -ESRCH;
}

static struct inflight *take(struct chunk *c, pid_t me)
{
	for (size_t n = 0; n < PLACES; n++) {
		struct inflight *i = &c->place[n].note;
		pid_t of = atomic_load_explicit(&i->thread, memory_order_relaxed);

		if ((of == 0 || of == me || is_dead(of)) &&
		    atomic_compare_exchange_strong(&i->thread, &of, me)) {
			atomic_store(&i->end, 0);
			atomic_store(&i->fd, INFLIGHT_NOTHING);
			return i;
		}
	}
	return NULL;
}

static struct chunk *append(struct chunk *last)
{
	struct chunk *none = NULL, *c;

	c = real.mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (c == MAP_FAILED)
		return NULL;
	for (size_t n = 0; n < PLACES; n++)
		atomic_init(&c->place[n].note.fd, INFLIGHT_NOTHING);
	if (atomic_compare_exchange_strong(&last->next, &none, c))
		return c;
	real.munmap(c, sizeof(*c));
	return none;
}

/* Calls made from here, and those of threads that begin before the constructor, are not waited
 * for. */
struct inflight *inflight_join(void)
{
	struct inflight *const nowhere = &homeless, *i = NULL;
	const pid_t me = own_number();
	struct chunk *c, *next;
	int saved = errno;

	if (state == NOT_YET)
		return nowhere;
	inflight_mine = nowhere;
	for (c = state == STARTED ? &first : NULL; c && !i; c = next) {
		i = take(c, me);
		next = atomic_load(&c->next);
		if (!i && !next)
			next = append(c);
	}
	if (i)
		inflight_mine = i;
	errno = saved;
	return inflight_mine;
}

void inflight_after_fork(void)
{
	if (inflight_mine)
		atomic_store(&inflight_mine->thread, own_number());
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void pause_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* Every other thread has stored what it had begun to, and will read what we have stored. Where
 * a seccomp filter forbids to ask for that, no processor keeps a store back for so long. */
static void barrier_everywhere(void)
{
	const long how = MEMBARRIER_CMD_PRIVATE_EXPEDITED;
	const long begin = MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;

	atomic_thread_fence(memory_order_seq_cst);
	if (arch_syscall(SYS_membarrier, begin, 0, 0, 0, 0, 0) < 0 ||
	    arch_syscall(SYS_membarrier, how, 0, 0, 0, 0, 0) < 0)
		pause_us(1000);
}

/* A thread may have a table of descriptors of its own. */
static bool stat_of(pid_t thread, int fd, struct stat *ret)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/fd/%d", (int)thread, fd);
	return stat(path, ret) == 0 || fstat(fd, ret) == 0;
}

static bool is_of(pid_t thread, int fd, struct inode_key key)
{
	struct stat st;

	return stat_of(thread, fd, &st) && st.st_dev == key.dev && st.st_ino == key.ino;
}

/* Which argument of a system call is the descriptor of what it reads, or changes; -1: none. */
static int argument_of(long number, bool reads)
{
	switch (number) {
	case SYS_read:
	case SYS_readv:
	case SYS_pread64:
	case SYS_preadv:
	case SYS_preadv2:
		return reads ? 0 : -1;
	case SYS_write:
	case SYS_writev:
	case SYS_pwrite64:
	case SYS_pwritev:
	case SYS_pwritev2:
	case SYS_sendfile:
	case SYS_ftruncate:
	case SYS_fallocate:
	case SYS_ioctl:
		return reads ? -1 : 0;
	case SYS_splice:
	case SYS_copy_file_range:
		return reads ? -1 : 2;
	default:
		return -1;
	}
}

/*
 * A note may outlive its call, or stand for one that is over as good as: the thread was
 * cancelled or jumped out of it, or a signal met it on its return. Who sleeps in another system
 * call is not in this one. (If it has not begun yet, it looks again when it is done.)
 */
static bool is_elsewhere(pid_t thread, int fd, bool reads)
{
	char path[64], text[256], *at;
	ssize_t n = -1;
	long number;
	int file, arg;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)thread);
	file = real.open(path, O_RDONLY | O_CLOEXEC, 0);
	if (file >= 0) {
		n = real.read(file, text, sizeof(text) - 1);
		real.close(file);
	}
	if (n <= 0)
		return file < 0 && errno == ENOENT && is_dead(thread);
	text[n] = '\0';
	number = strtol(text, &at, 10);
	if (at == text || number < 0) /* "running", or in a page fault */
		return false;
	arg = argument_of(number, reads);
	for (int i = 0; i < arg; i++)
		(void)strtoull(at, &at, 16);
	return arg < 0 || (int)strtoull(at, NULL, 16) != fd;
}

struct wait {
	struct inode_key key;
	bool (*meets)(uintptr_t start, uintptr_t end, void *arg);
	void *arg;
};

static bool changes(const struct inflight *i, const struct wait *w, bool trusted)
{
	const int fd = atomic_load_explicit(&i->fd, memory_order_acquire);
	const pid_t thread = atomic_load_explicit(&i->thread, memory_order_relaxed);

	return fd >= 0 && is_of(thread, fd, w->key) &&
	       (trusted || !is_elsewhere(thread, fd, false));
}

/* What comes from a pipe or a socket may never come. */
static bool copies(const struct inflight *i, const struct wait *w, bool trusted)
{
	int fd = atomic_load_explicit(&i->fd, memory_order_acquire);
	const uintptr_t start = atomic_load_explicit(&i->start, memory_order_relaxed);
	const uintptr_t end = atomic_load_explicit(&i->end, memory_order_relaxed);
	const pid_t thread = atomic_load_explicit(&i->thread, memory_order_relaxed);
	const bool reads = fd < 0;
	struct stat st;

	if (fd == INFLIGHT_NOTHING || end == 0 || !w->meets(start, end, w->arg))
		return false;
	if (reads)
		fd = INFLIGHT_READS(fd);
	return stat_of(thread, fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
	       (trusted || !is_elsewhere(thread, fd, reads));
}

static bool wait_while(bool (*lasts)(const struct inflight *, const struct wait *,
				     bool trusted),
		       const struct wait *w, uint64_t most_ms)
{
	const uint64_t began = now_us();
	uint64_t waited = 0;

	barrier_everywhere();
	for (struct chunk *c = &first; c; c = atomic_load(&c->next))
		for (size_t n = 0; n < PLACES; n++) {
			const struct inflight *i = &c->place[n].note;

			while (i != inflight_mine && lasts(i, w, waited < TRUST_MS * 1000)) {
				if (waited >= most_ms * 1000)
					return false;
				pause_us(waited < TRUST_MS * 1000 ? 50 : 1000);
				waited = now_us() - began;
			}
		}
	return true;
}

bool inflight_wait(struct inode_key key)
{
	return wait_while(changes, &(struct wait){ .key = key }, PATIENCE_MS);
}

void inflight_wait_for_copies(bool (*meets)(uintptr_t start, uintptr_t end, void *arg),
			      void *arg)
{
	(void)wait_while(copies, &(struct wait){ .meets = meets, .arg = arg }, COPIES_MS);
}
