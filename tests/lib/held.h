/* SPDX-License-Identifier: MIT */
/*
 * A page that the kernel has to wait for when a call reads an argument from it: so a call is
 * held before it has done anything. Where userfaultfd does not serve the kernel's own faults
 * (unprivileged users), nothing is held: then a case runs all the same, right either way.
 */
#ifndef HELD_H
#define HELD_H

#include "testlib.h"

#include <dirent.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

struct held {
	void *at;
	int fd; /* -1: not held */
	unsigned char content[4096];
};

__attribute__((unused)) static void hold(struct held *h, const void *content, size_t n)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	h->at = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	assert_true(h->at != MAP_FAILED);
	assert_true(n <= sizeof(h->content));
	memcpy(h->content, content, n);
	r.range.start = (uintptr_t)h->at;
	r.range.len = page_size();
	h->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (h->fd >= 0 &&
	    (ioctl(h->fd, UFFDIO_API, &api) < 0 || ioctl(h->fd, UFFDIO_REGISTER, &r) < 0)) {
		close(h->fd);
		h->fd = -1;
	}
	if (h->fd < 0)
		memcpy(h->at, content, n);
}

/* Until the call stands before it. */
__attribute__((unused)) static void wait_held(const struct held *h)
{
	struct pollfd p = { .fd = h->fd, .events = POLLIN };

	if (h->fd >= 0)
		assert_int_equal(poll(&p, 1, 20000), 1);
}

__attribute__((unused)) static void let_go(struct held *h)
{
	unsigned char *page = calloc(1, page_size());
	struct uffdio_copy c = { .dst = (uintptr_t)h->at,
				 .src = (uintptr_t)page,
				 .len = page_size() };

	assert_non_null(page);
	memcpy(page, h->content, sizeof(h->content));
	if (h->fd >= 0) {
		assert_int_equal(ioctl(h->fd, UFFDIO_COPY, &c), 0);
		close(h->fd);
	}
	free(page);
}

struct calls {
	long one, other;
	unsigned threads; /* that sleep in these */
};

/* Whether so many other threads of the process sleep in these system calls (a struct calls). */
__attribute__((unused)) static bool threads_sleep_in(void *calls)
{
	const struct calls *in = calls;
	DIR *tasks = opendir("/proc/self/task");
	char path[300], text[64];
	unsigned asleep = 0;
	struct dirent *d;
	long nr;
	FILE *f;

	while (tasks && (d = readdir(tasks))) {
		if (d->d_name[0] == '.' || atoi(d->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", d->d_name);
		f = fopen(path, "re");
		if (f && fgets(text, sizeof(text), f) && text[0] != 'r') { /* running */
			nr = strtol(text, NULL, 10);
			asleep += nr == in->one || nr == in->other;
		}
		if (f)
			fclose(f);
	}
	if (tasks)
		closedir(tasks);
	return asleep >= in->threads;
}

/* Whether one does in *nr (a long). */
__attribute__((unused)) static bool thread_sleeps_in(void *nr)
{
	return threads_sleep_in(&(struct calls){ *(long *)nr, *(long *)nr, 1 });
}

#endif
