/* SPDX-License-Identifier: MIT */
/*
 * Calls that carry data from one descriptor to another inside the kernel. Where they read a
 * staged file, it is brought up to date first. Where they write to one, nobody could say what
 * the memory has to get: the data goes through a buffer of ours, and from there into file and
 * memory by write().
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/join.h"
#include "lib/ownfd.h"
#include "lib/pin.h"
#include "lib/scratch.h"
#include "lib/sync.h"
#include "lib/turn.h"

#define CHUNK	  (1UL << 20)
#define PIPE_PART (64UL * 1024)

/* The position that such a pointer means; false if it cannot be read: the kernel's to say. */
static bool position(const off_t *off, off_t *ret)
{
	*ret = CURRENT;
	return !off || (pin_copy_in(ret, off, sizeof(*off)) && *ret >= 0);
}

static void before_source(int fd, const off_t *off, size_t n)
{
	off_t at;

	if (position(off, &at))
		file_before_read(fd, MIN(n, (size_t)SSIZE_MAX), at);
}

static bool is_staged(int fd)
{
	struct inode_key key;

	return sync_fd_staged(fd, &key);
}

static ssize_t read_part(int fd, const off_t *off, void *buf, size_t n)
{
	return real.pread(fd, buf, n, off ? *off : real.lseek(fd, 0, SEEK_CUR));
}

static void advance(int fd, off_t *off, ssize_t n)
{
	if (off)
		*off += n;
	else
		(void)real.lseek(fd, n, SEEK_CUR);
}

/* As much as can be; an error counts if nothing was moved before. */
static ssize_t through_buffer(int in, off_t *in_off, int out, off_t *out_off, size_t len)
{
	struct scratch scratch;
	ssize_t got, put = 0, done = 0;
	int saved = errno;
	char *buf;

	if (scratch_open(&scratch) < 0) {
		errno = ENOMEM;
		return -1;
	}
	buf = scratch_get(&scratch, CHUNK);
	while ((size_t)done < len) {
		got = read_part(in, in_off, buf, MIN(len - (size_t)done, CHUNK));
		put = got;
		if (got > 0)
			put = out_off ? on_pwrite(out, buf, (size_t)got, *out_off)
				      : on_write(out, buf, (size_t)got);
		if (put <= 0)
			break;
		advance(in, in_off, put);
		if (out_off)
			*out_off += put;
		done += put;
		if (put < got)
			break;
	}
	if (done == 0 && put < 0)
		saved = errno;
	scratch_close(&scratch);
	errno = saved;
	return done > 0 ? done : put;
}

/* The kernel's own checks, for nothing. What overlaps within one file it refuses. */
static bool copy_allowed(int in, off_t *in_off, int out, off_t *out_off, unsigned flags)
{
	return real.copy_file_range(in, in_off, out, out_off, 0, flags) == 0;
}

static bool overlaps(int in, off_t a, int out, off_t b, size_t len)
{
	struct stat x, y;

	return fstat(in, &x) == 0 && fstat(out, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino && a < b + (off_t)len && b < a + (off_t)len;
}

ssize_t on_copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t len,
			   unsigned int flags)
{
	off_t a, b;

	if (likely(!anything_staged()))
		return real.copy_file_range(in, in_off, out, out_off, len, flags);
	before_source(in, in_off, len);
	if (!is_staged(out) || !position(in_off, &a) || !position(out_off, &b) ||
	    len > (size_t)SSIZE_MAX || !copy_allowed(in, in_off, out, out_off, flags))
		return real.copy_file_range(in, in_off, out, out_off, len, flags);
	if (a == CURRENT)
		a = real.lseek(in, 0, SEEK_CUR);
	if (b == CURRENT)
		b = real.lseek(out, 0, SEEK_CUR);
	if (overlaps(in, a, out, b, MIN(len, (size_t)(INT64_MAX - MAX(a, b))))) {
		errno = EINVAL;
		return -1;
	}
	return through_buffer(in, in_off, out, out_off, len);
}

/* A source without positions is refused by the kernel, or is none that can be read ahead of. */
ssize_t on_sendfile(int out, int in, off_t *off, size_t n)
{
	off_t at;

	if (likely(!anything_staged()))
		return real.sendfile(out, in, off, n);
	before_source(in, off, n);
	if (!is_staged(out) || !position(off, &at) || real.lseek(in, 0, SEEK_CUR) < 0 ||
	    real.sendfile(out, in, off, 0) < 0)
		return real.sendfile(out, in, off, n);
	return through_buffer(in, off, out, NULL, MIN(n, (size_t)INT_MAX & ~(size_t)4095));
}

