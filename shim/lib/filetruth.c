/* SPDX-License-Identifier: MIT */
#include "lib/filetruth.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/exchange.h"
#include "lib/join.h"
#include "lib/pin.h"
#include "lib/real.h"
#include "lib/sync.h"
#include "lib/turn.h"

bool file_copy_in(void *dst, const void *src, size_t n)
{
	unsigned before;
	bool got;

	do {
		before = space_exchanges();
		got = pin_copy_in(dst, src, n);
	} while (!got && space_exchange_between(before));
	return got;
}

bool file_copy_out(void *dst, const void *src, size_t n)
{
	unsigned before;
	bool put;

	do {
		before = space_exchanges();
		put = pin_copy_out(dst, src, n);
	} while (!put && space_exchange_between(before));
	return put;
}

/* A list that cannot be read may itself be there. */
bool file_meets_exchange(const struct touch *buffers)
{
	const int saved = errno;
	bool meets = false;
	struct iovec v;

	if (space_inside() || !space_is_ours())
		return false;
	for (int i = 0; i < MIN(buffers->n, IOV_MAX) && !meets; i++) {
		if (buffers->ours)
			v = buffers->iov[i];
		else if (!pin_copy_in(&v, buffers->iov + i, sizeof(v)))
			v = (struct iovec){ (void *)(uintptr_t)(buffers->iov + i), sizeof(v) };
		meets = exchange_cuts((uintptr_t)v.iov_base, (uintptr_t)v.iov_base + v.iov_len);
	}
	errno = saved;
	return meets;
}

/* What of these buffers comes after the first `done` bytes, and in the same buffer. */
static bool rest_of(const struct touch *buffers, size_t done, struct iovec *ret)
{
	const size_t most = (size_t)INT_MAX & ~(page_size() - 1); /* no call moves more */
	size_t before = 0;
	struct iovec v;

	for (int i = 0; i < buffers->n && done < most; i++, before += v.iov_len) {
		if (buffers->ours)
			v = buffers->iov[i];
		else if (!file_copy_in(&v, buffers->iov + i, sizeof(v)))
			return false;
		if (done - before >= v.iov_len)
			continue;
		ret->iov_base = (char *)v.iov_base + (done - before);
		ret->iov_len = MIN(v.iov_len - (done - before), most - done);
		return true;
	}
	return false;
}

/* Whether it takes more without waiting: so it does still if that was not why it took no more.
 * Otherwise it may have been a signal, of which the program wants to know. */
static bool takes_more(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && p.revents == POLLOUT;
}

/* Whether it makes sense to ask: nobody waits at the end of a file, where one that the kernel
 * makes up may have nothing yet, and at the limit on sizes there is a signal to be had. */
static bool goes_on(int fd, off_t at, bool writes)
{
	struct rlimit limit;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	if (!S_ISREG(st.st_mode))
		return writes && takes_more(fd);
	if (at == CURRENT)
		at = real.lseek(fd, 0, SEEK_CUR);
	if (!writes)
		return at < st.st_size;
	return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	       (rlim_t)at < limit.rlim_cur;
}

bool file_cut_short(const struct cut *c, ssize_t ret, struct iovec *ret_rest)
{
	int saved = errno;
	bool cut;

	if (!space_exchange_since(c->before) || ret <= 0)
		return false;
	cut = rest_of(&c->buffers, (size_t)ret, ret_rest) && goes_on(c->fd, c->at, c->writes);
	errno = saved;
	return cut;
}

const struct iovec *file_list_take(struct file_list *l, const struct iovec *iov, int n)
{
	const int saved = errno;
	struct iovec *copy = l->few;

	l->mapped = false;
	if (n <= 0 || n > IOV_MAX)
		return iov;
	if ((size_t)n > ARRAY_SIZE(l->few)) {
		l->mapped = scratch_open(&l->many) == 0;
		copy = l->mapped ? scratch_get(&l->many, (size_t)n * sizeof(*copy)) : NULL;
	}
	if (copy && !file_copy_in(copy, iov, (size_t)n * sizeof(*copy)))
		copy = NULL;
	errno = saved;
	return copy ? copy : iov;
}

