/* SPDX-License-Identifier: MIT */
/* Descriptors: ours stay out of the program's way, and a mapped file's last one is kept in
 * flight. close() is async-signal-safe and stays so: what is not watched goes straight through.
 */
#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/custody.h"
#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/keeper.h"
#include "lib/log.h"
#include "lib/ownfd.h"
#include "lib/reconcile.h"
#include "lib/space.h"
#include "lib/turn.h"

/* Whether a mapping made from fd is left: it keeps the open file description alive anyway, so
 * that keeping it, too, prolongs nothing (flock). */
static bool still_mapped(const struct file *f, int fd)
{
	bool found = false;
	struct area *a;

	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX)) {
		if (a->file == f && a->fd == fd) {
			a->fd = -1;
			found = true;
		}
	}
	return found;
}

/* A watched descriptor goes. POSIX locks go with it natively, so this is the moment to keep one
 * of our own. */
static void leaving(int fd)
{
	struct space_guard g;
	struct file *f;
	struct stat st;
	int saved = errno;

	if (!space_lock(&g))
		return;
	ownfd_unwatch(fd);
	reconcile_inherited();
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		f = space_file((struct inode_key){ st.st_dev, st.st_ino }, false);
		if (f && f->fd == fd)
			f->fd = -1;
		if (f && still_mapped(f, fd))
			custody_park(f, fd);
	}
	space_unlock(&g);
	errno = saved;
}

static void moved(int from, int to)
{
	/* The first does not wait for the lock, under which it may be in use. */
	shape_fd_moved(from, to);
	keeper_fd_moved(from, to);
	space_fd_moved(from, to);
	log_fd_moved(from, to);
	turn_fd_moved(from, to);
}

int on_close(int fd)
{
	if (unlikely(ownfd_watched(fd)))
		leaving(fd);
	if (unlikely(ownfd_is(fd))) {
		errno = EBADF; /* as far as the program can know */
		return -1;
	}
	return real.close(fd);
}

/* In pieces around ours. */
int on_close_range(unsigned int first, unsigned int last, int flags)
{
	int own, ret = 0;
	unsigned from = first;

	/* Marking close-on-exec does not hurt ours, which are marked already. Numbers that high
	 * have none of ours. */
	if (first > last || first > INT_MAX || flags & CLOSE_RANGE_CLOEXEC)
		return real.close_range(first, last, flags);
	/* A table of this thread's own: the process's keeps our descriptors, this one's copies
	 * of them stay, too. */
	if (flags & CLOSE_RANGE_UNSHARE && real.close_range(~0U, ~0U, CLOSE_RANGE_UNSHARE) < 0)
		return -1;
	flags &= ~CLOSE_RANGE_UNSHARE;
	if (flags)
		return real.close_range(first, last, flags);
	for (int fd = ownfd_next_watched((int)first); fd >= 0 && (unsigned)fd <= last;
	     fd = ownfd_next_watched(fd + 1))
		leaving(fd);
	while (ret == 0 && (own = ownfd_next((int)from)) >= 0 && (unsigned)own <= last) {
		if ((unsigned)own > from)
			ret = real.close_range(from, (unsigned)own - 1, flags);
		from = (unsigned)own + 1;
	}
	if (ret == 0 && from <= last)
		ret = real.close_range(from, last, flags);
	return ret;
}

void on_closefrom(int first)
{
	(void)on_close_range((unsigned)MAX(first, 0), ~0U, 0);
}

static int before_dup(int fd, int to)
{
	if (fd != to && unlikely(ownfd_watched(to)))
		leaving(to);
	if (unlikely(ownfd_is(fd))) {
		errno = EBADF;
		return -1;
	}
	if (unlikely(ownfd_is(to)) && space_is_ours() && ownfd_evade(to, moved) < 0) {
		errno = EMFILE;
		return -1;
	}
	return 0;
}

int on_dup2(int fd, int to)
{
	return before_dup(fd, to) < 0 ? -1 : real.dup2(fd, to);
}

int on_dup3(int fd, int to, int flags)
{
	return before_dup(fd, to) < 0 ? -1 : real.dup3(fd, to, flags);
}
