/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing a file that is staged. A read first carries what memory has to the file.
 * A write goes to the file, which knows its errors, and then to the memory; the next sync finds
 * both alike.
 *
 * Every one of these may also copy from or to a range behind the curtain. Where userfaultfd
 * serves faults of user mode only, the kernel answers EFAULT then; we wait and ask again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/pin.h"
#include "lib/space.h"
#include "lib/stage.h"
#include "lib/sync.h"

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif

#define CURRENT ((off_t)-1) /* at the file's own position */

static bool anything_staged(void)
{
	return atomic_load_explicit(&space.staged, memory_order_relaxed) != 0;
}

/* Did an exchange come between? Then it is over when the lock is free. */
static bool exchange_between(unsigned before)
{
	struct space_guard g;

	if (!(before & 1) && atomic_load(&space.swaps) == before)
		return false;
	if (!space_lock(&g))
		return false;
	space_unlock(&g);
	errno = 0;
	return true;
}

#define AGAIN_AFTER_EXCHANGE(call)                                                        \
	({                                                                                \
		__typeof__(call) again_ret_;                                              \
		unsigned again_before_;                                                   \
		do {                                                                      \
			again_before_ =                                                   \
				atomic_load_explicit(&space.swaps, memory_order_relaxed); \
			again_ret_ = (call);                                              \
		} while (unlikely(again_ret_ < 0 && errno == EFAULT) &&                   \
			 exchange_between(again_before_));                                \
		again_ret_;                                                               \
	})

/* The list may be bad: that is for the kernel to say. What it would refuse is not looked at. */
static size_t total(const struct iovec *iov, int n)
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

static void before_read(int fd, size_t n, off_t off)
{
	struct inode_key key;
	int saved = errno;

	if (!sync_fd_staged(fd, &key))
		return;
	if (off == CURRENT)
		off = lseek(fd, 0, SEEK_CUR);
	if (off >= 0 && n)
		(void)sync_file(key, (uint64_t)off, (uint64_t)off + n, false);
	errno = saved;
}

ssize_t on_read(int fd, void *buf, size_t n)
{
	if (unlikely(anything_staged()))
		before_read(fd, n, CURRENT);
	return AGAIN_AFTER_EXCHANGE(real.read(fd, buf, n));
}

ssize_t on_pread(int fd, void *buf, size_t n, off_t off)
{
	if (unlikely(anything_staged()))
		before_read(fd, n, off);
	return AGAIN_AFTER_EXCHANGE(real.pread(fd, buf, n, off));
}

ssize_t on_readv(int fd, const struct iovec *iov, int n)
{
	if (unlikely(anything_staged()))
		before_read(fd, total(iov, n), CURRENT);
	return AGAIN_AFTER_EXCHANGE(real.readv(fd, iov, n));
}

ssize_t on_preadv(int fd, const struct iovec *iov, int n, off_t off)
{
	if (unlikely(anything_staged()))
		before_read(fd, total(iov, n), off);
	return AGAIN_AFTER_EXCHANGE(real.preadv(fd, iov, n, off));
}

ssize_t on_preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	if (unlikely(anything_staged()))
		before_read(fd, total(iov, n), off);
	return AGAIN_AFTER_EXCHANGE(real.preadv2(fd, iov, n, off, flags));
}

/* Where `n` bytes that were just written begin. A description in append mode writes at the end
 * wherever it was told to; `how`, RWF_ flags, may say otherwise. */
static off_t written_at(int fd, size_t n, off_t off, int how)
{
	struct stat st;
	int flags;

	if (off == CURRENT)
		return lseek(fd, 0, SEEK_CUR) - (off_t)n;
	flags = how & RWF_NOAPPEND ? 0 : fcntl(fd, F_GETFL);
	if ((how & RWF_APPEND || (flags >= 0 && flags & O_APPEND)) && fstat(fd, &st) == 0)
		return st.st_size - (off_t)n;
	return off;
}

/* Lock held. Only what the kernel has just read from these buffers is read again. */
static void take_into_memory(struct inode_key key, const struct iovec *iov, int n, size_t left,
			     off_t off)
{
	struct file *f = space_file(key, false);
	uint64_t at = (uint64_t)off, lo, hi;
	struct segment *s;

	for (int i = 0; f && off >= 0 && i < n && left; i++) {
		const size_t len = MIN(iov[i].iov_len, left);

		for (s = f->segments; s; s = s->next) {
			lo = MAX(at, s->off);
			hi = MIN(at + len, s->off + s->len);
			if (lo < hi)
				(void)!real.pwrite(s->memfd,
						   (const char *)iov[i].iov_base + (lo - at),
						   hi - lo, (off_t)(lo - s->off));
		}
		at += len;
		left -= len;
	}
	if (f && off >= 0 && segment_find(f, (uint64_t)off, at))
		sync_wrote(key, (uint64_t)off, at - (uint64_t)off);
}