void file_list_drop(struct file_list *l)
{
	if (l->mapped)
		scratch_close(&l->many);
}

size_t file_total(const struct iovec *iov, int n)
{
	struct iovec copy[16];
	size_t sum = 0;
	int i, part;

	for (; n > 0 && n <= IOV_MAX; n -= part, iov += part) {
		part = MIN(n, (int)ARRAY_SIZE(copy));
		if (!pin_copy_in(copy, iov, (size_t)part * sizeof(*copy)))
			return SSIZE_MAX; /* or this is not allowed: as far as it may be */
		for (i = 0; i < part; i++)
			sum += copy[i].iov_len;
	}
	return sum;
}

void file_before_read(int fd, size_t n, off_t off)
{
	struct inode_key key;
	int saved = errno;

	if (!sync_fd_staged(fd, &key))
		return;
	if (off == CURRENT)
		off = real.lseek(fd, 0, SEEK_CUR);
	if (off >= 0 && n)
		(void)sync_file(key, (uint64_t)off, (uint64_t)off + n, false);
	errno = saved;
}

static void meet(struct inode_key key, uint64_t at)
{
	const uint64_t first = page_down(at);
	struct file *f = at % page_size() ? space_file(key, false) : NULL;

	if (f && segment_find(f, first, at))
		(void)sync_file(key, first, first + page_size(), false);
}

void file_meet(struct inode_key key, uint64_t a, uint64_t b, uint64_t c)
{
	int saved = errno;

	meet(key, a);
	if (page_down(b) != page_down(a) || a % page_size() == 0)
		meet(key, b);
	if ((page_down(c) != page_down(a) || a % page_size() == 0) &&
	    (page_down(c) != page_down(b) || b % page_size() == 0))
		meet(key, c);
	errno = saved;
}

/* False if the program unmapped what it wrote from. */
static bool write_memory(const struct segment *s, uint64_t off, const char *from, size_t len)
{
	return real.pwrite(s->memfd, from, len, (off_t)(off - s->off)) == (ssize_t)len;
}

/* The keeper is told that file and memory agree only where they do. Otherwise it finds the file
 * changed, and brings the memory what memory did not change. */
void file_take(struct inode_key key, const struct iovec *iov, int n, size_t left, off_t off)
{
	struct file *f = space_file(key, false);
	uint64_t at = (uint64_t)off, lo, hi;
	struct segment *s;
	bool all = true;

	for (int i = 0; f && off >= 0 && i < n && left; i++) {
		const size_t len = MIN(iov[i].iov_len, left);

		for (s = f->segments; s; s = s->next) {
			lo = MAX(at, s->off);
			hi = MIN(at + len, s->off + s->len);
			if (lo < hi)
				all &= write_memory(s, lo,
						    (const char *)iov[i].iov_base + (lo - at),
						    hi - lo);
		}
		at += len;
		left -= len;
	}
	if (f && off >= 0 && all && segment_find(f, (uint64_t)off, at))
		sync_wrote(key, (uint64_t)off, at - (uint64_t)off);
}

static void read_memory(const struct segment *s, uint64_t off, char *to, size_t len)
{
	(void)real.pread(s->memfd, to, len, (off_t)(off - s->off));
}

void file_give(struct inode_key key, const struct iovec *iov, int n, size_t left, off_t off)
{
	uint64_t at = (uint64_t)off, lo, hi;
	int saved = errno;
	struct space_guard g;
	struct segment *s;
	const bool locked = space_lock(&g);
	struct file *f = locked || space_inside() ? space_file(key, false) : NULL;

	for (int i = 0; f && i < n && left; i++) {
		const size_t len = MIN(iov[i].iov_len, left);

		for (s = f->segments; s; s = s->next) {
			lo = MAX(at, s->off);
			hi = MIN(at + len, s->off + s->len);
			if (lo < hi)
				read_memory(s, lo, (char *)iov[i].iov_base + (lo - at),
					    hi - lo);
		}
		at += len;
		left -= len;
	}
	if (locked)
		space_unlock(&g);
	errno = saved;
}

