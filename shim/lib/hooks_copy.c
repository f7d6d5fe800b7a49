/* SPDX-License-Identifier: MIT */
/*
 * Calls that carry data from one descriptor to another inside the kernel. Where they read a
 * staged file, it is brought up to date first. Where they write to one, nobody could say what
 * the memory has to get: the data goes through a buffer of ours, and from there into file and
 * memory by write().
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/filetruth.h"
#include "lib/hooks.h"
#include "lib/join.h"
#include "lib/ownfd.h"
#include "lib/pin.h"
#include "lib/scratch.h"
#include "lib/sync.h"
#include "lib/turn.h"

#define CHUNK	  (1UL << 20)
#define PIPE_PART (64UL * 1024)

/* A position that the program keeps in a file's mapping. The kernel would find a curtain there
 * when it has moved everything, and call that a failure: so it gets one of ours. */
struct own_position {
	off_t at, *program;
	bool ours;
};

static off_t *position_begin(struct own_position *p, off_t *off)
{
	const int saved = errno;

	p->program = off;
	p->ours = off && space_concerned((uintptr_t)off, sizeof(*off)) &&
		  file_copy_in(&p->at, off, sizeof(*off));
	errno = saved;
	return p->ours ? &p->at : off;
}

/* Where the next call goes on, told when all is done, as the kernel does it: until then the
 * program's own is left alone. One may stand for both positions. */
static ssize_t position_told(off_t *off, off_t at, ssize_t ret)
{
	if (off && ret > 0 && !file_copy_out(off, &at, sizeof(at)))
		return -1; /* with the kernel's errno */
	return ret;
}

static ssize_t position_end(const struct own_position *p, ssize_t ret)
{
	return position_told(p->ours ? p->program : NULL, p->at, ret);
}

/* The position that such a pointer means; false if it cannot be read: the kernel's to say. */
static bool position(const off_t *off, off_t *ret)
{
	*ret = CURRENT;
	return !off || (file_copy_in(ret, off, sizeof(*off)) && *ret >= 0);
}

static void before_source(int fd, const off_t *off, size_t n)
{
	off_t at;

	if (position(off, &at))
		file_before_read(fd, MIN(n, (size_t)SSIZE_MAX), at);
}

static ssize_t read_part(int fd, const off_t *off, void *buf, size_t n)
{
	return real.pread(fd, buf, n, off ? *off : real.lseek(fd, 0, SEEK_CUR));
}

static void advance(int fd, off_t *off, ssize_t n)
{
	if (off)
		*off += n;
	else
		(void)real.lseek(fd, n, SEEK_CUR);
}

/* Where a call that has just put `n` bytes into a file began to: the position says so if nobody
 * else has moved it. */
static bool put_at(int out, const off_t *off, ssize_t n, off_t *ret)
{
	off_t end;

	if (!position(off, &end))
		return false;
	if (!off)
		end = real.lseek(out, 0, SEEK_CUR);
	*ret = end - n;
	return *ret >= 0;
}

/* Staged by others while the kernel carried data into it. Where it is not certain which part
 * that was, nothing is taken: memory might have been stored to since. The keeper sees what
 * changed. */
static __attribute__((noinline)) void after_copy(int out, const off_t *off, ssize_t n)
{
	struct inode_key key;
	off_t at = 0, again = 0;
	bool known;
	int saved = errno;

	known = put_at(out, off, n, &at);
	if (sync_fd_staged(out, &key)) {
		known = known && put_at(out, off, n, &again) && again == at;
		if (known)
			file_look_again(out, (uint64_t)at, (uint64_t)at + (uint64_t)n);
		else
			(void)sync_file(key, 0, 0, false);
	}
	errno = saved;
}

/* What the original said of a target that nobody had staged when it was called. */
static inline ssize_t copied(int out, struct inode_key key, const off_t *off, ssize_t ret)
{
	if (unlikely(file_leave(out, key)) && ret > 0)
		after_copy(out, off, ret);
	return ret;
}

