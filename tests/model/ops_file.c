// SPDX-License-Identifier: MIT
/* Calls with a descriptor of the file. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/uio.h>

struct file files[MAX_FILES] = { { -1, 0 }, { -1, 0 }, { -1, 0 }, { -1, 0 }, { -1, 0 } };
static unsigned char buf[MAX_SIZE + 2 * PAGE] __attribute__((aligned(4096)));

static struct file *open_in(struct file *file, int flags)
{
	if (file->fd >= 0)
		close(file->fd);
	file->flags = flags;
	file->fd = open(file_path(), flags | O_CLOEXEC);
	if (file->fd < 0)
		wrong("cannot open %s: errno %d", file_path(), errno);
	return file;
}

struct file *file_for(bool reading, bool writing)
{
	unsigned first = below(MAX_FILES);
	struct file *file;
	int mode;

	for (unsigned i = 0; i < MAX_FILES; i++) {
		file = &files[(first + i) % MAX_FILES];
		mode = file->flags & O_ACCMODE;
		if (file->fd < 0 || (file->flags & (O_APPEND | O_DIRECT)))
			continue;
		if ((!reading || mode != O_WRONLY) && (!writing || mode != O_RDONLY))
			return file;
	}
	return open_in(&files[first], writing ? O_RDWR : O_RDONLY);
}

void files_close_all(void)
{
	for (unsigned i = 0; i < MAX_FILES; i++) {
		if (files[i].fd >= 0)
			close(files[i].fd);
		files[i].fd = -1;
	}
}

int scratch_file(void)
{
	int fd = memfd_create("scratch", MFD_CLOEXEC);

	if (fd < 0)
		wrong("memfd_create: errno %d", errno);
	return fd;
}

/* Splits [base, base + len) into at most 3 parts. */
static int draw_iov(struct iovec iov[3], unsigned char *base, size_t len)
{
	int n = 0;

	for (; n < 2 && len > 1; n++) {
		iov[n].iov_base = base;
		iov[n].iov_len = below((unsigned)len);
		base += iov[n].iov_len;
		len -= iov[n].iov_len;
	}
	iov[n].iov_base = base;
	iov[n].iov_len = len;
	return n + 1;
}

static void must_be_at(int fd, size_t want)
{
	off_t at = lseek(fd, 0, SEEK_CUR);

	if (at != (off_t)want)
		wrong("the descriptor stands at %lld, not %zu", (long long)at, want);
}

static ssize_t read_somehow(int fd, unsigned char *to, size_t len, size_t at)
{
	struct iovec iov[3];
	const unsigned how = below(6);
	ssize_t got;
	int n = draw_iov(iov, to, len);

	say(" by way %u, %zu+%zu", how, at, len);
	switch (how) {
	case 0:
		return pread(fd, to, len, (off_t)at);
	case 1:
		return preadv(fd, iov, n, (off_t)at);
	case 2:
		return preadv2(fd, iov, n, (off_t)at, 0);
	default:
		lseek(fd, (off_t)at, SEEK_SET);
		if (how == 3)
			got = read(fd, to, len);
		else if (how == 4)
			got = readv(fd, iov, n);
		else
			got = preadv2(fd, iov, n, -1, 0);
		must_be_at(fd, at + (got > 0 ? (size_t)got : 0));
		return got;
	}
}

static size_t readable(size_t at, size_t len)
{
	size_t want = at < shared->size ? shared->size - at : 0;

	return want < len ? want : len;
}

void op_read(void)
{
	struct file *file = file_for(true, false);
	size_t at, len;
	ssize_t got;

	draw_range(MAX_SIZE, &at, &len);
	got = read_somehow(file->fd, buf, len, at);
	if (got != (ssize_t)readable(at, len))
		wrong("read %zd, not %zu (errno %d, size %zu)", got, readable(at, len), errno,
		      shared->size);
	must_equal("what was read", buf, at, (size_t)got);
}

/* A range of the file that does not touch [at, at + len), in a map; NULL if there is none. */
static unsigned char *elsewhere(bool for_writing, size_t at, size_t *len, size_t *ret_at)
{
	struct map *map = usable_map(for_writing);
	size_t from, n;

	if (!map)
		return NULL;
	draw_range(usable_len(map, false), &from, &n);
	if (n > *len)
		n = *len;
	if (map->at + from < at + n && at < map->at + from + n)
		return NULL;
	*ret_at = map->at + from;
	*len = n;
	return map->addr + from;
}

