/* SPDX-License-Identifier: MIT */
/*
 * Changing the shape of a file that is staged: truncating, punching, moving what lies behind.
 * The file comes first, for the kernel may refuse; memory then reads what the file reads, and
 * the keeper looks at both.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/join.h"
#include "lib/log.h"
#include "lib/ownfd.h"
#include "lib/stage.h"
#include "lib/sync.h"
#include "lib/turn.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

/* A call that changes the shape of a file, taken apart. */
struct change {
	int (*make)(const struct change *c); /* the original; negative: it failed */
	int fd;				     /* or of a directory */
	const char *path;
	int mode; /* of fallocate(), or flags of open() */
	mode_t perm;
	off_t off, len;
};

/* What the keeper is carrying to the file just then goes up to an end that holds. */
static int make_alone(const struct change *c, struct inode_key key)
{
	int ret;

	turn_take(TURN_LENGTH, key);
	ret = c->make(c);
	turn_give(TURN_LENGTH, key);
	return ret;
}

static bool is_of(const struct stat *st, struct inode_key key)
{
	return !inode_key_cmp(key, (struct inode_key){ st->st_dev, st->st_ino });
}

static uint64_t size_now(const struct change *c)
{
	struct stat st;

	return fstat(c->fd, &st) < 0 ? UINT64_MAX : (uint64_t)st.st_size;
}

/* What others have staged is met through a descriptor, or through the same name. */
static struct join_visit visit(const struct change *c, struct inode_key key, uint64_t off,
			       uint64_t end)
{
	return (struct join_visit){
		.fd = c->fd, .path = c->path, .key = key, .off = off, .end = end
	};
}

/* The file reads zero in [off, end): so does memory, and what the bases say is void. */
static void now_zero(struct inode_key key, uint64_t off, uint64_t end)
{
	struct file *f = space_file(key, false);

	if (!f || off >= end || !segment_find(f, off, end))
		return;
	file_clear(f, off, end);
}

/* Hands back all that lies behind `off`, as far as that can be. */
static int retire_from(struct inode_key key, uint64_t off)
{
	struct file *f = space_file(key, false);
	struct segment *s;
	enum reason why;
	int err = 0;

	while (f && !err && (s = segment_find(f, off, UINT64_MAX))) {
		err = stage_retire(s, &why);
		f = space_file(key, false);
	}
	return err;
}

/*
 * What the file loses, no segment may keep: it is handed back first. Under a pin that cannot
 * be; then the memory reads zero from there on, as the file will if it grows again. What memory
 * has behind the end when the file grows (a device may still write there) is cleared, too.
 */
static int cut_staged(const struct change *c, struct inode_key key, uint64_t size)
{
	struct join_visit v;
	struct space_guard g;
	uint64_t before;
	int ret, saved = errno;

	if (!space_lock(&g))
		return c->make(c);
	turn_take(TURN_WRITE, key);
	before = size_now(c);
	v = visit(c, key, page_down(MIN(size, before)), INT64_MAX);
	join_visit(&v);
	if (size < before)
		(void)retire_from(key, size);
	file_meet(key, MIN(size, before), 0, 0);
	errno = saved;
	ret = make_alone(c, key);
	saved = errno;
	if (ret >= 0)
		now_zero(key, MIN(size, before), UINT64_MAX);
	join_end_visit(&v);
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	errno = saved;
	return ret;
}

/* What the original said of a file that nobody had staged when it was called: it has changed
 * [off, end), and others may have staged it since. */
static inline int changed(int fd, struct inode_key key, uint64_t off, uint64_t end, int ret)
{
	if (unlikely(file_leave(fd, key)) && ret >= 0)
		file_look_again(fd, off, end);
	return ret;
}

static int make_ftruncate(const struct change *c)
{
	return real.ftruncate(c->fd, c->len);
}

int on_ftruncate(int fd, off_t len)
{
	const struct change c = { .make = make_ftruncate, .fd = fd, .len = len };
	struct inode_key key;

	if (!file_enter(fd, &key))
		return len < 0 ? real.ftruncate(fd, len) : cut_staged(&c, key, (uint64_t)len);
	return changed(fd, key, (uint64_t)len, UINT64_MAX, real.ftruncate(fd, len));
}

/* What was cut may be staged all the same, since a moment; and others may have written to it
 * since. */
static void look_again_at(const struct change *c)
{
	struct inode_key key;
	struct join_visit v;
	struct space_guard g;
	struct stat st;
	int ret, saved = errno;

	if ((c->path ? sync_path_staged(c->fd, c->path, 0, &key)
		     : sync_fd_staged(c->fd, &key)) &&
	    space_lock(&g)) {
		turn_take(TURN_WRITE, key);
		v = visit(c, key, 0, INT64_MAX);
		join_visit(&v);
		ret = c->path ? fstatat(c->fd, c->path, &st, 0) : fstat(c->fd, &st);
		if (ret == 0 && is_of(&st, key))
			now_zero(key, (uint64_t)st.st_size, UINT64_MAX);
		join_end_visit(&v);
		turn_give(TURN_WRITE, key);
		space_unlock(&g);
	}
	errno = saved;
}

