/* SPDX-License-Identifier: MIT */
/* What makes a file durable makes what is staged of it durable, too. */
#include <errno.h>
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