/* What it said of one that is staged, and that there is no other way to carry to. */
static ssize_t copied_anyway(int out, const off_t *off, ssize_t ret)
{
	if (ret > 0)
		after_copy(out, off, ret);
	return ret;
}

/* As much as can be; an error counts if nothing was moved before. The positions are ours. */
static ssize_t through_buffer(int in, off_t *in_off, int out, off_t *out_off, size_t len)
{
	struct scratch scratch;
	ssize_t got, put = 0, done = 0;
	int saved = errno;
	char *buf;

	if (scratch_open(&scratch) < 0) {
		errno = ENOMEM;
		return -1;
	}
	buf = scratch_get(&scratch, CHUNK);
	while ((size_t)done < len) {
		got = read_part(in, in_off, buf, MIN(len - (size_t)done, CHUNK));
		put = got;
		if (got > 0)
			put = out_off ? on_pwrite(out, buf, (size_t)got, *out_off)
				      : on_write(out, buf, (size_t)got);
		if (put <= 0)
			break;
		advance(in, in_off, put);
		if (out_off)
			*out_off += put;
		done += put;
		if (put < got)
			break;
	}
	if (done == 0 && put < 0)
		saved = errno;
	scratch_close(&scratch);
	errno = saved;
	return done > 0 ? done : put;
}

/* The kernel's own checks, for nothing. What overlaps within one file it refuses. */
static bool copy_allowed(int in, off_t *in_off, int out, off_t *out_off, unsigned flags)
{
	return real.copy_file_range(in, in_off, out, out_off, 0, flags) == 0;
}

static bool overlaps(int in, off_t a, int out, off_t b, size_t len)
{
	struct stat x, y;

	return fstat(in, &x) == 0 && fstat(out, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino && a < b + (off_t)len && b < a + (off_t)len;
}

static ssize_t copy_range(int in, off_t *in_off, int out, off_t *out_off, size_t len,
			  unsigned int flags)
{
	struct inode_key key;
	off_t a, b;
	ssize_t ret;

	if (unlikely(anything_staged()))
		before_source(in, in_off, len);
	if (file_enter(out, &key))
		return copied(out, key, out_off,
			      real.copy_file_range(in, in_off, out, out_off, len, flags));
	if (!position(in_off, &a) || !position(out_off, &b) || len > (size_t)SSIZE_MAX ||
	    !copy_allowed(in, in_off, out, out_off, flags))
		return copied_anyway(
			out, out_off,
			real.copy_file_range(in, in_off, out, out_off, len, flags));
	if (a == CURRENT)
		a = real.lseek(in, 0, SEEK_CUR);
	if (b == CURRENT)
		b = real.lseek(out, 0, SEEK_CUR);
	if (overlaps(in, a, out, b, MIN(len, (size_t)(INT64_MAX - MAX(a, b))))) {
		errno = EINVAL;
		return -1;
	}
	ret = through_buffer(in, in_off ? &a : NULL, out, out_off ? &b : NULL, len);
	return position_told(out_off, b, position_told(in_off, a, ret));
}

ssize_t on_copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t len,
			   unsigned int flags)
{
	struct own_position a, b;
	ssize_t ret;

	in_off = position_begin(&a, in_off);
	out_off = position_begin(&b, out_off);
	ret = position_end(&a, copy_range(in, in_off, out, out_off, len, flags));
	return position_end(&b, ret);
}

/* A source without positions is refused by the kernel, or is none that can be read ahead of. */
static ssize_t send_file(int out, int in, off_t *off, size_t n)
{
	struct inode_key key;
	ssize_t ret;
	off_t at;

	if (unlikely(anything_staged()))
		before_source(in, off, n);
	if (file_enter(out, &key))
		return copied(out, key, NULL, real.sendfile(out, in, off, n));
	if (!position(off, &at) || real.lseek(in, 0, SEEK_CUR) < 0 ||
	    real.sendfile(out, in, off, 0) < 0)
		return copied_anyway(out, NULL, real.sendfile(out, in, off, n));
	ret = through_buffer(in, off ? &at : NULL, out, NULL,
			     MIN(n, (size_t)INT_MAX & ~(size_t)4095));
	return position_told(off, at, ret);
}

