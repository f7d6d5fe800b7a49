/* SPDX-License-Identifier: MIT */
/* Descriptors: ours stay out of the program's way, and a mapped file's last one is kept in
 * flight. close() is async-signal-safe and stays so: what is not watched, and open or below
 * where ours are, goes straight through. */
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
		if (f)
			custody_park(f, fd);
	}
	space_unlock(&g);
	errno = saved;
}

static void moved(int from, int to)
{
	keeper_fd_moved(from, to);
	space_fd_moved(from, to);
	log_fd_moved(from, to);
	turn_fd_moved(from, to);
}

static int close_theirs(int fd)
{
	if (unlikely(ownfd_is(fd))) {
		errno = EBADF; /* as far as the program can know */
		return -1;
	}
	return real.close(fd);
}

int on_close(int fd)
{
	struct ownfd_guard g;
	int ret;

	if (unlikely(ownfd_watched(fd)))
		leaving(fd);
	if (likely(!ownfd_may_come(fd)) || !space_is_ours())
		return close_theirs(fd);
	ownfd_lock(&g);
	ret = close_theirs(fd);
	ownfd_unlock(&g);
	return ret;
}

static int close_around_ours(unsigned int first, unsigned int last)
{
	int own, ret = 0;

	while (ret == 0 && (own = ownfd_next((int)first)) >= 0 && (unsigned)own <= last) {
		if ((unsigned)own > first)
			ret = real.close_range(first, (unsigned)own - 1, 0);
		first = (unsigned)own + 1;
	}
	return ret == 0 && first <= last ? real.close_range(first, last, 0) : ret;
}

/* In pieces around ours. */
int on_close_range(unsigned int first, unsigned int last, int flags)
{
	struct ownfd_guard g;
	int ret;

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
	if (!ownfd_reaches((int)MIN(last, (unsigned)INT_MAX)) || !space_is_ours())
		return close_around_ours(first, last);
	ownfd_lock(&g);
	ret = close_around_ours(first, last);
	ownfd_unlock(&g);
	return ret;
}

void on_closefrom(int first)
{
	(void)on_close_range((unsigned)MAX(first, 0), ~0U, 0);
}

/* What a call that puts something at a number holds until it is made. */
struct claim {
	struct ownfd_guard numbers;
	struct space_guard space;
	struct conversation *talk;
	bool locked, space_locked, evaded;
};

static void claim_end(struct claim *c)
{
	if (c->locked)
		ownfd_unlock(&c->numbers);
	keeper_fd_let_go(c->talk);
	if (c->space_locked)
		space_unlock(&c->space);
}

/* Ours at `to` goes elsewhere, at a moment when nobody uses it: whoever does has the space's
 * lock, or a conversation. */
static int claim_from_us(struct claim *c, int to)
{
	int new;

	ownfd_unlock(&c->numbers);
	c->space_locked = space_lock(&c->space);
	c->talk = keeper_fd_hold(to);
	ownfd_lock(&c->numbers);
	if (!ownfd_is(to))
		return 0;
	new = ownfd_evade(to, moved);
	if (new == -EMFILE) {
		claim_end(c);
		errno = EMFILE;
		return -1;
	}
	c->evaded = new >= 0;
	return 0;
}

static int claim(struct claim *c, int fd, int to)
{
	*c = (struct claim){ .talk = NULL };
	if (fd != to && unlikely(ownfd_watched(to)))
		leaving(to);
	if (unlikely(ownfd_is(fd))) {
		errno = EBADF;
		return -1;
	}
	if (likely(!ownfd_may_come(to) && !ownfd_is(to)) || fd == to || !space_is_ours())
		return 0;
	ownfd_lock(&c->numbers);
	c->locked = true;
	return unlikely(ownfd_is(to)) ? claim_from_us(c, to) : 0;
}

/* If the call failed, what was ours is still there. */
static int claimed(struct claim *c, int to, int ret)
{
	int saved = errno;

	if (ret < 0 && c->evaded)
		real.close(to);
	claim_end(c);
	errno = saved;
	return ret;
}

int on_dup2(int fd, int to)
{
	struct claim c;

	return claim(&c, fd, to) < 0 ? -1 : claimed(&c, to, real.dup2(fd, to));
}

int on_dup3(int fd, int to, int flags)
{
	struct claim c;

	return claim(&c, fd, to) < 0 ? -1 : claimed(&c, to, real.dup3(fd, to, flags));
}
