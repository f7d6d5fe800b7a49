/* SPDX-License-Identifier: MIT */
#include "lib/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/probe.h"
#include "lib/board.h"
#include "lib/inflight.h"
#include "lib/keeper.h"
#include "lib/reconcile.h"
#include "lib/scratch.h"
#include "lib/space.h"
#include "lib/unseal.h"

#define BATCH	    32
#define SCAN_BUFFER (64UL * 1024)

struct extent {
	struct inode_key key;
	uint64_t off, end;
};

int sync_errno(int err)
{
	static const int native[] = { ENOSPC, EDQUOT, EFBIG, EROFS, ESTALE, EPERM, EACCES };

	for (size_t i = 0; i < ARRAY_SIZE(native); i++)
		if (err == -native[i])
			return native[i];
	return EIO;
}

static bool any_in_force(const struct file *f, uint64_t off, uint64_t end)
{
	const struct segment *s;

	for (s = f ? f->segments : NULL; s; s = s->next)
		if (s->off < end && s->off + s->len > off && segment_in_force(s))
			return true;
	return false;
}

/* Whether any of it is, still. Without the lock held by this thread, or with it. */
static bool is_staged(const struct extent *e)
{
	struct space_guard g;
	bool locked = space_lock(&g), staged;

	if (!locked && !space_inside())
		return true;
	staged = any_in_force(space_file(e->key, false), e->off,
			      e->end > e->off ? e->end : UINT64_MAX);
	if (locked)
		space_unlock(&g);
	return staged;
}

static int sync_extent(const struct extent *e, unsigned flags)
{
	enum reason why;
	struct msg m;
	int err;

	msg_init(&m, MSG_SYNC);
	m.key = e->key;
	m.off = e->off;
	m.len = e->end - e->off;
	m.flags = flags;
	err = keeper_call(&m, NULL, 0, NULL, &why);
	PROBE(sync, e->key.ino, e->off, e->end - e->off, flags, err);
	/* Another thread had it given back to the file meanwhile, with all its changes. */
	return err == -ENOENT && !is_staged(e) ? 0 : err;
}

/* The staged parts of [*at, end), as extents of files; *at moves behind what was looked at. */
static size_t collect(uintptr_t *at, uintptr_t end, struct extent *e)
{
	struct extent *last;
	struct area *a;
	size_t n = 0;

	for (a = areas_first(&space.areas, *at, end); a; a = areas_next(a, end)) {
		uintptr_t lo = MAX(*at, a->start), hi = MIN(end, a->end);
		uint64_t off = a->off + (lo - a->start);

		if (!a->seg)
			continue;
		last = n ? &e[n - 1] : NULL;
		if (last && last->end == off && !inode_key_cmp(last->key, a->file->key)) {
			last->end = off + (hi - lo);
		} else if (n == BATCH) {
			*at = a->start;
			return n;
		} else {
			e[n++] = (struct extent){ a->file->key, off, off + (hi - lo) };
		}
	}
	*at = end;
	return n;
}

/* What shows there though the records do not know: memory of ours that was moved by a system
 * call that no hook saw. */
struct unseen {
	uintptr_t at, end; /* from where on it was not looked at */
	struct extent *e;
	size_t n;
};

static const struct segment *segment_of(const struct vma *v)
{
	const struct segment *s;
	struct file *f;

	for (f = space_next_staged(NULL); f; f = space_next_staged(&f->key))
		for (s = f->segments; s; s = s->next)
			if (vma_is_of(v, s->mem_id))
				return s;
	return NULL;
}

/* What lies between the recorded areas. 1: there is no room for more. */
static int unseen_each(const struct vma *v, const char *path, void *arg)
{
	struct unseen *u = arg;
	const uintptr_t end = MIN(v->end, u->end);
	const struct segment *s = v->flags & VMA_SHARED ? segment_of(v) : NULL;
	struct area *a;
	uintptr_t stop;
	uint64_t off;

	(void)path;
	for (u->at = MAX(v->start, u->at); s && u->at < end; u->at = a ? a->end : end) {
		a = areas_first(&space.areas, u->at, end);
		stop = a ? MAX(a->start, u->at) : end;
		if (stop <= u->at)
			continue;
		if (u->n == BATCH)
			return 1;
		off = s->off + v->off + (u->at - v->start);
		u->e[u->n++] = (struct extent){ s->file->key, off, off + (stop - u->at) };
	}
	u->at = MAX(u->at, end);
	return 0;
}