static void look_again(int fd)
{
	if (fd >= 0)
		look_again_at(&(struct change){ .fd = fd });
}

/*
 * By a name. What it leads to may change between looking and cutting, and what the kernel says
 * of a name must be said of this one: so the call is made with it, and the file that it led to
 * before is held by a descriptor that stands for a name only, and asked whether it was cut.
 * With the lock held all the time: dup2() must not move that to another number.
 */
static uint64_t held_size(int fd, struct inode_key key)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && is_of(&st, key) ? (uint64_t)st.st_size
								 : UINT64_MAX;
}

static int cut_named(const struct change *c, struct inode_key key)
{
	const uint64_t size = (uint64_t)c->len;
	struct join_visit v;
	struct space_guard g;
	int ret, held, saved = errno;
	uint64_t before;
	bool cut;

	if (!space_lock(&g))
		return c->make(c);
	turn_take(TURN_WRITE, key);
	held = ownfd_adopt(real.openat(c->fd, c->path, O_PATH | O_CLOEXEC, 0));
	before = held_size(held, key);
	v = visit(c, key, page_down(MIN(size, before)), INT64_MAX);
	if (before != UINT64_MAX) {
		join_visit(&v);
		if (size < before)
			(void)retire_from(key, size);
		file_meet(key, MIN(size, before), 0, 0);
	}
	errno = saved;
	ret = make_alone(c, key);
	saved = errno;
	cut = ret >= 0 && before != UINT64_MAX && held_size(held, key) == size;
	if (cut)
		now_zero(key, MIN(size, before), UINT64_MAX);
	join_end_visit(&v);
	ownfd_close(held);
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	if (ret >= 0 && !cut)
		look_again_at(c);
	errno = saved;
	return ret;
}

static int make_truncate(const struct change *c)
{
	return real.truncate(c->path, c->len);
}

int on_truncate(const char *path, off_t len)
{
	const struct change c = {
		.make = make_truncate, .fd = AT_FDCWD, .path = path, .len = len
	};
	struct inode_key key;
	int ret;

	if (unlikely(anything_staged()) && len >= 0 &&
	    sync_path_staged(AT_FDCWD, path, 0, &key))
		return cut_named(&c, key);
	ret = real.truncate(path, len);
	if (unlikely(anything_staged()) && ret == 0)
		look_again_at(&c);
	return ret;
}

static int make_open(const struct change *c)
{
	return real.open(c->path, c->mode, c->perm);
}

/* The descriptor tells what was emptied. */
static int empty_staged(const struct change *c, struct inode_key key)
{
	struct join_visit v = visit(c, key, 0, INT64_MAX);
	struct space_guard g;
	struct stat st;
	int fd, saved = errno;

	if (!space_lock(&g))
		return c->make(c);
	turn_take(TURN_WRITE, key);
	join_visit(&v);
	(void)retire_from(key, 0);
	errno = saved;
	fd = make_alone(c, key);
	saved = errno;
	if (fd >= 0 && fstat(fd, &st) == 0 && is_of(&st, key))
		now_zero(key, 0, UINT64_MAX);
	join_end_visit(&v);
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	errno = saved;
	return fd;
}

static int open_any(const struct change *c)
{
	struct inode_key key;
	int fd;

	/* Linux empties what is opened for reading only, too. With O_EXCL nothing that is there
	 * is emptied. */
	if (likely(!(c->mode & O_TRUNC)) || c->mode & O_PATH)
		return c->make(c);
	if (anything_staged() && !(c->mode & O_EXCL) &&
	    sync_path_staged(c->fd, c->path, c->mode, &key))
		fd = empty_staged(c, key);
	else
		fd = c->make(c);
	if (unlikely(anything_staged()))
		look_again(fd);
	return fd;
}

static int make_openat(const struct change *c)
{
	return real.openat(c->fd, c->path, c->mode, c->perm);
}

int on_openat(int dir, const char *path, int flags, mode_t perm)
{
	const struct change c = {
		.make = make_openat, .fd = dir, .path = path, .mode = flags, .perm = perm
	};

	return open_any(&c);
}

int on_open(const char *path, int flags, mode_t perm)
{
	const struct change c = {
		.make = make_open, .fd = AT_FDCWD, .path = path, .mode = flags, .perm = perm
	};

	return open_any(&c);
}

int on_creat(const char *path, mode_t perm)
{
	return on_open(path, O_CREAT | O_WRONLY | O_TRUNC, perm);
}

/* The fortified ones have no mode: libc ends the program if the flags want one. */
int on___open_2(const char *path, int flags)
{
	if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
		return real.__open_2(path, flags);
	return on_open(path, flags, 0);
}

int on___openat_2(int dir, const char *path, int flags)
{
	if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
		return real.__openat_2(dir, path, flags);
	return on_openat(dir, path, flags, 0);
}

static int make_fallocate(const struct change *c)
{
	return real.fallocate(c->fd, c->mode, c->off, c->len);
}

