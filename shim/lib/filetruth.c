/* SPDX-License-Identifier: MIT */
#include "lib/filetruth.h"

#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/exchange.h"
#include "lib/pin.h"
#include "lib/real.h"
#include "lib/sync.h"

bool file_exchange_between(unsigned before)
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

size_t file_total(const struct iovec *iov, int n)
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

void file_before_read(int fd, size_t n, off_t off)
{
	struct inode_key key;
	int saved = errno;

	if (!sync_fd_staged(fd, &key))
		return;
	if (off == CURRENT)
		off = real.lseek(fd, 0, SEEK_CUR);
	if (off >= 0 && n)
		(void)sync_file(key, (uint64_t)off, (uint64_t)off + n, false);
	errno = saved;
}

/* False if the program unmapped what it wrote from. */
static bool write_memory(const struct segment *s, uint64_t off, const char *from, size_t len)
{
	return real.pwrite(s->memfd, from, len, (off_t)(off - s->off)) == (ssize_t)len;
}

/* The keeper is told that file and memory agree only where they do. Otherwise it finds the file
 * changed, and brings the memory what memory did not change. */
void file_take(struct inode_key key, const struct iovec *iov, int n, size_t left, off_t off)
{
	struct file *f = space_file(key, false);
	uint64_t at = (uint64_t)off, lo, hi;
	struct segment *s;
	bool all = true;

	for (int i = 0; f && off >= 0 && i < n && left; i++) {
		const size_t len = MIN(iov[i].iov_len, left);

		for (s = f->segments; s; s = s->next) {
			lo = MAX(at, s->off);
			hi = MIN(at + len, s->off + s->len);
			if (lo < hi)
				all &= write_memory(s, lo,
						    (const char *)iov[i].iov_base + (lo - at),
						    hi - lo);
		}
		at += len;
		left -= len;
	}
	if (f && off >= 0 && all && segment_find(f, (uint64_t)off, at))
		sync_wrote(key, (uint64_t)off, at - (uint64_t)off);
}

/* Not by pwrite(): RLIMIT_FSIZE is about the program's own writes. */
static bool clear_segment(const struct segment *s, uint64_t off, uint64_t end)
{
	const uint64_t lo = MAX(off, s->off), hi = MIN(end, s->off + s->len);
	char *p;

	if (lo >= hi)
		return true;
	p = exchange_map_memory(s, s->off, s->len);
	if (!p)
		return false;
	memset(p + (lo - s->off), 0, hi - lo);
	real.munmap(p, s->len);
	return true;
}

void file_clear(struct file *f, uint64_t off, uint64_t end)
{
	bool all = true;

	for (struct segment *s = f->segments; s; s = s->next)
		all &= clear_segment(s, off, end);
	if (all)
		sync_wrote(f->key, off, end - off);
}