static bool all_known(uintptr_t start, uintptr_t end)
{
	struct area *a;

	for (a = areas_first(&space.areas, start, end); a && a->start <= start && start < end;
	     a = areas_next(a, end))
		start = a->end;
	return start >= end;
}

/* As collect(). Lock held. */
static size_t collect_unseen(uintptr_t *at, uintptr_t end, struct extent *e)
{
	struct unseen u = { *at, end, e, 0 };
	struct scratch scratch;
	int more = 0;
	char *buf;

	if (!all_known(*at, end) && scratch_open(&scratch) == 0) {
		buf = scratch_get(&scratch, SCAN_BUFFER);
		more = vmas_between(*at, end, buf, SCAN_BUFFER, unseen_each, &u);
		scratch_close(&scratch);
	}
	*at = more == 1 ? u.at : end;
	return u.n;
}

static int sync_extents(const struct extent *e, size_t n, unsigned flags, int err)
{
	int now;

	for (size_t i = 0; i < n; i++) {
		now = sync_extent(&e[i], flags);
		err = err ? err : now;
	}
	return err;
}

static int sync_collected(size_t (*next)(uintptr_t *, uintptr_t, struct extent *), uintptr_t at,
			  uintptr_t end, unsigned flags, int err)
{
	struct extent e[BATCH];
	struct space_guard g;
	size_t n;

	while (at < end) {
		if (!space_lock(&g))
			return err;
		reconcile_inherited();
		n = next(&at, end, e);
		space_unlock(&g);
		err = sync_extents(e, n, flags, err);
	}
	return err;
}

int sync_addresses(uintptr_t addr, size_t len, bool durable)
{
	const unsigned flags = durable ? SYNC_DURABLE : 0;
	const uintptr_t end = addr + len;
	int err;

	if (atomic_load_explicit(&space.staged, memory_order_relaxed) == 0 || end < addr)
		return 0;
	err = sync_collected(collect_unseen, addr, end, flags, 0);
	return sync_collected(collect, addr, end, flags, err);
}

void sync_before_unmap(uintptr_t start, uintptr_t end)
{
	struct area *a;

	for (a = areas_first(&space.areas, start, end); a; a = areas_next(a, end)) {
		uintptr_t lo = MAX(start, a->start), hi = MIN(end, a->end);
		struct extent e;

		if (!a->seg || (a->seg->areas == 1 && lo == a->start && hi == a->end))
			continue;
		e = (struct extent){ a->file->key, a->off + (lo - a->start),
				     a->off + (hi - a->start) };
		(void)sync_extent(&e, 0);
	}
}

int sync_file(struct inode_key key, uint64_t off, uint64_t end, bool durable)
{
	struct extent e = { key, off, end ? end : off };
	const unsigned flags = durable ? SYNC_DURABLE : 0;
	struct space_guard g;
	const bool locked = space_lock(&g);
	bool ours = false;

	if (locked || space_inside()) {
		reconcile_inherited();
		ours = any_in_force(space_file(key, false), 0, UINT64_MAX);
	}
	if (locked)
		space_unlock(&g);
	return sync_extent(&e, ours ? flags : flags | SYNC_OTHERS);
}

void sync_wrote(struct inode_key key, uint64_t off, uint64_t len)
{
	enum reason why;
	struct msg m;

	msg_init(&m, MSG_WROTE);
	m.key = key;
	m.off = off;
	m.len = len;
	(void)keeper_call(&m, NULL, 0, NULL, &why);
}

/* Subvolumes and stacked file systems have numbers of their own, but no driver. */
static bool on_another(dev_t a, dev_t b)
{
	return a != b && major(a) && major(b);
}

/* Adds f's segments from `from` on to the n that are in e. False if there is no room for all.
 */
static bool collect_file(const struct file *f, uint64_t from, struct extent *e, size_t *n)
{
	const struct segment *s;
	struct extent *last;

	for (s = f->segments; s; s = s->next) {
		if (s->off < from || !segment_in_force(s))
			continue;
		last = *n ? &e[*n - 1] : NULL;
		if (last && last->end == s->off && !inode_key_cmp(last->key, f->key))
			last->end += s->len;
		else if (*n == BATCH)
			return false;
		else
			e[(*n)++] = (struct extent){ f->key, s->off, s->off + s->len };
	}
	return true;
}

