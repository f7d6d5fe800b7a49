/* SPDX-License-Identifier: MIT */
/* Reading a file that is staged: what memory has is carried to the file first. */
#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/scratch.h"
#include "lib/touch.h"
#include "lib/turn.h"

struct reading {
	int fd;
	const struct iovec *iov;
	int n;
	off_t off;	      /* or CURRENT */
	int how;	      /* RWF_ flags */
	bool single, vector2; /* which call it is */
};

static ssize_t read_file(const struct reading *r)
{
	if (r->single && r->off == CURRENT)
		return real.read(r->fd, r->iov->iov_base, r->iov->iov_len);
	if (r->single)
		return real.pread(r->fd, r->iov->iov_base, r->iov->iov_len, r->off);
	if (r->vector2)
		return real.preadv2(r->fd, r->iov, r->n, r->off, r->how);
	if (r->off == CURRENT)
		return real.readv(r->fd, r->iov, r->n);
	return real.preadv(r->fd, r->iov, r->n, r->off);
}

/* Noted, so that no exchange begins in the middle of it; of what is mapped when that is asked,
 * nobody could stage anything. False: not noted. Either way it does not begin in an exchange.
 */
static bool begin(const struct reading *r, unsigned *ret_before)
{
	const struct touch buffers = { r->iov, r->n, .ours = r->single };
	bool noted;

	for (;;) {
		noted = atomic_load_explicit(&space.tracked, memory_order_relaxed) &&
			inflight_begin_reading(r->fd);
		if (noted && r->single)
			inflight_copies(r->iov->iov_base, r->iov->iov_len);
		else if (noted)
			inflight_copies(NULL, SIZE_MAX);
		*ret_before = space_exchanges();
		if (!file_exchange_now(*ret_before, &buffers))
			return noted;
		if (noted)
			inflight_end();
		(void)space_exchange_between(*ret_before);
	}
}

static ssize_t read_once(const struct reading *r, unsigned *ret_before)
{
	const int saved = errno;
	ssize_t ret;
	bool noted;

	do {
		errno = saved;
		noted = begin(r, ret_before);
		ret = read_file(r);
		if (noted)
			inflight_end();
	} while (unlikely(ret < 0 && errno == EFAULT) && space_exchange_between(*ret_before));
	return ret;
}

/* The rest of what a curtain has cut short: up to where the file ends. */
static __attribute__((noinline)) ssize_t read_rest(const struct reading *r, ssize_t done,
						   unsigned before)
{
	struct cut c = { r->fd, { r->iov, r->n, .ours = r->single }, before, CURRENT, false };
	const int saved = errno;
	struct iovec rest;
	unsigned again;
	ssize_t n;

	do {
		if (r->off != CURRENT)
			c.at = r->off + done;
		if (!file_cut_short(&c, done, &rest))
			break;
		n = read_once(
			&(struct reading){ r->fd, &rest, 1, c.at, r->how, .vector2 = true },
			&again);
		done += MAX(n, (ssize_t)0);
	} while (n == (ssize_t)rest.iov_len || (n > 0 && space_exchange_since(again)));
	errno = saved;
	return done;
}

/* Whether what it gives is gone, also if it could not be put where it was asked for. (The files
 * that the kernel makes up have no size.) */
static bool gives_once(int fd)
{
	socklen_t len = sizeof(int);
	const int before = errno;
	struct stat st;
	int type;

	if (fstat(fd, &st) < 0) {
		errno = before; /* a filter may deny it, and not the read */
		return false;
	}
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return st.st_size == 0;
	case S_IFSOCK:
		return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
		       type != SOCK_STREAM;
	case S_IFIFO:
	case S_IFBLK:
	case S_IFDIR:
		return false;
	default:
		return true;
	}
}

#define ASIDE_MOST (64UL * 1024) /* events, lines and messages are not longer */

static bool belongs_aside(const struct reading *r)
{
	return r->single && r->iov->iov_len && r->iov->iov_len <= ASIDE_MOST &&
	       space_concerned((uintptr_t)r->iov->iov_base, r->iov->iov_len) &&
	       gives_once(r->fd);
}

static void close_aside(void *scratch)
{
	scratch_close(scratch);
}

/* By way of memory over which no curtain comes: for as long as it waits, one may be drawn over
 * the program's. False: there is none. */
static bool read_aside(const struct reading *r, ssize_t *ret_got)
{
	const int before = errno;
	struct scratch scratch;
	struct iovec own;
	int saved;
	ssize_t ret;
	bool open = scratch_open(&scratch) == 0;

	errno = before;
	if (!open)
		return false;
	own = (struct iovec){ scratch_get(&scratch, ASIDE_MOST), r->iov->iov_len };
	pthread_cleanup_push(close_aside, &scratch);
	ret = read_file(&(struct reading){ r->fd, &own, 1, r->off, r->how, .single = true });
	if (ret > 0 && !file_copy_out(r->iov->iov_base, own.iov_base, (size_t)ret))
		ret = -1; /* with the kernel's errno */
	saved = errno;
	pthread_cleanup_pop(1);
	errno = saved;
	*ret_got = ret;
	return true;
}

/* Which may meet a curtain. */
static ssize_t read_whole(const struct reading *r)
{
	unsigned before;
	ssize_t ret;

	if (unlikely(belongs_aside(r)) && read_aside(r, &ret))
		return ret;
	ret = read_once(r, &before);
	return space_exchange_since(before) ? read_rest(r, ret, before) : ret;
}