/* Not by pwrite(): RLIMIT_FSIZE is about the program's own writes. */
static bool clear_segment(const struct segment *s, uint64_t off, uint64_t end)
{
	const uint64_t lo = MAX(off, s->off), hi = MIN(end, s->off + s->len);
	const uint64_t first = page_down(lo);
	char *p;

	if (lo >= hi)
		return true;
	p = exchange_map_memory(s, first, hi - first);
	if (!p)
		return false;
	memset(p + (lo - first), 0, hi - lo);
	real.munmap(p, hi - first);
	return true;
}

void file_clear(struct file *f, uint64_t off, uint64_t end)
{
	bool all = true;

	for (struct segment *s = f->segments; s; s = s->next)
		all &= clear_segment(s, off, end);
	if (all)
		sync_wrote(f->key, off, end - off);
}

static bool can_read(int fd, struct inode_key key)
{
	const int flags = fcntl(fd, F_GETFL);
	struct stat st;

	return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY &&
	       !(flags & (O_DIRECT | O_PATH)) && fstat(fd, &st) == 0 && st.st_dev == key.dev &&
	       st.st_ino == key.ino;
}

int file_reader(int fd, struct inode_key key)
{
	struct file *f;

	if (can_read(fd, key))
		return fd;
	f = space_file(key, false);
	return f && f->fd >= 0 && can_read(f->fd, key) ? f->fd : -1;
}

/* Straight into the memory; not by pwrite(), as above. Behind the file's end it reads zero. */
static bool reread_segment(const struct segment *s, int fd, uint64_t off, uint64_t end)
{
	const uint64_t lo = MAX(off, s->off), hi = MIN(end, s->off + s->len);
	const uint64_t first = page_down(lo);
	uint64_t at = lo;
	ssize_t n = 1;
	char *p;

	if (lo >= hi)
		return true;
	p = exchange_map_memory(s, first, hi - first);
	if (!p)
		return false;
	for (; n > 0 && at < hi; at += (uint64_t)MAX(n, (ssize_t)0))
		n = real.pread(fd, p + (at - first), hi - at, (off_t)at);
	if (n == 0)
		memset(p + (at - first), 0, hi - at);
	real.munmap(p, hi - first);
	return n >= 0;
}

/* Memory gets what the file reads in [off, end). False: not all of it. Lock held. */
static bool reread(int fd, struct inode_key key, uint64_t off, uint64_t end)
{
	struct file *f = space_file(key, false);
	struct stat st;
	bool all = true;
	int reader;

	if (!f || off >= end || !segment_find(f, off, end))
		return true;
	reader = file_reader(fd, key);
	if (reader < 0) {
		off = fstat(fd, &st) == 0 ? MAX(off, (uint64_t)st.st_size) : end;
		if (off < end)
			file_clear(f, off, end);
		return false;
	}
	for (struct segment *s = f->segments; s; s = s->next)
		all &= reread_segment(s, reader, off, end);
	if (all)
		sync_wrote(key, off, end - off);
	return all;
}

/* Without a descriptor to read it from, the keeper finds the file changed, and brings the
 * memory what memory did not change. */
void file_look_again(int fd, uint64_t off, uint64_t end)
{
	struct join_visit v = { .fd = fd, .off = off, .end = MIN(end, (uint64_t)INT64_MAX) };
	struct space_guard g;
	int saved = errno;
	bool all;

	if (sync_fd_staged(fd, &v.key) && space_lock(&g)) {
		turn_take(TURN_WRITE, v.key);
		join_visit(&v);
		all = reread(fd, v.key, off, end);
		join_end_visit(&v);
		turn_give(TURN_WRITE, v.key);
		space_unlock(&g);
		if (!all)
			(void)sync_file(v.key, 0, 0, false);
	}
	errno = saved;
}
