/* SPDX-License-Identifier: MIT */
/* links: shim/lib/curtain.c shim/lib/real.c shim/lib/log.c shim/lib/ownfd.c */
/* links: shim/lib/space.c shim/lib/areas.c shim/lib/pool.c shim/lib/native.c */
/* links: shim/lib/kept.c shim/lib/scratch.c shim/common/vmas.c shim/common/vmas_between.c */
/* links: shim/lib/shadow.c */
/*
 * Invariant I7, the curtain alone: a shared file mapping is exchanged for a memfd and back,
 * thousands of times, while threads add, store, read and pread() into it. Everything is counted
 * exactly: an addition lost, a value that goes back, a read that fails or lands nowhere ends
 * it.
 *
 *   storm_curtain FILE [SWAPS [KIB [SECONDS]]]
 *
 * ends after SWAPS, or after SECONDS on a machine that is busy with other things. One swap in
 * four seconds is the least that shows anything: an idle machine does hundreds.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/curtain.h"

enum {
	ADDERS = 2,
	STORERS = 2,
	READERS = 1,
	PREADERS = 2,
	THREADS = ADDERS + STORERS + READERS + PREADERS
};

static const size_t page = 4096;
static size_t len = 2048 * 1024;
static int file, memfd;
static char *range, *alias; /* two addresses of the same pages */
static atomic_bool stop;
static atomic_ulong errors, efaults, adds, preads;
static bool kernel_waits;

#define fail(...)                                        \
	do {                                             \
		if (atomic_fetch_add(&errors, 1) < 10) { \
			fprintf(stderr, __VA_ARGS__);    \
			fputc('\n', stderr);             \
		}                                        \
	} while (0)