/* The next BATCH of what is staged, behind `last` if that is not NULL. */
static size_t collect_staged(const struct extent *last, const dev_t *dev, struct extent *e)
{
	struct file *f = last ? space_file(last->key, false) : NULL;
	uint64_t from = f ? last->end : 0;
	size_t n = 0;

	if (!f)
		f = space_next_staged(last ? &last->key : NULL);
	for (; f; f = space_next_staged(&f->key), from = 0)
		if (!(dev && on_another(f->key.dev, *dev)) && !collect_file(f, from, e, &n))
			break;
	return n;
}

int sync_files(const dev_t *dev)
{
	struct extent e[BATCH], last;
	struct space_guard g;
	size_t n = 0;
	int err = 0;

	if (atomic_load_explicit(&space.staged, memory_order_relaxed) == 0)
		return 0;
	do {
		if (!space_lock(&g))
			return err;
		reconcile_inherited();
		n = collect_staged(n ? &last : NULL, dev, e);
		space_unlock(&g);
		err = sync_extents(e, n, 0, err);
		if (n)
			last = e[n - 1];
	} while (n == BATCH);
	return err;
}

struct identity {
	struct inode_key key;
	bool regular;
};

/*
 * Not by fstat(): a file whose times were asked for gets a time of its own at its next write
 * (Linux 6.13), which takes longer than the write. A filter on system calls may know no
 * statx().
 */
static bool identify(int dir, const char *path, int flags, struct identity *ret)
{
	struct statx sx;
	struct stat st;

	if (statx(dir, path, flags | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &sx) == 0) {
		ret->key = (struct inode_key){ makedev(sx.stx_dev_major, sx.stx_dev_minor),
					       sx.stx_ino };
		ret->regular = S_ISREG(sx.stx_mode);
		return true;
	}
	if (errno == EBADF || fstatat(dir, path, &st, flags) < 0)
		return false;
	ret->key = (struct inode_key){ st.st_dev, st.st_ino };
	ret->regular = S_ISREG(st.st_mode);
	return true;
}

static bool identify_fd(int fd, struct identity *ret)
{
	return identify(fd, "", AT_EMPTY_PATH, ret);
}

static bool may_be_staged(const struct identity *id)
{
	return id->regular && (space_may_have_segments(id->key) || board_lists(id->key));
}

/* Lock held. */
static bool has_segments(struct inode_key key)
{
	const struct file *f = space_file(key, false);

	return (f && f->segments) || board_lists(key);
}

static bool identity_staged(const struct identity *id)
{
	struct space_guard g;
	bool staged;

	if (!may_be_staged(id) || !space_lock(&g))
		return false;
	staged = has_segments(id->key);
	space_unlock(&g);
	return staged;
}

bool sync_fd_staged(int fd, struct inode_key *ret_key)
{
	struct identity id = { 0 };
	int saved = errno;
	bool staged = identify_fd(fd, &id) && identity_staged(&id);

	*ret_key = id.key;
	errno = saved;
	return staged;
}

/* The lock is waited for without the call begun, and signals that came meanwhile are served
 * before it begins: their handlers may make calls of their own. Where the lock says no, and it
 * still may be (another file's segments count here, too), the call begins under the lock. */
bool sync_fd_enter(int fd, struct inode_key *ret_key)
{
	struct space_guard g;
	struct identity id;
	int saved = errno;
	bool staged = false;

	for (int tries = 0; !staged && tries < 2; tries++) {
		inflight_begin(fd);
		if (!identify_fd(fd, &id))
			break;
		*ret_key = id.regular ? id.key : SYNC_NO_FILE;
		if (!may_be_staged(&id))
			break;
		inflight_end();
		if (!space_lock(&g)) /* the lock's own thread, or a borrower: not waited for */
			break;
		staged = has_segments(*ret_key);
		if (!staged && tries)
			inflight_begin(fd);
		space_unlock(&g);
	}
	errno = saved;
	return !staged;
}

bool sync_fd_listed(int fd, struct inode_key key)
{
	struct identity id;
	int saved = errno;
	bool listed;

	if (key.ino || key.dev)
		return key.ino && board_lists(key);
	listed = identify_fd(fd, &id) && id.regular && board_lists(id.key);
	errno = saved;
	return listed;
}

bool sync_path_staged(int dir, const char *path, int open_flags, struct inode_key *ret_key)
{
	const int follow = open_flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
	struct identity id = { 0 };
	int saved = errno;
	bool staged = identify(dir, path, follow, &id) && identity_staged(&id);

	*ret_key = id.key;
	errno = saved;
	return staged;
}
