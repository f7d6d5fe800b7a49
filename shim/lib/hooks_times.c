/* SPDX-License-Identifier: MIT */
/* The times that a program gives a file stay: what memory has by then is carried there before.
 * Of the file's own mapping each store would have changed them when it was made. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <utime.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/init.h"

static void carry_of(int fd)
{
	const int saved = errno;
	struct inode_key key;

	if (enabled && sync_fd_staged(fd, &key))
		(void)sync_file(key, 0, 0, false);
	errno = saved;
}

static void carry_at(int dir, const char *path, int flags)
{
	const int saved = errno;
	struct inode_key key;

	if (enabled &&
	    sync_path_staged(dir, path, flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0, &key))
		(void)sync_file(key, 0, 0, false);
	errno = saved;
}

int on_futimens(int fd, const struct timespec times[2])
{
	if (unlikely(anything_staged()))
		carry_of(fd);
	return real.futimens(fd, times);
}

int on_utimensat(int dir, const char *path, const struct timespec times[2], int flags)
{
	if (unlikely(anything_staged()) && path) {
		if (*path || !(flags & AT_EMPTY_PATH))
			carry_at(dir, path, flags);
		else
			carry_of(dir);
	}
	return real.utimensat(dir, path, times, flags);
}

int on_futimes(int fd, const struct timeval times[2])
{
	if (unlikely(anything_staged()))
		carry_of(fd);
	return real.futimes(fd, times);
}

int on_utimes(const char *path, const struct timeval times[2])
{
	if (unlikely(anything_staged()))
		carry_at(AT_FDCWD, path, 0);
	return real.utimes(path, times);
}

int on_lutimes(const char *path, const struct timeval times[2])
{
	if (unlikely(anything_staged()))
		carry_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
	return real.lutimes(path, times);
}

/* Without a name it is about the descriptor. */
int on_futimesat(int dir, const char *path, const struct timeval times[2])
{
	if (unlikely(anything_staged())) {
		if (path)
			carry_at(dir, path, 0);
		else
			carry_of(dir);
	}
	return real.futimesat(dir, path, times);
}

int on_utime(const char *path, const struct utimbuf *times)
{
	if (unlikely(anything_staged()))
		carry_at(AT_FDCWD, path, 0);
	return real.utime(path, times);
}
