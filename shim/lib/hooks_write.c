/* SPDX-License-Identifier: MIT */
/*
 * Writing a file that is staged: the file comes first, which knows its errors, and then the
 * memory; the next sync finds both alike.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/newer.h"
#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/join.h"
#include "lib/sync.h"
#include "lib/touch.h"
#include "lib/turn.h"

struct writing {
	int fd;
	const struct iovec *iov;
	int n;
	off_t off;	      /* or CURRENT */
	int how;	      /* RWF_ flags */
	bool single, vector2; /* which call it was */
};

/* A description in append mode writes at the end wherever it was told to; RWF_ flags may say
 * otherwise. */
static bool appends(const struct writing *w)
{
	const int flags = w->how & RWF_NOAPPEND ? 0 : fcntl(w->fd, F_GETFL);

	return w->how & RWF_APPEND || (flags >= 0 && flags & O_APPEND);
}

/* Whether the file has at `at` the first n bytes that were written. */
static bool file_has(int fd, const struct writing *w, size_t n, off_t at)
{
	char there[4096];
	size_t len, part;

	for (int i = 0; i < w->n && n; i++) {
		for (size_t done = 0; done < w->iov[i].iov_len && n; done += len) {
			part = MIN(w->iov[i].iov_len - done, n);
			len = MIN(part, sizeof(there));
			if (real.pread(fd, there, len, at) != (ssize_t)len ||
			    memcmp(there, (const char *)w->iov[i].iov_base + done, len))
				return false;
			at += (off_t)len;
			n -= len;
		}
	}
	return true;
}

/* Whether memory, where there is any, has at `at` the n bytes that the file has. */
static bool memory_has(struct inode_key key, int fd, uint64_t at, size_t n)
{
	const struct file *f = space_file(key, false);
	char there[4096], here[4096];
	size_t len;

	for (const struct segment *s = f ? f->segments : NULL; s; s = s->next) {
		const uint64_t lo = MAX(at, s->off), hi = MIN(at + n, s->off + s->len);

		for (uint64_t p = lo; p < hi; p += len) {
			len = MIN(hi - p, sizeof(there));
			if (real.pread(fd, there, len, (off_t)p) != (ssize_t)len ||
			    real.pread(s->memfd, here, len, (off_t)(p - s->off)) !=
				    (ssize_t)len ||
			    memcmp(there, here, len))
				return false;
		}
	}
	return true;
}

static size_t least(size_t a, size_t b, size_t c)
{
	const size_t ab = MIN(a, b);

	return MIN(ab, c);
}

/*
 * Looks for the n bytes backwards from `last`: where the file has them and memory has not, or
 * else where the file has them last; -1. Few bytes are looked for only where others of their
 * kind would end. Lock held: there is one window for all.
 */
static off_t search_back(int fd, const struct writing *w, struct inode_key key, size_t n,
			 off_t last)
{
	enum { WINDOW = 65536, FEW = 16, FAR = 64 << 20, TRIES = 4096 };
	static char window[WINDOW];
	const char *head = w->iov[0].iov_base, *hit;
	const size_t probe = least(n, w->iov[0].iov_len, 64);
	off_t found = -1, begin, at;
	int tries = 0;
	ssize_t i;

	for (off_t end = last + (off_t)probe; probe && end > MAX(last - FAR, 0);
	     end = begin + (off_t)probe - 1) {
		begin = MAX(end - WINDOW, 0);
		i = real.pread(fd, window, (size_t)(end - begin), begin);
		for (i -= (ssize_t)probe; i >= 0; i = hit - window - 1) {
			hit = memrchr(window, head[0], (size_t)i + 1);
			if (!hit)
				break;
			at = begin + (hit - window);
			if ((n < FEW && (last - at) % (off_t)n) || memcmp(hit, head, probe))
				continue;
			if (++tries > TRIES)
				return found;
			if (!file_has(fd, w, n, at))
				continue;
			if (!memory_has(key, fd, (uint64_t)at, n))
				return at;
			found = found < 0 ? at : found;
		}
		if (begin == 0)
			break;
	}
	return found;
}

/*
 * Where n bytes that were just written begin, or -1 if that cannot be known. The kernel does
 * not tell. Position and end do, unless others moved them since: threads that began to write
 * before the file was staged take no turns. Then the file is asked.
 * `before` is where it would be if nobody did, if that is known.
 */
static off_t written_at(const struct writing *w, struct inode_key key, size_t n, off_t before)
{
	off_t at = w->off;
	struct stat st;
	int fd;

	if (at == CURRENT)
		at = real.lseek(w->fd, 0, SEEK_CUR) - (off_t)n;
	else if (appends(w))
		at = fstat(w->fd, &st) == 0 ? st.st_size - (off_t)n : -1;
	else
		return at;
	if (at == before)
		return at;
	fd = file_reader(w->fd, key);
	if (fd < 0)
		return before < 0 ? at : -1;
	if (before >= 0 && file_has(fd, w, n, before))
		return before;
	return at < 0 || file_has(fd, w, n, at) ? at : search_back(fd, w, key, n, at);
}