ssize_t on_sendfile(int out, int in, off_t *off, size_t n)
{
	struct own_position p;

	off = position_begin(&p, off);
	return position_end(&p, send_file(out, in, off, n));
}

struct pipe_copy {
	int in;	    /* the program's pipe */
	int own[2]; /* ours */
	char *buf;  /* twice PIPE_PART */
};

/* Waits until there is something in the pipe, or nobody who could write to it, as splice() does
 * when a signal comes: by a read() that cannot put anything anywhere, and so takes nothing. */
static bool wait_for_data(int pipe, unsigned flags)
{
	static const char nowhere;
	ssize_t n;

	if (flags & SPLICE_F_NONBLOCK)
		return false;
	n = real.read(pipe, (void *)(uintptr_t)&nowhere, 1);
	return n == 0 || (n < 0 && errno == EFAULT);
}

/* As in write(): where the file grew over a gap, that reads zero. Lock held. */
static void follow_part(struct join_visit *v, uint64_t old_size, uint64_t at, size_t n,
			const char *from)
{
	const struct iovec iov = { (void *)(uintptr_t)from, n };
	struct file *f;

	join_visit_more(v, MIN(old_size, at), at + n);
	f = space_file(v->key, false);
	if (f && at > old_size && segment_find(f, old_size, at))
		file_clear(f, old_size, at);
	file_take(v->key, &iov, 1, n, (off_t)at);
}

/*
 * What is in the pipe goes into the file, a copy of it into a pipe of ours before: nothing is
 * taken out of the program's pipe that the file does not get. If another reader of it came in
 * between, the file has something else than we: it is read back, before the keeper can write
 * there what memory still has. Where it cannot be read, the copy has to do. Returns what was
 * moved; *ret_from is where that stands, *ret_n how much of it.
 */
static ssize_t move_part(struct join_visit *v, off_t *out_off, size_t len, unsigned flags,
			 const struct pipe_copy *c, const char **ret_from, size_t *ret_n)
{
	char *copy = c->buf + PIPE_PART;
	ssize_t seen, moved, got = -1;
	int saved = errno, reader;

	seen = tee(c->in, c->own[1], MIN(len, PIPE_PART), SPLICE_F_NONBLOCK);
	if (seen <= 0)
		return seen;
	turn_take(TURN_LENGTH, v->key);
	errno = saved;
	moved = real.splice(c->in, NULL, v->fd, out_off, (size_t)seen,
			    flags | SPLICE_F_NONBLOCK);
	saved = errno;
	reader = moved > 0 ? file_reader(v->fd, v->key) : -1;
	if (reader >= 0)
		got = real.pread(reader, c->buf, (size_t)moved, (off_t)v->off);
	turn_give(TURN_LENGTH, v->key);
	*ret_from = c->buf;
	*ret_n = (size_t)MAX(moved, (ssize_t)0);
	seen = real.read(c->own[0], copy, (size_t)seen);
	if (got != moved) {
		*ret_from = copy;
		*ret_n = (size_t)MAX(MIN(moved, seen), (ssize_t)0);
	}
	errno = saved;
	return moved;
}

static void pipe_close(const int own[2])
{
	ownfd_close(own[0]);
	ownfd_close(own[1]);
}

/* With the lock held until it is closed: dup2() must not move it to other numbers. */
static bool pipe_open(int own[2])
{
	if (pipe2(own, O_CLOEXEC) < 0)
		return false;
	own[0] = ownfd_adopt(own[0]);
	own[1] = ownfd_adopt(own[1]);
	if (own[0] >= 0 && own[1] >= 0)
		return true;
	pipe_close(own);
	return false;
}

