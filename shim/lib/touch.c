/* SPDX-License-Identifier: MIT */
#include "lib/touch.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/newer.h"
#include "common/util.h"
#include "lib/copy_in.h"
#include "lib/real.h"

/* A byte of each page, by a call that can tell of bad memory. */
static bool read_each_page(uintptr_t at, uintptr_t end)
{
	enum { PAGES = 32 };
	struct iovec from[PAGES], to;
	char bytes[PAGES] = { 0 };
	size_t n;

	for (; at < end; at += n * page_size()) {
		for (n = 0; n < PAGES && n < (end - at) / page_size(); n++)
			from[n] = (struct iovec){ (void *)(at + n * page_size()), 1 };
		to = (struct iovec){ bytes, n };
		if (process_vm_readv(getpid(), &to, 1, from, n, 0) != (ssize_t)n)
			return false;
	}
	return true;
}

/* False: the call will get no further than here, either. */
static bool touch_one(const struct iovec *v, int advice)
{
	const uintptr_t start = page_down((uintptr_t)v->iov_base);
	const uintptr_t end = page_up((uintptr_t)v->iov_base + v->iov_len);

	if (!v->iov_len)
		return true;
	if (end <= start)
		return false;
	if (real.madvise((void *)start, end - start, advice) == 0)
		return true;
	/* A kernel that does not know this advice, or memory that it is not for. */
	if (errno == EINVAL && advice == MADV_POPULATE_READ)
		return read_each_page(start, end);
	return errno == EINVAL;
}

static void touch(const struct touch *t, size_t most, int advice)
{
	struct iovec v;

	most = MIN(most, (size_t)INT_MAX); /* no call moves more */
	for (int i = 0; i < t->n && most; i++) {
		if (t->ours)
			v = t->iov[i];
		else if (!pin_copy_in(&v, t->iov + i, sizeof(v)))
			return;
		v.iov_len = MIN(v.iov_len, most);
		if (!touch_one(&v, advice))
			return;
		most -= v.iov_len;
	}
}

void touch_to_fill(const struct touch *t, size_t most)
{
	touch(t, most, MADV_POPULATE_WRITE);
}

void touch_to_take(const struct touch *t, size_t most)
{
	touch(t, most, MADV_POPULATE_READ);
}
