/* SPDX-License-Identifier: MIT */
/* A place in the file system: are files there concerned? It is tried, on a file without a name,
 * by system calls that no library sees. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "command/doctor.h"
#include "command/mount.h"
#include "common/cleanup.h"
#include "lib/arch.h"
#include "lib/policy.h"

/* A file in `dir` that is gone when it is closed; -errno. */
static int nameless_file(const char *dir)
{
	char path[PATH_MAX + 32];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd < 0 ? -errno : fd;
	snprintf(path, sizeof(path), "%s/.pinstage-doctor.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* What the kernel says to a fixed buffer in a shared mapping of the file: 0 or -errno.
 * *ret_ring is why there is no ring, or 0. */
static int try_pin(int fd, int *ret_ring)
{
	struct io_uring_params p = { 0 };
	struct iovec iov = { .iov_len = page_size() };
	cleanup_fd int ring = -1;
	int err;

	*ret_ring = 0;
	if (ftruncate(fd, (off_t)iov.iov_len) < 0)
		return -errno;
	iov.iov_base = mmap(NULL, iov.iov_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (iov.iov_base == MAP_FAILED)
		return -errno;
	ring = (int)arch_syscall(SYS_io_uring_setup, 1, (long)&p, 0, 0, 0, 0);
	if (ring < 0)
		*ret_ring = ring;
	err = ring < 0 ? ring
		       : (int)arch_syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS,
					   (long)&iov, 1, 0, 0);
	munmap(iov.iov_base, iov.iov_len);
	return err;
}

/* Where the kernel pins, nothing has to be staged. */
static void say_kind(struct findings *f, const char *path, const struct mount *m, long type,
		     bool allowed, bool pinned)
{
	if (policy_fs_in_memory(type))
		find(f, FINDING_OK, "path",
		     "%s is on %s, in memory|files there are not concerned: no kernel refuses them, "
		     "and pinstage leaves them alone",
		     path, m->type);
	else if (allowed)
		find(f, FINDING_OK, "path",
		     "%s is on %s, mounted on %s|files there are concerned, and can be staged",
		     path, m->type, m->point);
	else if (pinned)
		find(f, FINDING_NOTE, "path",
		     "%s is on %s, mounted on %s|nothing is staged there; this kernel pins the files "
		     "as they are",
		     path, m->type, m->point);
	else if (policy_fs_known(type))
		find(f, FINDING_BAD, "path",
		     "%s is on %s, mounted on %s|another host might map the files: nothing is staged "
		     "there unless PINSTAGE_FS (+%s) says that none does",
		     path, m->type, m->point, policy_fs_name(type));
	else
		find(f, FINDING_BAD, "path",
		     "%s is on %s, mounted on %s|pinstage does not know this file system, and stages "
		     "nothing there: if files there are pinned, move them to ext4, xfs, btrfs or f2fs",
		     path, m->type, m->point);
}

static void say_answer(struct findings *f, const char *dir, int err, int ring, bool allowed)
{
	if (ring)
		find(f, FINDING_NOTE, "trial",
		     "no io_uring can be made: %s|programs cannot either", strerror(-ring));
	else if (err == 0)
		find(f, FINDING_OK, "trial",
		     "the kernel pins a mapped file in %s|programs need no pinstage there",
		     dir);
	else if (err == -EFAULT || err == -EOPNOTSUPP)
		find(f, FINDING_OK, "trial",
		     "the kernel refuses to pin a mapped file in %s: %s|%s", dir,
		     strerror(-err), allowed ? "this is what pinstage is for" : "");
	else
		find(f, FINDING_NOTE, "trial", "a mapped file in %s could not be tried: %s|",
		     dir, strerror(-err));
}

void doctor_path(struct findings *f, const char *path)
{
	char copy[PATH_MAX];
	const char *dir = path;
	cleanup_fd int fd = -1;
	struct statfs sfs;
	struct mount m;
	struct stat st;
	int err, ring = 0;
	bool allowed;

	err = mount_find(path, true, &m);
	if (err || statfs(path, &sfs) < 0 || stat(path, &st) < 0) {
		find(f, FINDING_NOTE, "path", "%s: %s|", path, strerror(err ? -err : errno));
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		snprintf(copy, sizeof(copy), "%s", path);
		dir = dirname(copy);
	}
	fd = nameless_file(dir);
	err = fd < 0 ? fd : try_pin(fd, &ring);
	allowed = policy_fs_allowed((long)sfs.f_type, getenv("PINSTAGE_FS"));
	say_kind(f, path, &m, (long)sfs.f_type, allowed, err == 0);
	say_answer(f, dir, err, ring, allowed);
}
