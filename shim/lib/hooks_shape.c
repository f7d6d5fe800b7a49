/* SPDX-License-Identifier: MIT */
/* Changing the shape of a file that is staged. */
#include <errno.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/join.h"
#include "lib/stage.h"
#include "lib/sync.h"

/* What the file loses, no segment may keep: it is handed back first. Under a pin that cannot
 * be; then the memory reads zero from there on, as the file will if it grows again. The file
 * comes first: the kernel may refuse. */
static int truncate_staged(int fd, off_t len, struct inode_key key)
{
	const uint64_t size = (uint64_t)len;
	struct join_visit v = { fd, key, page_down(size), INT64_MAX, NULL };
	struct space_guard g;
	struct segment *s;
	enum reason why;
	struct file *f;
	int ret, saved = errno;

	if (!space_lock(&g))
		return real.ftruncate(fd, len);
	join_visit(&v);
	f = space_file(key, false);
	while (f && (s = segment_find(f, size, UINT64_MAX)) && stage_retire(s, &why) == 0)
		f = space_file(key, false);
	errno = saved;
	ret = real.ftruncate(fd, len);
	saved = errno;
	if (f && ret == 0)
		file_clear(f, size, UINT64_MAX);
	join_end_visit(&v);
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