static const char *name_of(struct inode_key key, uint64_t off, char *dst, size_t size)
{
	struct file *f = space_file(key, false);
	const struct segment *s = f ? segment_find(f, off, UINT64_MAX) : NULL;

	return s ? stage_name_of(s, dst, size) : "";
}

/* What the kernel would refuse whatever is staged: collapsing up to the end, inserting behind
 * it. */
static bool moves_nothing(const struct change *c)
{
	const uint64_t size = size_now(c);

	return c->mode & FALLOC_FL_COLLAPSE_RANGE
		       ? (uint64_t)c->off + (uint64_t)c->len >= size
		       : c->mode & FALLOC_FL_INSERT_RANGE && (uint64_t)c->off >= size;
}

/* What lies behind moves. Memory under a pin cannot: refused, unless the kernel would refuse
 * anyway (nothing is moved by a single byte on any file system). */
static int move_staged(const struct change *c, struct inode_key key)
{
	const struct change probe = { .fd = c->fd, .mode = c->mode, .off = 1, .len = 1 };
	struct join_visit v = visit(c, key, page_down((uint64_t)c->off), INT64_MAX);
	struct space_guard g;
	char name[512];
	int ret, saved = errno;

	if ((c->off | c->len) % 512 || !space_lock(&g))
		return make_fallocate(c);
	turn_take(TURN_WRITE, key);
	ret = make_fallocate(&probe);
	if (ret < 0 && errno == EINVAL && !moves_nothing(c)) {
		join_visit(&v);
		if (retire_from(key, (uint64_t)c->off) < 0) {
			log_event(
				EV_REFUSE,
				"call=fallocate file=\"%s\" offset=%ld len=%ld errno=%d reason=\"staged "
				"memory behind the offset is in use and cannot be moved\" "
				"remedy=\"deregister it first\"",
				name_of(key, (uint64_t)c->off, name, sizeof(name)),
				(long)c->off, (long)c->len, EBUSY);
			errno = EBUSY;
		} else {
			errno = saved;
			ret = make_alone(c, key);
		}
		saved = errno;
		join_end_visit(&v);
		errno = saved;
	}
	saved = errno;
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	errno = saved;
	return ret;
}

/* Zeroes part of the file, makes it longer, or only allocates. */
static int allocate_staged(const struct change *c, struct inode_key key, bool zero)
{
	uint64_t before, after;
	struct join_visit v;
	struct space_guard g;
	int ret, saved = errno;

	if (!space_lock(&g))
		return c->make(c);
	turn_take(TURN_WRITE, key);
	before = size_now(c);
	v = visit(c, key, page_down(MIN(before, (uint64_t)c->off)),
		  zero ? (uint64_t)c->off + (uint64_t)c->len : page_up(before));
	join_visit(&v);
	file_meet(key, before, zero ? (uint64_t)c->off : 0,
		  zero ? (uint64_t)c->off + (uint64_t)c->len : 0);
	errno = saved;
	ret = make_alone(c, key);
	saved = errno;
	after = size_now(c);
	if (ret >= 0 && after > before)
		now_zero(key, before, after);
	if (ret >= 0 && zero)
		now_zero(key, (uint64_t)c->off, (uint64_t)c->off + (uint64_t)c->len);
	join_end_visit(&v);
	turn_give(TURN_WRITE, key);
	space_unlock(&g);
	errno = saved;
	return ret;
}

int on_fallocate(int fd, int mode, off_t off, off_t len)
{
	const int zeroing =
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_WRITE_ZEROES;
	const int harmless = FALLOC_FL_KEEP_SIZE | FALLOC_FL_UNSHARE_RANGE;
	const struct change c = {
		.make = make_fallocate, .fd = fd, .mode = mode, .off = off, .len = len
	};
	const bool moves = mode & ~(zeroing | harmless); /* and what is not known yet */
	struct inode_key key;
	uint64_t end;

	if (off < 0 || len <= 0 || __builtin_add_overflow((uint64_t)off, (uint64_t)len, &end))
		return real.fallocate(fd, mode, off, len);
	if (file_enter(fd, &key))
		return changed(fd, key, (uint64_t)off, moves ? UINT64_MAX : end,
			       real.fallocate(fd, mode, off, len));
	if (moves)
		return move_staged(&c, key);
	return allocate_staged(&c, key, mode & zeroing);
}

/* Returns its error and leaves errno alone. */
static int make_posix_fallocate(const struct change *c)
{
	return -real.posix_fallocate(c->fd, c->off, c->len);
}

int on_posix_fallocate(int fd, off_t off, off_t len)
{
	const struct change c = {
		.make = make_posix_fallocate, .fd = fd, .off = off, .len = len
	};
	struct inode_key key;
	int ret;

	if (off < 0 || len <= 0)
		return real.posix_fallocate(fd, off, len);
	if (file_enter(fd, &key)) {
		ret = real.posix_fallocate(fd, off, len);
		(void)changed(fd, key, (uint64_t)off, (uint64_t)off + (uint64_t)len, -ret);
		return ret;
	}
	return -allocate_staged(&c, key, false);
}