static void require(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* Each page: word 0 added to by all adders, word 1+i stored to by storer i, the second half
 * target of preads. */
static _Atomic(uint64_t) *word(char *base, size_t p, size_t w)
{
	return (_Atomic(uint64_t) *)(void *)(base + p * page) + w;
}

static void *adder(void *arg)
{
	char *base = (uintptr_t)arg % 2 ? alias : range;
	unsigned long n = 0;

	for (size_t p = 0; !stop; p = (p + 7) % (len / page), n++)
		atomic_fetch_add_explicit(word(base, p, 0), 1, memory_order_relaxed);
	atomic_fetch_add(&adds, n);
	return NULL;
}

static void *storer(void *arg)
{
	const size_t w = 1 + (uintptr_t)arg;
	char *base = (uintptr_t)arg % 2 ? alias : range;
	uint64_t *mine = calloc(len / page, sizeof(*mine));

	require(mine, "calloc");
	for (size_t p = 0; !stop; p = (p + 3) % (len / page)) {
		volatile uint64_t *at = (volatile uint64_t *)(uintptr_t)word(base, p, w);

		if (*at != mine[p])
			fail("page %zu: stored %lu, found %lu", p, mine[p], *at);
		*at = ++mine[p];
	}
	for (size_t p = 0; p < len / page; p++)
		if (*word(range, p, w) != mine[p])
			fail("page %zu: stored %lu, at the end %lu", p, mine[p],
			     *word(range, p, w));
	free(mine);
	return NULL;
}

static void *reader(void *arg)
{
	uint64_t *seen = calloc(len / page, sizeof(*seen)), now;

	(void)arg;
	require(seen, "calloc");
	for (size_t p = 0; !stop; p = (p + 1) % (len / page)) {
		now = atomic_load_explicit(word(p % 2 ? alias : range, p, 0),
					   memory_order_relaxed);
		if (now < seen[p])
			fail("page %zu: went back from %lu to %lu", p, seen[p], now);
		seen[p] = now;
	}
	free(seen);
	return NULL;
}

static void *preader(void *arg)
{
	const size_t n = page / 8, at = page / 2 + (uintptr_t)arg * n;
	char want[512];
	int fd = memfd_create("pattern", MFD_CLOEXEC);
	uint64_t round = 0;
	ssize_t got;

	require(fd >= 0, "memfd_create");
	for (size_t p = 0; !stop; p = (p + 5) % (len / page), round++) {
		memset(want, (int)(round % 251), sizeof(want));
		require(pwrite(fd, want, sizeof(want), 0) == (ssize_t)sizeof(want), "pwrite");
		do { /* short or EFAULT where only faults of user mode wait: once more, whole */
			got = pread(fd, range + p * page + at, sizeof(want), 0);
		} while (!kernel_waits &&
			 (got >= 0 ? got < (ssize_t)sizeof(want) : errno == EFAULT) &&
			 atomic_fetch_add(&efaults, 1) < ULONG_MAX);
		if (got != (ssize_t)sizeof(want))
			fail("page %zu: pread gave %zd: %s", p, got, strerror(errno));
		else if (memcmp(range + p * page + at, want, sizeof(want)))
			fail("page %zu: pread's bytes are not there", p);
		atomic_fetch_add_explicit(&preads, 1, memory_order_relaxed);
	}
	close(fd);
	return NULL;
}

/* Whoever may not have userfaultfd for the kernel's faults is to be tested with what there is:
 * system calls that fail and are tried again. */
static void check_lane(void)
{
	int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	char allowed = '1';

	if (fd >= 0 && read(fd, &allowed, 1) == 1 && allowed == '0' && geteuid() != 0 &&
	    kernel_waits)
		fail("system calls wait, although vm.unprivileged_userfaultfd is 0");
	if (fd >= 0)
		close(fd);
}

static char *copy;

static int to_memfd(void *arg)
{
	(void)arg;
	return pread(file, copy, len, 0) == (ssize_t)len &&
			       pwrite(memfd, copy, len, 0) == (ssize_t)len
		       ? 0
		       : -EIO;
}

static int to_file(void *arg)
{
	(void)arg;
	return pread(memfd, copy, len, 0) == (ssize_t)len &&
			       pwrite(file, copy, len, 0) == (ssize_t)len
		       ? 0
		       : -EIO;
}

static int give_up(void *arg)
{
	(void)arg;
	return -ECANCELED;
}

static void *prepare(int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	require(p != MAP_FAILED, "mmap");
	return p;
}

static void swap_once(int from, int to, int (*act)(void *))
{
	struct curtain_span span[2] = {
		{ .addr = range,
		  .len = len,
		  .forward = prepare(to),
		  .backward = prepare(from) },
		{ .addr = alias,
		  .len = len,
		  .forward = prepare(to),
		  .backward = prepare(from) },
	};
	int err = curtain_swap(span, 2, act, NULL, NULL);

	if (err != (act == give_up ? -ECANCELED : 0)) {
		fprintf(stderr, "curtain_swap: %s\n", strerror(-err));
		exit(1);
	}
	for (int i = 0; i < 2; i++)
		munmap(err ? span[i].forward : span[i].backward, len);
}

int main(int argc, char **argv)
{
	static void *(*const role[])(void *) = { adder,	 adder,	  storer, storer,
						 reader, preader, preader };
	static const uintptr_t number[] = { 0, 1, 0, 1, 0, 0, 1 };
	unsigned long swaps, done, sum = 0, before;
	time_t seconds, begun;
	pthread_t thread[THREADS];
	size_t i;

	if (argc < 2) {
		fprintf(stderr, "usage: storm_curtain FILE [SWAPS [KIB [SECONDS]]]\n");
		return 2;
	}
	swaps = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
	len = argc > 3 ? strtoul(argv[3], NULL, 10) * 1024 : len;
	seconds = argc > 4 ? atol(argv[4]) : 40;
	file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	require(file >= 0 && ftruncate(file, (off_t)len) == 0, argv[1]);
	memfd = memfd_create("staging", MFD_CLOEXEC);
	require(memfd >= 0 && ftruncate(memfd, (off_t)len) == 0, "memfd_create");
	copy = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	require(copy != MAP_FAILED, "mmap");
	range = prepare(file);
	alias = prepare(file);
	kernel_waits = curtain_covers_kernel();
	check_lane();
	for (i = 0; i < THREADS; i++)
		require(pthread_create(&thread[i], NULL, role[i], (void *)number[i]) == 0,
			"pthread_create");
	begun = time(NULL);
	for (done = 0; done < swaps && !errors && time(NULL) - begun < seconds; done++) {
		before = atomic_load(&preads);
		swap_once(file, memfd, give_up);
		swap_once(file, memfd, to_memfd);
		swap_once(memfd, file, give_up);
		swap_once(memfd, file, to_file);
		while (done % 64 == 0 &&
		       atomic_load(&preads) == before) /* let everybody have a turn */
			sched_yield();
	}
	stop = true;
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	require(pread(file, copy, len, 0) == (ssize_t)len, "pread");
	for (size_t p = 0; p < len / page; p++)
		sum += *word(copy, p, 0);
	if (sum != adds)
		fail("%lu additions made, %lu in the file", adds, sum);
	if (!errors && done < swaps && done < (unsigned long)seconds / 4)
		fail("%lu swaps only in %ld seconds", done, (long)seconds);
	printf("%lu swaps each way under %lu additions and %lu preads (%lu retried after EFAULT; %s): "
	       "%lu errors\n",
	       done, adds, preads, efaults,
	       kernel_waits ? "system calls wait" : "user-mode faults only", errors);
	return errors ? 1 : 0;
}