/* From one part of the file into another, which is mapped. */
void op_read_into_map(void)
{
	struct file *file = file_for(true, false);
	size_t at, len, to_at;
	unsigned char *to;
	ssize_t got;

	draw_range(MAX_SIZE, &at, &len);
	to = elsewhere(true, at, &len, &to_at);
	if (!to)
		return;
	say(" to %zu", to_at);
	got = read_somehow(file->fd, to, len, at);
	if (got != (ssize_t)readable(at, len))
		wrong("read %zd, not %zu (errno %d)", got, readable(at, len), errno);
	memcpy(buf, shared->content + at, (size_t)got);
	model_write(to_at, buf, (size_t)got);
}

static void write_somehow(int fd, unsigned char *from, size_t len, size_t at, size_t end)
{
	struct iovec iov[3];
	const unsigned how = below(8);
	ssize_t got;
	int n = draw_iov(iov, from, len);

	say(" by way %u, %zu+%zu", how, at, len);
	switch (how) {
	case 0:
		got = pwrite(fd, from, len, (off_t)at);
		break;
	case 1:
		got = pwritev(fd, iov, n, (off_t)at);
		break;
	case 2:
		got = pwritev2(fd, iov, n, (off_t)at, 0);
		break;
	case 3:
		got = pwritev2(fd, iov, n, (off_t)at, RWF_DSYNC);
		break;
	default:
		lseek(fd, (off_t)at, SEEK_SET);
		if (how == 4)
			got = writev(fd, iov, n);
		else if (how == 5)
			got = pwritev2(fd, iov, n, -1, 0);
		else
			got = write(fd, from, len);
		if (got == (ssize_t)len)
			must_be_at(fd, end);
	}
	if (got != (ssize_t)len)
		wrong("wrote %zd, not %zu (errno %d)", got, len, errno);
}

void op_write(void)
{
	struct file *file = file_for(false, true);
	size_t at, len;

	draw_range(one_in(3) || !shared->size ? MAX_SIZE : shared->size, &at, &len);
	draw_content(buf, at, len);
	write_somehow(file->fd, buf, len, at, at + len);
	model_write(at, buf, len);
}

void op_write_from_map(void)
{
	struct file *file = file_for(false, true);
	size_t at, len, from_at;
	unsigned char *from;

	draw_range(one_in(4) || !shared->size ? MAX_SIZE : shared->size, &at, &len);
	from = elsewhere(false, at, &len, &from_at);
	if (!from)
		return;
	say(" from %zu", from_at);
	write_somehow(file->fd, from, len, at, at + len);
	memcpy(buf, shared->content + from_at, len);
	model_write(at, buf, len);
}

void op_append(void)
{
	struct file *file = &files[below(MAX_FILES)];
	size_t len = 1 + below(one_in(2) ? 20 : 9000);
	struct iovec iov;
	ssize_t got;

	if (shared->size + len > MAX_SIZE)
		return;
	draw_content(buf, shared->size, len);
	say(" %zu+%zu", shared->size, len);
	if (one_in(2)) {
		iov.iov_base = buf;
		iov.iov_len = len;
		got = pwritev2(file_for(false, true)->fd, &iov, 1, 0, RWF_APPEND);
	} else {
		open_in(file, O_WRONLY | O_APPEND);
		got = one_in(2) ? write(file->fd, buf, len) : pwrite(file->fd, buf, len, 0);
	}
	if (got != (ssize_t)len)
		wrong("appended %zd, not %zu (errno %d)", got, len, errno);
	model_write(shared->size, buf, len);
}

/* Direct I/O, of whole pages. */
void op_direct(void)
{
	struct file *file = &files[below(MAX_FILES)];
	size_t at, len, want;
	bool writing = one_in(2);
	ssize_t got;

	if (shared->size < PAGE)
		return;
	draw_range(shared->size / PAGE * PAGE, &at, &len);
	at = at / PAGE * PAGE;
	len = (len + PAGE - 1) / PAGE * PAGE;
	if (at + len > shared->size / PAGE * PAGE)
		len = shared->size / PAGE * PAGE - at;
	say(" %s %zu+%zu", writing ? "write" : "read", at, len);
	open_in(file, O_RDWR | O_DIRECT);
	if (writing) {
		draw_content(buf, at, len);
		got = pwrite(file->fd, buf, len, (off_t)at);
		want = len;
	} else {
		got = pread(file->fd, buf, len, (off_t)at);
		want = readable(at, len);
	}
	if (got != (ssize_t)want)
		wrong("direct I/O moved %zd, not %zu (errno %d)", got, want, errno);
	if (writing)
		model_write(at, buf, len);
	else
		must_equal("what was read directly", buf, at, len);
}