/* What memory has of what is about to be read at `off` goes to the file. */
static int bring(const struct reading *r, struct inode_key key, off_t off)
{
	const size_t most = r->single ? r->iov->iov_len : file_total(r->iov, r->n);

	return off >= 0 && most ? sync_file(key, (uint64_t)off, (uint64_t)off + most, false)
				: 0;
}

/* `err`: what came of that. Where it could not be, on a full disk for example, the program gets
 * what memory has all the same. */
static ssize_t read_brought(const struct reading *r, struct inode_key key, off_t off, int err)
{
	const ssize_t ret = read_whole(r);

	if (err && ret > 0)
		file_give(key, r->iov, r->n, (size_t)ret, off);
	return ret;
}

/* As far as the file reaches. */
static void touch_buffers(const struct reading *r, off_t off)
{
	const struct touch t = { r->iov, r->n, .ours = r->single };
	struct stat st;

	if (fstat(r->fd, &st) == 0 && st.st_size > off)
		touch_to_fill(&t, (size_t)(st.st_size - off));
}

/* At the position, which others must not move between the look at it and the call. What they
 * had time to do while the keeper wrote is looked for again; nobody else waits for that. */
static ssize_t read_on(const struct reading *r, struct inode_key key)
{
	const int before = errno;
	off_t off = real.lseek(r->fd, 0, SEEK_CUR), now;
	int err = bring(r, key, off), saved;
	struct space_guard g;
	ssize_t ret;

	touch_buffers(r, MAX(off, 0));
	errno = before;
	if (!space_lock(&g))
		return read_brought(r, key, off, err);
	turn_take(TURN_WRITE, key);
	now = real.lseek(r->fd, 0, SEEK_CUR);
	if (now != off)
		err = bring(r, key, now);
	errno = before;
	ret = read_brought(r, key, now, err);
	saved = errno;
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	errno = saved;
	return ret;
}

static ssize_t read_staged(const struct reading *r, struct inode_key key)
{
	const int before = errno;
	int err;

	if (r->off == CURRENT)
		return read_on(r, key);
	err = bring(r, key, r->off);
	errno = before;
	return read_brought(r, key, r->off, err);
}

static __attribute__((noinline)) ssize_t read_anywhere(const struct reading *r)
{
	struct reading once = *r;
	struct file_list list;
	struct inode_key key;
	ssize_t ret;

	if (!anything_staged() || !sync_fd_staged(r->fd, &key))
		return read_whole(r);
	if (r->single)
		return read_staged(r, key);
	once.iov = file_list_take(&list, r->iov, r->n);
	ret = read_staged(&once, key);
	file_list_drop(&list);
	return ret;
}

static __attribute__((noinline)) ssize_t read_single(int fd, void *buf, size_t n, off_t off)
{
	struct iovec iov = { buf, n };

	return read_anywhere(
		&(struct reading){ .fd = fd, .iov = &iov, .n = 1, .off = off, .single = true });
}

/*
 * Nothing is staged, and nobody can while the call is under way: the original's return is ours
 * then, for each return more after a system call costs up to 20 ns (docs/performance.md).
 */
static inline bool nothing_to_do(void)
{
	return likely(!anything_staged()) && likely(*real_single_threaded);
}

ssize_t on_read(int fd, void *buf, size_t n)
{
	if (nothing_to_do())
		return real.read(fd, buf, n);
	return read_single(fd, buf, n, CURRENT);
}

/* The position -1 is an error, and the original's to tell. */
ssize_t on_pread(int fd, void *buf, size_t n, off_t off)
{
	if (nothing_to_do() || off == CURRENT)
		return real.pread(fd, buf, n, off);
	return read_single(fd, buf, n, off);
}

ssize_t on_readv(int fd, const struct iovec *iov, int n)
{
	if (nothing_to_do())
		return real.readv(fd, iov, n);
	return read_anywhere(&(struct reading){ .fd = fd, .iov = iov, .n = n, .off = CURRENT });
}

ssize_t on_preadv(int fd, const struct iovec *iov, int n, off_t off)
{
	if (nothing_to_do() || off == CURRENT)
		return real.preadv(fd, iov, n, off);
	return read_anywhere(&(struct reading){ .fd = fd, .iov = iov, .n = n, .off = off });
}

ssize_t on_preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	if (nothing_to_do())
		return real.preadv2(fd, iov, n, off, flags);
	return read_anywhere(&(struct reading){ fd, iov, n, off, flags, .vector2 = true });
}

/* Where there is data and where a hole is the file's to say. btrfs takes a negative offset for
 * 0.
 */
off_t on_lseek(int fd, off_t off, int whence)
{
	if (unlikely(anything_staged()) && (whence == SEEK_DATA || whence == SEEK_HOLE))
		file_before_read(fd, SSIZE_MAX, MAX(off, 0));
	return real.lseek(fd, off, whence);
}

/* The fortified ones: libc ends the program if the buffer is too small. */
ssize_t on___read_chk(int fd, void *buf, size_t n, size_t room)
{
	return n > room ? real.__read_chk(fd, buf, n, room) : on_read(fd, buf, n);
}

ssize_t on___pread_chk(int fd, void *buf, size_t n, off_t off, size_t room)
{
	return n > room ? real.__pread_chk(fd, buf, n, off, room) : on_pread(fd, buf, n, off);
}
