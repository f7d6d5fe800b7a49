/* SPDX-License-Identifier: MIT */
#include "lib/curtain.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/newer.h"
#include "common/util.h"
#include "lib/log.h"
#include "lib/real.h"
#include "lib/space.h"

struct swap {
	struct curtain_span *span;
	size_t n;
	int (*act)(void *arg);
	void (*back)(void *arg);
	void *arg;
	int uffd;
	int stop; /* eventfd that ends the reader */
	int result;
};

/* Three doors to the same thing, the best first: the device node (whoever may open it gets
 * faults of kernel mode, too), the system call with privilege, and without. */
static int uffd_open(bool *ret_covers_kernel)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	int dev, fd = -1;

	*ret_covers_kernel = true;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev >= 0) {
		fd = real.ioctl(dev, USERFAULTFD_IOC_NEW, flags);
		real.close(dev);
	}
	if (fd < 0)
		fd = (int)real.syscall(SYS_userfaultfd, flags);
	if (fd < 0) {
		*ret_covers_kernel = false;
		fd = (int)real.syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	}
	return fd < 0 ? -errno : fd;
}

bool curtain_covers_kernel(void)
{
	bool covers;
	int fd = uffd_open(&covers);

	if (fd < 0)
		return false;
	real.close(fd);
	return covers;
}

/* Without EVENT_REMAP the registration would be lost when the stand-in moves, and threads
 * would read zeroes from it. With it, the mremap() that moves the stand-in sleeps until the
 * event was read: this thread's only work. The page faults that it reads along the way stay
 * asleep until they are woken. */
static void *event_reader(void *arg)
{
	struct swap *s = arg;
	struct pollfd p[] = { { .fd = s->uffd, .events = POLLIN },
			      { .fd = s->stop, .events = POLLIN } };
	struct uffd_msg msg;

	space_join();
	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			return NULL;
		while (real.read(s->uffd, &msg, sizeof(msg)) > 0)
			;
	}
}

/* The move itself cannot fail for want of memory once both ends exist, but the kernel keeps the
 * right to say so. There is no way back from an open hole: say it and try again. */
static void must_move(void *from, size_t len, void *to)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	bool said = false;

	while (real.mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
		if (!said)
			log_event(EV_ERROR,
				  "call=mremap errno=%d reason=\"cannot open the curtain; "
				  "threads wait\" remedy=\"raise vm.max_map_count\"",
				  errno);
		said = true;
		nanosleep(&pause, NULL);
	}
}

/* PROT_NONE at first and unlocked, so that mlockall(MCL_FUTURE) cannot populate it: a present
 * page would be read instead of waited for. */
static int holder_make(struct swap *s, struct curtain_span *span)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	void *p;

	p = real.mmap(NULL, span->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		      -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	span->holder = p;
	(void)real.munlock(p, span->len);
	/* A child made behind fork()'s back gets SIGSEGV instead of zeroes. */
	if (real.madvise(p, span->len, MADV_DONTFORK) < 0)
		return -errno;
	reg.range.start = (uintptr_t)p;
	reg.range.len = span->len;
	if (real.ioctl(s->uffd, UFFDIO_REGISTER, &reg) < 0)
		return -errno;
	if (real.mprotect(p, span->len, PROT_READ | PROT_WRITE) < 0)
		return -errno;
	return 0;
}

static int draw(struct swap *s)
{
	struct curtain_span *span;
	size_t i;

	for (i = 0; i < s->n; i++) {
		span = &s->span[i];
		if (real.mremap(span->holder, span->len, span->len,
				MREMAP_MAYMOVE | MREMAP_FIXED, span->addr) == MAP_FAILED)
			return -errno;
		span->holder = NULL;
		span->drawn = true;
	}
	return 0;
}

static void open_onto(struct swap *s, bool forward)
{
	struct uffdio_range range;
	struct curtain_span *span;
	size_t i;

	for (i = 0; i < s->n; i++) {
		span = &s->span[i];
		if (span->drawn)
			must_move(forward ? span->forward : span->backward, span->len,
				  span->addr);
	}
	for (i = 0; i < s->n; i++) {
		range.start = (uintptr_t)s->span[i].addr;
		range.len = s->span[i].len;
		if (s->span[i].drawn)
			(void)real.ioctl(s->uffd, UFFDIO_WAKE, &range);
	}
}

static int thread_start(pthread_t *ret_thread, void *(*fn)(void *), void *arg)
{
	const size_t stack = 256 * 1024;
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	err = pthread_create(ret_thread, &attr, fn, arg);
	if (err == EINVAL) /* much static thread-local storage: the default stack holds it */
		err = pthread_create(ret_thread, NULL, fn, arg);
	pthread_attr_destroy(&attr);
	return -err;
}

static int swap_with_reader(struct swap *s)
{
	pthread_t reader;
	int err;

	err = thread_start(&reader, event_reader, s);
	if (err)
		return err;
	err = draw(s);
	if (!err)
		err = s->act(s->arg);
	if (err && s->back)
		s->back(s->arg);
	open_onto(s, err == 0);
	while (eventfd_write(s->stop, 1) < 0)
		; /* without it the reader would never end */
	pthread_join(reader, NULL);
	return err;
}

static void *operator_thread(void *arg)
{
	struct swap *s = arg;
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMAP };
	bool covers;
	size_t i;

	space_join();
	s->uffd = uffd_open(&covers);
	s->stop = eventfd(0, EFD_CLOEXEC);
	if (s->uffd < 0)
		s->result = s->uffd;
	else if (s->stop < 0 || real.ioctl(s->uffd, UFFDIO_API, &api) < 0)
		s->result = -errno;
	for (i = 0; i < s->n && !s->result; i++)
		s->result = holder_make(s, &s->span[i]);
	if (!s->result)
		s->result = swap_with_reader(s);
	for (i = 0; i < s->n; i++)
		if (s->span[i].holder)
			real.munmap(s->span[i].holder, s->span[i].len);
	if (s->stop >= 0)
		real.close(s->stop);
	if (s->uffd >= 0)
		real.close(s->uffd);
	return NULL;
}

/*
 * The calling thread only waits: completions of its own io_uring requests may run in its
 * context at any time and copy into the spans, and must be able to sleep there. Cancellation is
 * off, for our callers hold locks.
 */
int curtain_swap(struct curtain_span *span, size_t n, int (*act)(void *arg),
		 void (*back)(void *arg), void *arg)
{
	struct swap s = { .span = span,
			  .n = n,
			  .act = act,
			  .back = back,
			  .arg = arg,
			  .uffd = -1,
			  .stop = -1 };
	sigset_t all, old;
	pthread_t operator;
	int cancel, err;
	size_t i;

	for (i = 0; i < n; i++) {
		span[i].holder = NULL;
		span[i].drawn = false;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	err = thread_start(&operator, operator_thread, &s);
	if (!err)
		pthread_join(operator, NULL);
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err ? err : s.result;
}