struct writing {
	int fd;
	const struct iovec *iov;
	int n;
	off_t off;	      /* or CURRENT */
	int how;	      /* RWF_ flags */
	bool single, vector2; /* which call it was */
};

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

/* Staged while it was written to: whatever of it the staging saw, memory gets all of it. */
static void follow(const struct writing *w, ssize_t ret, struct inode_key key)
{
	if (ret > 0)
		take_into_memory(key, w->iov, w->n, (size_t)ret,
				 written_at(w->fd, (size_t)ret, w->off, w->how));
}

/* The lock is held from before the file is written until memory and keeper know: what is staged
 * is not given back in between. */
static ssize_t write_staged(const struct writing *w, struct inode_key key)
{
	struct space_guard g;
	ssize_t ret;
	int saved;

	if (!space_lock(&g))
		return write_to_file(w);
	ret = write_to_file(w);
	saved = errno;
	follow(w, ret, key);
	space_unlock(&g);
	errno = saved;
	return ret;
}

static void after_write(const struct writing *w, ssize_t ret)
{
	struct inode_key key;
	struct space_guard g;
	int saved = errno;

	if (ret > 0 && sync_fd_staged(w->fd, &key) && space_lock(&g)) {
		follow(w, ret, key);
		space_unlock(&g);
	}
	errno = saved;
}

static ssize_t write_anywhere(const struct writing *w)
{
	struct inode_key key;
	ssize_t ret;

	if (unlikely(anything_staged()) && sync_fd_staged(w->fd, &key))
		return write_staged(w, key);
	ret = AGAIN_AFTER_EXCHANGE(write_to_file(w));
	if (unlikely(anything_staged()))
		after_write(w, ret);
	return ret;
}

ssize_t on_write(int fd, const void *buf, size_t n)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };

	return write_anywhere(&(struct writing){ fd, &iov, 1, CURRENT, .single = true });
}

ssize_t on_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };

	if (unlikely(off == CURRENT)) /* an error, and the original's to tell */
		return real.pwrite(fd, buf, n, off);
	return write_anywhere(&(struct writing){ fd, &iov, 1, off, .single = true });
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

/* Not by pwrite(): RLIMIT_FSIZE is about the program's own writes. */
static void clear_from(const struct segment *s, uint64_t size)
{
	const uint64_t at = MAX(size, s->off) - s->off;
	char *p;

	if (at >= s->len)
		return;
	p = real.mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_SHARED, s->memfd, 0);
	if (p == MAP_FAILED)
		return;
	memset(p + at, 0, s->len - at);
	real.munmap(p, s->len);
}

/* What the file loses, no segment may keep: it is handed back first. Under a pin that cannot
 * be; then the memory reads zero from there on, as the file will if it grows again. The file
 * comes first: the kernel may refuse. */
static int truncate_staged(int fd, off_t len, struct inode_key key)
{
	const uint64_t size = (uint64_t)len;
	struct space_guard g;
	struct segment *s;
	enum reason why;
	struct file *f;
	int ret, saved;

	if (!space_lock(&g))
		return real.ftruncate(fd, len);
	f = space_file(key, false);
	while (f && (s = segment_find(f, size, UINT64_MAX)) && stage_retire(s, &why) == 0)
		f = space_file(key, false);
	ret = real.ftruncate(fd, len);
	saved = errno;
	for (s = f && ret == 0 ? f->segments : NULL; s; s = s->next)
		clear_from(s, size);
	space_unlock(&g);
	errno = saved;
	return ret;
}

int on_ftruncate(int fd, off_t len)
{
	struct inode_key key;

	if (unlikely(anything_staged()) && len >= 0 && sync_fd_staged(fd, &key))
		return truncate_staged(fd, len, key);
	return real.ftruncate(fd, len);
}

static int sync_staged(int fd)
{
	struct inode_key key;

	return sync_fd_staged(fd, &key) ? sync_file(key, 0, 0, true) : 0;
}

/* The program's own description reports what failed before; the keeper's what failed for it. */
int on_fsync(int fd)
{
	int err = unlikely(anything_staged()) ? sync_staged(fd) : 0;
	int ret = real.fsync(fd);

	if (ret == 0 && err) {
		errno = -err;
		return -1;
	}
	return ret;
}

int on_fdatasync(int fd)
{
	int err = unlikely(anything_staged()) ? sync_staged(fd) : 0;
	int ret = real.fdatasync(fd);

	if (ret == 0 && err) {
		errno = -err;
		return -1;
	}
	return ret;
}