static ssize_t write_to_file(const struct writing *w)
{
	if (w->single && w->off == CURRENT)
		return real.write(w->fd, w->iov->iov_base, w->iov->iov_len);
	if (w->single)
		return real.pwrite(w->fd, w->iov->iov_base, w->iov->iov_len, w->off);
	if (w->vector2)
		return real.pwritev2(w->fd, w->iov, w->n, w->off, w->how);
	if (w->off == CURRENT)
		return real.writev(w->fd, w->iov, w->n);
	return real.pwritev(w->fd, w->iov, w->n, w->off);
}

/* What a call is about to write, as far as can be known: others may move the position or the
 * end. Returns where. */
static off_t range_before(const struct writing *w, struct join_visit *v)
{
	off_t at = w->off == CURRENT ? real.lseek(w->fd, 0, SEEK_CUR) : w->off;
	struct stat st;

	v->off = at < 0 ? 0 : (uint64_t)at;
	if (__builtin_add_overflow(v->off, file_total(w->iov, w->n), &v->end))
		v->end = INT64_MAX;
	if (appends(w) && fstat(w->fd, &st) == 0) {
		at = st.st_size;
		v->off = (uint64_t)at;
		v->end = INT64_MAX;
	}
	return at;
}

/* Memory gets what the file got. Where the file grew over a gap, that reads zero, whatever
 * memory had behind the old end. Lock held. */
static void follow(const struct writing *w, struct inode_key key, uint64_t old_size, size_t n,
		   off_t at, struct join_visit *v)
{
	struct file *f;

	if (at < 0)
		return;
	join_visit_more(v, MIN(old_size, (uint64_t)at), (uint64_t)at + n);
	f = space_file(key, false);
	if (f && (uint64_t)at > old_size && segment_find(f, old_size, (uint64_t)at))
		file_clear(f, old_size, (uint64_t)at);
	file_take(key, w->iov, w->n, n, at);
}

static bool wants_durable(const struct writing *w)
{
	const int flags = fcntl(w->fd, F_GETFL);

	return w->how & (RWF_DSYNC | RWF_SYNC) || (flags >= 0 && flags & O_DSYNC);
}

static void touch_buffers(const struct writing *w, size_t most)
{
	touch_to_take(&(struct touch){ w->iov, w->n, .ours = w->single }, most);
}

/* The lock is held from before the file is written until memory and keeper know: what is staged
 * is not given back in between. The same long it is our turn among the processes: nobody else
 * moves the position or the end, or writes the two the other way round. */
static ssize_t write_both(const struct writing *w, struct inode_key key)
{
	struct join_visit v = { .fd = w->fd, .key = key };
	struct space_guard g;
	struct stat st;
	off_t before, at = -1;
	ssize_t ret;
	int saved = errno, err;

	touch_buffers(w, SSIZE_MAX);
	errno = saved;
	if (!space_lock(&g))
		return write_to_file(w);
	turn_take(TURN_WRITE, key);
	before = range_before(w, &v);
	join_visit(&v);
	if (fstat(w->fd, &st) < 0)
		st.st_size = INT64_MAX;
	if (v.end > v.off)
		file_meet(key, v.off, v.end, MIN(v.off, (uint64_t)st.st_size));
	errno = saved;
	ret = write_to_file(w);
	saved = errno;
	if (ret > 0) {
		at = written_at(w, key, (size_t)ret, before);
		follow(w, key, (uint64_t)st.st_size, (size_t)ret, at, &v);
	}
	join_end_visit(&v);
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	if (ret > 0 && at < 0)
		(void)sync_file(key, 0, 0, false);
	/* A pass of the keeper may have written the page between the two: once more. */
	if (ret > 0 && wants_durable(w)) {
		err = sync_file(key, MAX(at, 0), at < 0 ? 0 : (uint64_t)at + (size_t)ret, true);
		if (err) {
			errno = -err;
			return -1;
		}
	}
	errno = saved;
	return ret;
}

static ssize_t write_staged(const struct writing *w, struct inode_key key)
{
	struct writing once = *w;
	struct file_list list;
	ssize_t ret;

	if (w->single)
		return write_both(w, key);
	once.iov = file_list_take(&list, w->iov, w->n);
	ret = write_both(&once, key);
	file_list_drop(&list);
	return ret;
}

/* Staged by another process while it was written to: whatever of it the staging saw, memory
 * gets all of it. Where that is cannot always be known: then memory gets what it has not
 * changed. */
static __attribute__((noinline)) void after_write(const struct writing *w, ssize_t ret)
{
	struct inode_key key;
	struct space_guard g;
	int saved = errno;
	off_t at;

	if (ret > 0)
		touch_buffers(w, (size_t)ret);
	if (ret > 0 && sync_fd_staged(w->fd, &key) && space_lock(&g)) {
		struct join_visit v = { .fd = w->fd, .key = key };

		turn_take(TURN_WRITE, key);
		at = written_at(w, key, (size_t)ret, -1);
		follow(w, key, UINT64_MAX, (size_t)ret, at, &v);
		join_end_visit(&v);
		turn_give(TURN_WRITE, key);
		space_unlock(&g);
		if (at < 0)
			(void)sync_file(key, 0, 0, false);
	}
	errno = saved;
}

