/* SPDX-License-Identifier: MIT */
#include "lib/custody.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/shadow.h"

#define SCAN_BUFFER (64UL * 1024)

struct search {
	struct custody *c;
	const struct vma *v;
	const struct file *f;
	struct scratch *scratch;
	char *buf;
	void *probe;
};

struct identity {
	uintptr_t addr;
	uint64_t dev, ino;
};

static int identity_each(const struct vma *v, const char *path, void *arg)
{
	struct identity *id = arg;

	(void)path;
	id->dev = v->dev;
	id->ino = v->ino;
	return 1;
}

/* Fills in what fstat and its like say of fd, and maps a page of it. May run in a shadow child:
 * the mapping is made in our memory either way. */
static int examine(struct search *s, int fd)
{
	struct statfs sfs;
	struct statx sx;
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &sfs) < 0)
		return -errno;
	flags = fcntl(fd, F_GETFL);
	if (!S_ISREG(st.st_mode) || (flags & O_ACCMODE) != O_RDWR || (flags & O_PATH))
		return -EBADF;
	s->c->key = (struct inode_key){ st.st_dev, st.st_ino };
	s->c->size = (uint64_t)st.st_size;
	s->c->fs_type = sfs.f_type;
	s->c->dax = statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) == 0 &&
		    (sx.stx_attributes & STATX_ATTR_DAX);
	if (s->f && inode_key_cmp(s->f->key, s->c->key) != 0)
		return -ESTALE;
	s->probe = real.mmap(NULL, page_size(), PROT_NONE, MAP_SHARED, fd, (off_t)s->v->off);
	return s->probe == MAP_FAILED ? -errno : 0;
}

/* Is the file behind the probe the one behind v? Both answers come from the same source. */
static bool confirm(struct search *s)
{
	struct identity id = { .addr = (uintptr_t)s->probe };
	bool same;

	same = vmas_between(id.addr, id.addr + 1, s->buf, SCAN_BUFFER, identity_each, &id) ==
		       1 &&
	       id.dev == s->v->dev && id.ino == s->v->ino;
	real.munmap(s->probe, page_size());
	return same;
}

static bool try_fd(struct search *s, int fd)
{
	if (fd < 0 || ownfd_is(fd) || examine(s, fd) < 0 || !confirm(s))
		return false;
	s->c->fd = fd;
	return true;
}

/* Any other descriptor that the program has of the file. */
static bool try_table(struct search *s)
{
	struct dirent64 *d;
	bool found = false;
	ssize_t got, at;
	int dir, fd;
	char *buf, *p;

	buf = scratch_get(s->scratch, SCAN_BUFFER);
	dir = buf ? open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dir < 0)
		return false;
	while (!found && (got = getdents64(dir, buf, SCAN_BUFFER)) > 0) {
		for (at = 0; at < got && !found; at += d->d_reclen) {
			d = (struct dirent64 *)(void *)(buf + at);
			if (d->d_name[0] < '0' || d->d_name[0] > '9')
				continue;
			for (fd = 0, p = d->d_name; *p; p++)
				fd = fd * 10 + (*p - '0');
			found = fd != dir && try_fd(s, fd);
		}
	}
	real.close(dir);
	return found;
}

