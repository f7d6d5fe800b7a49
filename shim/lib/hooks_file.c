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
#include <sys/stat.h>
#include <unistd.h>

#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/space.h"
#include "lib/stage.h"
#include "lib/sync.h"

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

static size_t total(const struct iovec *iov, int n)
{
	size_t sum = 0;

	/* What the kernel would refuse is not looked at. */
	for (int i = 0; i < n && n <= IOV_MAX; i++)
		sum += iov[i].iov_len;
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
 * wherever it was told to. */
static off_t written_at(int fd, size_t n, off_t off)
{
	struct stat st;
	int flags;

	if (off == CURRENT)
		return lseek(fd, 0, SEEK_CUR) - (off_t)n;
	flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && flags & O_APPEND && fstat(fd, &st) == 0)
		return st.st_size - (off_t)n;
	return off;
}

static void take_into_memory(struct inode_key key, const struct iovec *iov, int n, size_t left,
			     off_t off)
{
	struct space_guard g;
	struct segment *s;
	struct file *f;
	uint64_t at = (uint64_t)off, lo, hi;

	if (off < 0 || !space_lock(&g))
		return;
	f = space_file(key, false);
	for (int i = 0; f && i < n && left; i++) {
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
	space_unlock(&g);
}

static void after_write(int fd, const struct iovec *iov, int n, ssize_t ret, off_t off)
{
	struct inode_key key;
	int saved = errno;

	if (ret > 0 && sync_fd_staged(fd, &key))
		take_into_memory(key, iov, n, (size_t)ret, written_at(fd, (size_t)ret, off));
	errno = saved;
}

ssize_t on_write(int fd, const void *buf, size_t n)
{
	ssize_t ret = AGAIN_AFTER_EXCHANGE(real.write(fd, buf, n));
	struct iovec iov = { (void *)(uintptr_t)buf, n };

	if (unlikely(anything_staged()))
		after_write(fd, &iov, 1, ret, CURRENT);
	return ret;
}

ssize_t on_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	ssize_t ret = AGAIN_AFTER_EXCHANGE(real.pwrite(fd, buf, n, off));
	struct iovec iov = { (void *)(uintptr_t)buf, n };

	if (unlikely(anything_staged()))
		after_write(fd, &iov, 1, ret, off);
	return ret;
}

ssize_t on_writev(int fd, const struct iovec *iov, int n)
{
	ssize_t ret = AGAIN_AFTER_EXCHANGE(real.writev(fd, iov, n));

	if (unlikely(anything_staged()))
		after_write(fd, iov, n, ret, CURRENT);
	return ret;
}

ssize_t on_pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	ssize_t ret = AGAIN_AFTER_EXCHANGE(real.pwritev(fd, iov, n, off));

	if (unlikely(anything_staged()))
		after_write(fd, iov, n, ret, off);
	return ret;
}

ssize_t on_pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	ssize_t ret = AGAIN_AFTER_EXCHANGE(real.pwritev2(fd, iov, n, off, flags));

	if (unlikely(anything_staged()))
		after_write(fd, iov, n, ret, off);
	return ret;
}

/* What the file loses, no segment may keep: it is handed back first. Under a pin that cannot
 * be; then the memory reads zero from there on, as the file will if it grows again. */
static void before_truncate(struct inode_key key, uint64_t size)
{
	static const char zeroes[4096];
	struct space_guard g;
	struct segment *s;
	enum reason why;
	struct file *f;
	uint64_t at;

	if (!space_lock(&g))
		return;
	f = space_file(key, false);
	while (f && (s = segment_find(f, size, UINT64_MAX)) && stage_retire(s, &why) == 0)
		f = space_file(key, false);
	for (s = f ? f->segments : NULL; s; s = s->next)
		for (at = MAX(size, s->off); at < s->off + s->len;
		     at += MIN(sizeof(zeroes), s->off + s->len - at))
			(void)!real.pwrite(s->memfd, zeroes,
					   MIN(sizeof(zeroes), s->off + s->len - at),
					   (off_t)(at - s->off));
	space_unlock(&g);
}

int on_ftruncate(int fd, off_t len)
{
	struct inode_key key;

	if (unlikely(anything_staged()) && len >= 0 && sync_fd_staged(fd, &key))
		before_truncate(key, (uint64_t)len);
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