/* Waits until there is something in the pipe, or nobody who could write to it. */
static bool wait_for_data(int pipe, unsigned flags)
{
	struct pollfd p = { .fd = pipe, .events = POLLIN };

	return !(flags & SPLICE_F_NONBLOCK) && !(fcntl(pipe, F_GETFL) & O_NONBLOCK) &&
	       poll(&p, 1, -1) > 0;
}

/* From a pipe into a staged file: a copy of what comes goes into a pipe of ours, and from there
 * into the memory, once the file has taken the original. Nothing is taken out of the program's
 * pipe that the file does not get. */
static ssize_t splice_part(int in, int out, off_t *out_off, size_t len, unsigned flags,
			   struct inode_key key, const int own[2], char *buf)
{
	struct join_visit v = { .fd = out, .key = key };
	struct iovec iov = { buf, 0 };
	struct space_guard g;
	ssize_t seen, moved;
	int saved = errno;
	off_t at;

	if (!space_lock(&g))
		return real.splice(in, NULL, out, out_off, len, flags);
	turn_take(TURN_WRITE, key);
	at = out_off ? *out_off : real.lseek(out, 0, SEEK_CUR);
	v.off = (uint64_t)at;
	v.end = v.off + MIN(len, PIPE_PART);
	join_visit(&v);
	seen = tee(in, own[1], MIN(len, PIPE_PART), SPLICE_F_NONBLOCK);
	moved = seen;
	saved = seen < 0 ? errno : saved;
	if (seen > 0) {
		moved = real.splice(in, NULL, out, out_off, (size_t)seen,
				    flags | SPLICE_F_NONBLOCK);
		saved = moved < 0 ? errno : saved;
		iov.iov_len = (size_t)MAX(real.read(own[0], buf, (size_t)seen), (ssize_t)0);
		if (moved > 0)
			file_take(key, &iov, 1, MIN((size_t)moved, iov.iov_len), at);
	}
	join_end_visit(&v);
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	errno = saved;
	return moved;
}

static ssize_t splice_staged(int in, int out, off_t *out_off, size_t len, unsigned flags,
			     struct inode_key key)
{
	struct scratch scratch;
	int own[2], saved = errno;
	ssize_t ret;
	char *buf;

	if (pipe2(own, O_CLOEXEC) < 0)
		return -1;
	own[0] = ownfd_adopt(own[0]);
	own[1] = ownfd_adopt(own[1]);
	if (own[0] < 0 || own[1] < 0 || scratch_open(&scratch) < 0) {
		ownfd_close(own[0]);
		ownfd_close(own[1]);
		errno = ENOMEM;
		return -1;
	}
	buf = scratch_get(&scratch, PIPE_PART);
	do {
		errno = saved;
		ret = splice_part(in, out, out_off, len, flags, key, own, buf);
	} while (ret < 0 && errno == EAGAIN && wait_for_data(in, flags));
	saved = errno;
	scratch_close(&scratch);
	ownfd_close(own[0]);
	ownfd_close(own[1]);
	errno = saved;
	return ret;
}

ssize_t on_splice(int in, off_t *in_off, int out, off_t *out_off, size_t len,
		  unsigned int flags)
{
	struct inode_key key;
	off_t at;

	if (likely(!anything_staged()))
		return real.splice(in, in_off, out, out_off, len, flags);
	before_source(in, in_off, len);
	if (!len || in_off || !sync_fd_staged(out, &key) || !position(out_off, &at) ||
	    fcntl(out, F_GETFL) & O_APPEND || fcntl(in, F_GETPIPE_SZ) < 0)
		return real.splice(in, in_off, out, out_off, len, flags);
	return splice_staged(in, out, out_off, len, flags, key);
}

/*
 * A clone shares blocks with its source. Into a staged file there is none: memory would have to
 * follow, and whoever clones copies where a file system cannot. (What FIDEDUPERANGE shares is
 * the same before and after.)
 */
static int clone_staged(int fd, unsigned long request, void *arg, int source)
{
	struct inode_key key;

	if (sync_fd_staged(fd, &key)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	file_before_read(source, SSIZE_MAX, 0);
	return real.ioctl(fd, request, arg);
}

int on_ioctl(int fd, unsigned long request, void *arg)
{
	struct file_clone_range range;

	if (likely(!anything_staged()))
		return real.ioctl(fd, request, arg);
	switch (request) {
	case FICLONE:
		return clone_staged(fd, request, arg, (int)(intptr_t)arg);
	case FICLONERANGE:
		if (pin_copy_in(&range, arg, sizeof(range)))
			return clone_staged(fd, request, arg, (int)range.src_fd);
		break;
	case FS_IOC_FIEMAP:
		file_before_read(fd, SSIZE_MAX, 0);
		break;
	}
	return real.ioctl(fd, request, arg);
}