/* The parked descriptor, left where it is; only in a shadow child, whose table it enters. */
static int peek_lot(int lot)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c;
	int fd;

	if (recvmsg(lot, &h, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&h);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EBADF;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static int open_elsewhere(const struct custody *c)
{
	int fd;

	if (c->lot >= 0)
		return peek_lot(c->lot);
	/* O_NONBLOCK: do not wait for the holder of a lease. */
	fd = real.openat(
		c->named ? c->dir : AT_FDCWD, c->path,
		O_RDWR | (c->named ? 0 : O_NOFOLLOW) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static int examine_elsewhere(void *arg)
{
	struct search *s = arg;
	int fd = open_elsewhere(s->c);

	return fd < 0 ? fd : examine(s, fd);
}

static bool try_elsewhere(struct search *s, int lot, const char *path)
{
	s->c->lot = lot;
	s->c->path = path;
	return shadow_run(examine_elsewhere, s) == 0 && confirm(s);
}

int custody_find(struct custody *c, const struct vma *v, const char *path, struct file *f,
		 struct scratch *scratch, enum reason *ret_why)
{
	struct search s = { .c = c, .v = v, .f = f, .scratch = scratch };
	const struct lot *l;

	*c = (struct custody){ .fd = -1, .lot = -1 };
	*ret_why = REASON_NO_MEMORY;
	s.buf = scratch_get(scratch, SCAN_BUFFER);
	if (!s.buf)
		return -ENOMEM;
	if (f && try_fd(&s, f->fd))
		return 0;
	for (l = f ? f->lots : NULL; l; l = l->next)
		if (try_elsewhere(&s, l->pair[0], NULL))
			return 0;
	c->lot = -1;
	c->lent = try_table(&s);
	if (c->lent)
		return 0;
	if (path[0] == '/' && try_elsewhere(&s, -1, path))
		return 0;
	*ret_why = REASON_NO_DESCRIPTOR;
	return -EBADF;
}

struct send_elsewhere {
	int sock;
	struct msg *m;
	const struct custody *c;
	const int *more;
	size_t n;
};

static int send_with(struct send_elsewhere *e, int fd)
{
	int fds[PROTO_ASKS] = { fd };

	for (size_t i = 0; i < e->n; i++)
		fds[i + 1] = e->more[i];
	return msg_send(e->sock, e->m, fds, e->n + 1);
}

static int open_anew(const struct custody *c)
{
	const int fd = c->fd >= 0 ? c->fd : open_elsewhere(c);
	char path[64];
	int own;

	if (fd < 0 || !c->anew || (c->fd < 0 && c->lot < 0)) /* by name it is nobody's */
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = real.openat(AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if (own < 0)
		own = c->or_as_it_is ? fd : -errno;
	return own;
}

static int send_elsewhere(void *arg)
{
	struct send_elsewhere *e = arg;
	int fd = open_anew(e->c);

	return fd < 0 ? fd : send_with(e, fd);
}

int custody_send_with(int sock, struct msg *m, const struct custody *c, const int *more,
		      size_t n)
{
	struct send_elsewhere e = { sock, m, c, more, n };

	if (n > PROTO_ASKS - 1)
		return -EINVAL;
	if (c->fd >= 0 && !c->anew)
		return send_with(&e, c->fd);
	return shadow_run(send_elsewhere, &e);
}

int custody_send(int sock, struct msg *m, void *arg)
{
	return custody_send_with(sock, m, arg, NULL, 0);
}

/* A few may be parked, and of one file no more than serve should the first ones go; each costs
 * two descriptors. Beyond that the name of the file must do. */
static bool lot_affordable(const struct file *f)
{
	const unsigned most = 64, of_one = 4;
	struct rlimit limit;
	unsigned n = 0;

	for (const struct lot *l = f->lots; l; l = l->next)
		n++;
	return n < of_one && space.parked < most && getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	       limit.rlim_cur >= 16 * ((rlim_t)space.parked + 1);
}

/* A mapping on overlayfs is of the file below, and keeps nothing of the descriptor alive: then
 * another description of the file is parked, which is nobody else's. */
static bool maps_another(int fd)
{
	struct statfs sfs;

	return fstatfs(fd, &sfs) < 0 || sfs.f_type == OVERLAYFS_SUPER_MAGIC;
}

static struct lot *park(struct file *f, int fd)
{
	struct custody c = { .fd = fd, .lot = -1, .anew = maps_another(fd) };
	struct lot *l = NULL;
	struct msg m;
	int pair[2], flags = fcntl(fd, F_GETFL);

	if ((flags & O_ACCMODE) != O_RDWR || !lot_affordable(f))
		return NULL;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
		return NULL;
	pair[0] = ownfd_adopt(pair[0]);
	pair[1] = ownfd_adopt(pair[1]);
	msg_init(&m, MSG_STAGE);
	if (pair[0] >= 0 && pair[1] >= 0 && custody_send(pair[1], &m, &c) == 0)
		l = space_lot_new(f, pair);
	if (l)
		return l;
	ownfd_close(pair[0]);
	ownfd_close(pair[1]);
	return NULL;
}

void custody_park(struct file *f, int fd)
{
	struct lot *lot = NULL;
	bool found = false;
	struct area *a;

	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX)) {
		if (a->file != f || a->fd != fd)
			continue;
		if (!found)
			lot = park(f, fd);
		found = true;
		space_made_from(a, -1, lot);
	}
	space_lot_put(f, lot);
}
