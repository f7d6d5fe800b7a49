/* SPDX-License-Identifier: MIT */
/* Reading a file that is staged: what memory has is carried to the file first. */
#include <limits.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"

ssize_t on_read(int fd, void *buf, size_t n)
{
	if (unlikely(anything_staged()))
		file_before_read(fd, n, CURRENT);
	return AGAIN_AFTER_EXCHANGE(real.read(fd, buf, n));
}

ssize_t on_pread(int fd, void *buf, size_t n, off_t off)
{
	if (unlikely(anything_staged()))
		file_before_read(fd, n, off);
	return AGAIN_AFTER_EXCHANGE(real.pread(fd, buf, n, off));
}

ssize_t on_readv(int fd, const struct iovec *iov, int n)
{
	if (unlikely(anything_staged()))
		file_before_read(fd, file_total(iov, n), CURRENT);
	return AGAIN_AFTER_EXCHANGE(real.readv(fd, iov, n));
}

ssize_t on_preadv(int fd, const struct iovec *iov, int n, off_t off)
{
	if (unlikely(anything_staged()))
		file_before_read(fd, file_total(iov, n), off);
	return AGAIN_AFTER_EXCHANGE(real.preadv(fd, iov, n, off));
}

ssize_t on_preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	if (unlikely(anything_staged()))
		file_before_read(fd, file_total(iov, n), off);
	return AGAIN_AFTER_EXCHANGE(real.preadv2(fd, iov, n, off, flags));
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