static ssize_t splice_part(struct pipe_copy *c, int out, off_t *out_off, size_t len,
			   unsigned flags, struct inode_key key)
{
	struct join_visit v = { .fd = out, .key = key };
	const char *from = NULL;
	struct space_guard g;
	struct stat st;
	ssize_t moved;
	int saved = errno;
	size_t n = 0;
	off_t at;

	if (!space_lock(&g))
		return real.splice(c->in, NULL, out, out_off, len, flags);
	if (!pipe_open(c->own)) {
		space_unlock(&g);
		errno = ENOMEM;
		return -1;
	}
	turn_take(TURN_WRITE, key);
	at = out_off ? *out_off : real.lseek(out, 0, SEEK_CUR);
	v.off = (uint64_t)at;
	v.end = v.off + MIN(len, PIPE_PART);
	join_visit(&v);
	if (fstat(out, &st) < 0)
		st.st_size = INT64_MAX;
	file_meet(key, v.off, v.end, MIN(v.off, (uint64_t)st.st_size));
	errno = saved;
	moved = move_part(&v, out_off, len, flags, c, &from, &n);
	saved = errno;
	if (n)
		follow_part(&v, (uint64_t)st.st_size, (uint64_t)at, n, from);
	join_end_visit(&v);
	turn_give(TURN_WRITE, key);
	pipe_close(c->own);
	space_unlock(&g);
	errno = saved;
	return moved;
}

/* The position is ours: file and memory get it at the same place. */
static ssize_t splice_staged(int in, int out, off_t *out_off, size_t len, unsigned flags,
			     struct inode_key key)
{
	struct pipe_copy c = { .in = in };
	struct scratch scratch;
	int saved = errno;
	ssize_t ret;

	if (scratch_open(&scratch) < 0) {
		errno = ENOMEM;
		return -1;
	}
	c.buf = scratch_get(&scratch, 2 * PIPE_PART);
	do {
		errno = saved;
		ret = splice_part(&c, out, out_off, len, flags, key);
	} while (ret < 0 && errno == EAGAIN && wait_for_data(in, flags));
	saved = errno;
	scratch_close(&scratch);
	errno = saved;
	return ret;
}

static bool is_regular(int fd)
{
	struct stat st;
	int saved = errno;
	bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);

	errno = saved;
	return regular;
}

/* From a pipe into a file, most likely. Data is not waited for in the call: a staging might
 * have to wait for that. */
static ssize_t splice_to_file(int in, loff_t *in_off, int out, off_t *out_off, size_t len,
			      unsigned flags)
{
	struct inode_key key;
	ssize_t ret;
	off_t at;

	do {
		if (unlikely(anything_staged()))
			before_source(in, in_off, len);
		if (!file_enter(out, &key)) {
			if (!len || in_off || !position(out_off, &at) ||
			    fcntl(out, F_GETFL) & O_APPEND || fcntl(in, F_GETPIPE_SZ) < 0)
				return copied_anyway(
					out, out_off,
					real.splice(in, in_off, out, out_off, len, flags));
			ret = splice_staged(in, out, out_off ? &at : NULL, len, flags, key);
			return position_told(out_off, at, ret);
		}
		ret = copied(
			out, key, out_off,
			real.splice(in, in_off, out, out_off, len, flags | SPLICE_F_NONBLOCK));
	} while (ret < 0 && errno == EAGAIN && wait_for_data(in, flags));
	return ret;
}

static ssize_t splice_any(int in, off_t *in_off, int out, off_t *out_off, size_t len,
			  unsigned int flags)
{
	/* Who does not wait for data anyway is not asked what the target is: an fstat(). */
	if (flags & SPLICE_F_NONBLOCK || is_regular(out))
		return splice_to_file(in, in_off, out, out_off, len, flags);
	if (unlikely(anything_staged()))
		before_source(in, in_off, len);
	return real.splice(in, in_off, out, out_off, len, flags);
}

ssize_t on_splice(int in, off_t *in_off, int out, off_t *out_off, size_t len,
		  unsigned int flags)
{
	struct own_position a, b;
	ssize_t ret;

	in_off = position_begin(&a, in_off);
	out_off = position_begin(&b, out_off);
	ret = position_end(&a, splice_any(in, in_off, out, out_off, len, flags));
	return position_end(&b, ret);
}
