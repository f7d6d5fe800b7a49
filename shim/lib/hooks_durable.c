/* SPDX-License-Identifier: MIT */
/* What makes a file durable makes what is staged of it durable, too. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/sync.h"

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
		errno = sync_errno(err);
		return -1;
	}
	return ret;
}

int on_fdatasync(int fd)
{
	int err = unlikely(anything_staged()) ? sync_staged(fd) : 0;
	int ret = real.fdatasync(fd);

	if (ret == 0 && err) {
		errno = sync_errno(err);
		return -1;
	}
	return ret;
}

/* The file has what memory has; what this call makes of that is the kernel's. */
int on_sync_file_range(int fd, off_t off, off_t n, unsigned int flags)
{
	struct inode_key key;
	int err = 0, ret;

	if (unlikely(anything_staged()) && off >= 0 && n >= 0 && sync_fd_staged(fd, &key))
		err = sync_file(key, (uint64_t)off, n ? (uint64_t)off + (uint64_t)n : INT64_MAX,
				false);
	ret = real.sync_file_range(fd, off, n, flags);
	if (ret == 0 && err) {
		errno = sync_errno(err);
		return -1;
	}
	return ret;
}

int on_syncfs(int fd)
{
	int err = 0, ret, saved = errno;
	struct stat st;

	if (unlikely(anything_staged()) && fstat(fd, &st) == 0)
		err = sync_files(&st.st_dev);
	errno = saved;
	ret = real.syncfs(fd);
	if (ret == 0 && err) {
		errno = sync_errno(err);
		return -1;
	}
	return ret;
}

void on_sync(void)
{
	if (unlikely(anything_staged()))
		(void)sync_files(NULL);
	real.sync();
}
