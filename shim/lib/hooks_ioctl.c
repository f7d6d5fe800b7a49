/* SPDX-License-Identifier: MIT */
/* What ioctl() does to files: sharing blocks, asking for them, and throwing them away. All else
 * goes to the kernel as it is. */
#include <errno.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/pin.h"

/* Staged by others meanwhile: into a file that nobody had staged the clone was made. */
static void after_clone(int fd, const struct file_clone_range *range)
{
	uint64_t end;

	if (!range->src_length ||
	    __builtin_add_overflow(range->dest_offset, range->src_length, &end))
		end = UINT64_MAX;
	file_look_again(fd, range->dest_offset, end);
}

/*
 * A clone shares blocks with its source. Into a staged file there is none: memory would have to
 * follow, and whoever clones copies where a file system cannot. (What FIDEDUPERANGE shares is
 * the same before and after.)
 */
static int clone_file(int fd, unsigned long request, void *arg, int source,
		      const struct file_clone_range *range)
{
	struct inode_key key;
	int ret;

	if (unlikely(anything_staged()))
		file_before_read(source, SSIZE_MAX, 0);
	if (!file_enter(fd, &key)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	ret = real.ioctl(fd, request, arg);
	if (file_leave(fd, key) && ret >= 0)
		after_clone(fd, range);
	return ret;
}

/* The argument may be behind a curtain. Only what may be done twice, and without a call begun.
 */
static int do_again(int fd, unsigned long request, void *arg)
{
	const int saved = errno;
	unsigned before;
	int ret;

	do {
		errno = saved;
		before = space_exchanges();
		ret = real.ioctl(fd, request, arg);
	} while (unlikely(ret < 0 && errno == EFAULT) && space_exchange_between(before));
	return ret;
}

/* XFS exchanges ranges of two files (Linux 6.10), the one behind fd and this one. Newer than
 * the headers of many a system. */
struct exchange_range {
	int32_t file1;
	uint32_t pad;
	uint64_t offset1, offset2, length, flags;
	uint64_t more[6]; /* of COMMIT_RANGE: does not matter here */
};

#define EXCHANGE_RANGE _IOC(_IOC_WRITE, 'X', 129, offsetof(struct exchange_range, more))
#define COMMIT_RANGE   _IOW('X', 131, struct exchange_range)
#define TO_THE_END     1 /* of both, among the flags */

static bool on_xfs(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == XFS_SUPER_MAGIC;
}

static void after_exchange(int fd, uint64_t off, const struct exchange_range *r)
{
	uint64_t end;

	if (r->flags & TO_THE_END || __builtin_add_overflow(off, r->length, &end))
		end = UINT64_MAX;
	file_look_again(fd, off, end);
}

/* Of files that are staged there is none, as of clones into them. */
static int exchange_contents(int fd, unsigned long request, void *arg)
{
	struct exchange_range r;
	struct inode_key key;
	bool others;
	int ret;

	if (!file_copy_in(&r, arg, _IOC_SIZE(request)) || !on_xfs(fd))
		return real.ioctl(fd, request, arg);
	if ((unlikely(anything_staged()) && sync_fd_staged(r.file1, &key)) ||
	    !file_enter(fd, &key)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	ret = real.ioctl(fd, request, &r);
	others = file_leave(fd, key);
	if (others && ret >= 0)
		after_exchange(fd, r.offset2, &r);
	if (unlikely(anything_staged()) && ret >= 0)
		after_exchange(r.file1, r.offset1, &r);
	return ret;
}

static void before_compared(int fd, uint64_t off, uint64_t n)
{
	if (off <= INT64_MAX)
		file_before_read(fd, (size_t)MIN(n, (uint64_t)SSIZE_MAX), (off_t)off);
}

/* Whether the files have the same there is asked of what memory has of either. No more of them
 * than the kernel takes at once. */
static void before_dedupe(int fd, const struct file_dedupe_range *arg)
{
	struct file_dedupe_range_info to;
	struct file_dedupe_range r;
	unsigned i, n;

	if (!file_copy_in(&r, arg, sizeof(r)))
		return;
	n = MIN(r.dest_count, (unsigned)(page_size() / sizeof(to)));
	before_compared(fd, r.src_offset, r.src_length);
	for (i = 0; i < n && file_copy_in(&to, &arg->info[i], sizeof(to)); i++)
		before_compared((int)to.dest_fd, to.dest_offset, r.src_length);
}

/* What XFS once had for itself, and is fallocate() by another name on any file system since
 * Linux 5.5. (The third, which only allocates, changes nothing that can be read.) In no header
 * of the kernel's. */
struct space_resv {
	int16_t type, whence;
	int64_t start, len;
	int32_t sysid;
	uint32_t pid;
	int32_t pad[4];
};

#define UNRESERVE   _IOW('X', 41, struct space_resv)
#define UNRESERVE64 _IOW('X', 43, struct space_resv)
#define ZERO_RANGE  _IOW('X', 57, struct space_resv)

/* False: an error, and the original's to tell. */
static bool range_of(int fd, const struct space_resv *r, off_t *ret)
{
	struct stat st;
	off_t from = 0;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	if (r->whence == SEEK_CUR)
		from = real.lseek(fd, 0, SEEK_CUR);
	else if (r->whence == SEEK_END)
		from = st.st_size;
	else if (r->whence != SEEK_SET)
		return false;
	return from >= 0 && !__builtin_add_overflow(from, r->start, ret);
}

static int zero_by_ioctl(int fd, unsigned long request, void *arg)
{
	const int how = request == ZERO_RANGE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
	struct space_resv r;
	int saved = errno;
	off_t off;

	if (file_copy_in(&r, arg, sizeof(r)) && range_of(fd, &r, &off)) {
		errno = saved;
		return on_fallocate(fd, how | FALLOC_FL_KEEP_SIZE, off, r.len);
	}
	errno = saved;
	return real.ioctl(fd, request, arg);
}

int on_ioctl(int fd, unsigned long request, void *arg)
{
	struct file_clone_range range = { 0 };

	switch (request) {
	case UNRESERVE:
	case UNRESERVE64:
	case ZERO_RANGE:
		return zero_by_ioctl(fd, request, arg);
	case FICLONE:
		return clone_file(fd, request, arg, (int)(intptr_t)arg, &range);
	case FICLONERANGE:
		if (file_copy_in(&range, arg, sizeof(range)))
			return clone_file(fd, request, &range, (int)range.src_fd, &range);
		break;
	case EXCHANGE_RANGE:
	case COMMIT_RANGE:
		return exchange_contents(fd, request, arg);
	case FIDEDUPERANGE:
		if (unlikely(anything_staged()))
			before_dedupe(fd, arg);
		return do_again(fd, request, arg);
	case FS_IOC_FIEMAP:
		if (unlikely(anything_staged()))
			file_before_read(fd, SSIZE_MAX, 0);
		return do_again(fd, request, arg);
	}
	return real.ioctl(fd, request, arg);
}