/* ---- the file's shape ---- */

static void resize(size_t size, int (*how)(size_t size))
{
	say(" %zu to %zu", shared->size, size);
	if (size < shared->size && !may_cut(size, MAX_SIZE - size))
		return;
	if (how(size) < 0)
		wrong("it failed: errno %d", errno);
	model_resize(size);
}

static int by_descriptor(size_t size)
{
	return ftruncate(file_for(false, true)->fd, (off_t)size);
}

static int by_name(size_t size)
{
	return truncate(file_path(), (off_t)size);
}

static int by_opening(size_t size)
{
	(void)size;
	open_in(&files[below(MAX_FILES)], O_RDWR | O_TRUNC);
	return 0;
}

void op_ftruncate(void)
{
	resize(draw_size(), by_descriptor);
}

void op_truncate(void)
{
	resize(draw_size(), by_name);
}

void op_open_truncating(void)
{
	if (one_in(4))
		resize(0, by_opening);
}

/* True if it was done; false where the file system has no such thing. */
static bool allocate(int mode, size_t at, size_t len)
{
	const bool moves = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);

	say(" mode %d, %zu+%zu", mode, at, len);
	if (fallocate(file_for(false, true)->fd, mode, (off_t)at, (off_t)len) == 0)
		return true;
	/* What a device holds on to cannot be moved (README, Limits). */
	if (errno != EOPNOTSUPP && !(errno == EBUSY && moves && shared->set.shim))
		wrong("fallocate failed: errno %d", errno);
	say(" (%s)", errno == EBUSY ? "busy" : "not supported");
	return false;
}

void op_punch(void)
{
	size_t at, len;

	draw_range(MAX_SIZE, &at, &len);
	if (may_cut(at, len) && allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len))
		model_punch(at, len, true);
}

void op_zero(void)
{
	const bool keep = one_in(2);
	size_t at, len;

	draw_range(one_in(4) || !shared->size ? MAX_SIZE : shared->size, &at, &len);
	if (!may_cut(at, len) ||
	    !allocate(FALLOC_FL_ZERO_RANGE | (keep ? FALLOC_FL_KEEP_SIZE : 0), at, len))
		return;
	if (!keep && at + len > shared->size)
		model_resize(at + len);
	model_punch(at, len, false);
}

void op_allocate(void)
{
	const bool keep = one_in(2);
	size_t at, len;

	draw_range(MAX_SIZE, &at, &len);
	if (!allocate(keep ? FALLOC_FL_KEEP_SIZE : 0, at, len))
		return;
	if (!keep && at + len > shared->size)
		model_resize(at + len);
	model_allocated(at, len);
}

void op_shift(void)
{
	const bool insert = one_in(2);
	size_t pages = shared->size / PAGE, at, len;

	if (pages < 2)
		return;
	at = below((unsigned)pages) * PAGE;
	len = (1 + below(4)) * PAGE;
	if (insert ? shared->size + len > MAX_SIZE : at + len >= shared->size)
		return;
	if (may_cut(at, MAX_SIZE) &&
	    allocate(insert ? FALLOC_FL_INSERT_RANGE : FALLOC_FL_COLLAPSE_RANGE, at, len))
		model_shift(at, len, insert);
}

/* ---- descriptors and names ---- */

void op_sync_file(void)
{
	struct file *file = file_for(true, false);
	const unsigned how = below(2);
	int ret;

	say(" %s", how ? "fdatasync" : "fsync");
	ret = how ? fdatasync(file->fd) : fsync(file->fd);
	if (ret < 0)
		wrong("it failed: errno %d", errno);
	compare_raw(0, MAX_SIZE, "it");
	memcpy(shared->saved, shared->content, MAX_SIZE);
}

void op_open(void)
{
	static const int flags[] = { O_RDWR, O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_APPEND };
	struct file *file = &files[below(MAX_FILES)];
	int mode = flags[below(5)];

	say(" flags %x", (unsigned)mode);
	open_in(file, mode);
}

void op_close(void)
{
	struct file *file = &files[below(MAX_FILES)];

	if (file->fd < 0)
		return;
	if (close(file->fd) < 0)
		wrong("close: errno %d", errno);
	file->fd = -1;
}

void op_close_all(void)
{
	files_close_all();
}

void op_rename(void)
{
	const int to = (int)below(NAMES);

	say(" %d to %d", shared->name, to);
	if (rename(file_path(), name_path(to)) < 0)
		wrong("rename: errno %d", errno);
	shared->name = to;
}