/* As file_enter(), and noted so that no exchange begins in the middle of it; it does not begin
 * in one, either. */
static bool enter(const struct writing *w, struct inode_key *ret_key, unsigned *ret_before)
{
	const struct touch buffers = { w->iov, w->n, .ours = w->single };

	while (file_enter(w->fd, ret_key)) {
		if (w->single)
			inflight_copies(w->iov->iov_base, w->iov->iov_len);
		else
			inflight_copies(NULL, SIZE_MAX);
		*ret_before = space_exchanges();
		if (!file_exchange_now(*ret_before, &buffers))
			return true;
		inflight_end();
		(void)space_exchange_between(*ret_before);
	}
	return false;
}

/* EFAULT may be the curtain of another file's staging, over what is written from: then nothing
 * was written. */
static ssize_t write_once(const struct writing *w, unsigned *ret_before)
{
	const int saved = errno;
	struct inode_key key;
	ssize_t ret;
	bool others;

	do {
		errno = saved;
		*ret_before = space_exchanges();
		if (!enter(w, &key, ret_before))
			return write_staged(w, key);
		ret = write_to_file(w);
		others = file_leave(w->fd, key);
	} while (unlikely(ret < 0 && errno == EFAULT) && space_exchange_between(*ret_before));
	if (unlikely(others))
		after_write(w, ret);
	return ret;
}

/* Where what comes behind the first `done` bytes goes. (In append mode the position is there.)
 */
static off_t next_at(const struct writing *w, ssize_t done)
{
	struct stat st;

	if (w->off == CURRENT)
		return CURRENT;
	return appends(w) && fstat(w->fd, &st) == 0 ? st.st_size : w->off + done;
}

/* The rest of what a curtain has cut short. An error is told by the next call. */
static ssize_t write_rest(const struct writing *w, ssize_t done, unsigned before)
{
	struct cut c = { w->fd, { w->iov, w->n, .ours = w->single }, before, CURRENT, true };
	const int saved = errno;
	struct iovec rest;
	unsigned again;
	ssize_t n;

	do {
		c.at = next_at(w, done);
		if (!file_cut_short(&c, done, &rest))
			break;
		n = write_once(
			&(struct writing){ w->fd, &rest, 1, c.at, w->how, .vector2 = true },
			&again);
		done += MAX(n, (ssize_t)0);
	} while (n == (ssize_t)rest.iov_len || (n > 0 && space_exchange_since(again)));
	errno = saved;
	return done;
}

static ssize_t write_anywhere(const struct writing *w)
{
	unsigned before;
	const ssize_t ret = write_once(w, &before);

	return space_exchange_since(before) ? write_rest(w, ret, before) : ret;
}

/* Begun, and with something staged. `done`: what the call has returned, or -1: not made, or to
 * be made again. */
static __attribute__((noinline)) ssize_t write_single(int fd, const void *buf, size_t n,
						      off_t off, ssize_t done, unsigned before)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };
	const struct writing w = { fd, &iov, 1, off, .single = true };

	if (done < 0)
		return write_anywhere(&w);
	if (file_leave(fd, SYNC_NOT_ASKED))
		after_write(&w, done);
	return space_exchange_since(before) ? write_rest(&w, done, before) : done;
}

/* Nothing was staged when the call began: is that all there is to say? */
static inline bool nothing_to_follow(ssize_t ret, size_t n)
{
	return likely(ret == (ssize_t)n) ? likely(!anything_staged())
					 : ret < 0 && errno != EFAULT;
}

ssize_t on_write(int fd, const void *buf, size_t n)
{
	const unsigned before = space_exchanges();
	ssize_t ret = -1;

	inflight_begin(fd);
	inflight_copies(buf, n);
	if (likely(!anything_staged())) {
		ret = real.write(fd, buf, n);
		if (nothing_to_follow(ret, n)) {
			inflight_end();
			return ret;
		}
	}
	return write_single(fd, buf, n, CURRENT, ret, before);
}

ssize_t on_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	const unsigned before = space_exchanges();
	ssize_t ret = -1;

	if (unlikely(off == CURRENT)) /* an error, and the original's to tell */
		return real.pwrite(fd, buf, n, off);
	inflight_begin(fd);
	inflight_copies(buf, n);
	if (likely(!anything_staged())) {
		ret = real.pwrite(fd, buf, n, off);
		if (nothing_to_follow(ret, n)) {
			inflight_end();
			return ret;
		}
	}
	return write_single(fd, buf, n, off, ret, before);
}

ssize_t on_writev(int fd, const struct iovec *iov, int n)
{
	return write_anywhere(
		&(struct writing){ .fd = fd, .iov = iov, .n = n, .off = CURRENT });
}

ssize_t on_pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	if (unlikely(off == CURRENT))
		return real.pwritev(fd, iov, n, off);
	return write_anywhere(&(struct writing){ .fd = fd, .iov = iov, .n = n, .off = off });
}

ssize_t on_pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	return write_anywhere(&(struct writing){ fd, iov, n, off, flags, .vector2 = true });
}
