/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/sys.h"
#include "common/util.h"
#include "common/vmas.h"

/* As in <linux/fs.h> of Linux 6.11. */
struct query {
	uint64_t size, flags, addr;	/* asked */
	uint64_t start, end, vma_flags; /* answered, all below */
	uint64_t page_size, offset, inode;
	uint32_t dev_major, dev_minor;
	uint32_t name_size, build_id_size; /* asked and answered */
	uint64_t name, build_id;	   /* addresses of the buffers */
};

#define PROCMAP_QUERY	 _IOWR('f', 17, struct query)
#define ONLY_SHARED	 0x08 /* flags */
#define COVERING_OR_NEXT 0x10
#define ONLY_OF_FILES	 0x20
#define ALL_PERMISSIONS	 0x0f /* vma_flags: readable, writable, executable, shared: as ours */

_Static_assert(VMA_READ == 1 && VMA_WRITE == 2 && VMA_EXEC == 4 && VMA_SHARED == 8,
	       "the kernel's numbers");

/* The part of maps that is asked for. */
struct part {
	uintptr_t start, end;
	int (*each)(const struct vma *v, const char *path, void *arg);
	void *arg;
};

/* 0 and the mapping with its path in buf, unless size is 0; -ENOENT if there is none from `at`
 * on, or another -errno: the kernel cannot say, or not as maps would. */
static int ask(int fd, uintptr_t at, unsigned only, char *buf, size_t size, struct vma *ret)
{
	struct query q = { .size = sizeof(q),
			   .flags = COVERING_OR_NEXT | only,
			   .addr = at,
			   .name_size = (uint32_t)size,
			   .name = size ? (uintptr_t)buf : 0 };

	if (ioctl(fd, PROCMAP_QUERY, &q) < 0)
		return -errno;
	if (!q.name_size)
		buf[0] = '\0';
	if (strchr(buf, '\n')) /* which maps escapes */
		return -EILSEQ;
	*ret = (struct vma){ .start = q.start,
			     .end = q.end,
			     .off = q.offset,
			     .dev = (uint64_t)q.dev_major << 32 | q.dev_minor,
			     .ino = q.inode,
			     .flags = (unsigned)q.vma_flags & ALL_PERMISSIONS };
	return 0;
}

static int part_each(const struct vma *v, const char *path, void *arg)
{
	const struct part *p = arg;

	return v->end <= p->start || v->start >= p->end ? 0 : p->each(v, path, p->arg);
}

/* Asks for one after the other. -errno of a refusal: all from part->start on are still to come.
 * What each() does may have the kernel make one mapping of the last and the next: then the rest
 * of it comes.
 */
static int ask_each(int fd, struct part *part, unsigned only, char *buf, size_t size,
		    bool *ret_refused)
{
	uintptr_t told = 0;
	struct vma v;
	int err = 0;

	*ret_refused = false;
	while (!err && part->start < part->end) {
		err = ask(fd, part->start, only, buf, size, &v);
		if (err == -ENOENT || (!err && v.start >= part->end))
			return 0;
		*ret_refused = err < 0;
		if (err)
			return err;
		if (v.start < told) {
			v.off += told - v.start;
			v.start = told;
		}
		err = part->each(&v, buf, part->arg);
		part->start = told = v.end;
	}
	return err;
}

int vmas_between(uintptr_t start, uintptr_t end, char *buf, size_t size,
		 int (*each)(const struct vma *v, const char *path, void *arg), void *arg)
{
	struct part rest = { start, end, each, arg };
	bool refused;
	int fd, err;

	fd = open(VMAS_MAPS, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = ask_each(fd, &rest, 0, buf, size, &refused);
	sys_close(fd);
	if (refused)
		err = vmas_scan(VMAS_MAPS, buf, size, part_each, &rest, NULL);
	return err;
}

struct outline {
	int (*each)(const struct vma *v, const char *path, void *arg);
	void *arg;
	size_t count;
};

static int outline_each(const struct vma *v, const char *path, void *arg)
{
	struct outline *o = arg;

	o->count++;
	return o->each(v, path, o->arg);
}

int vmas_outline(char *buf, size_t size,
		 int (*each)(const struct vma *v, const char *path, void *arg), void *arg,
		 size_t *ret_count)
{
	struct outline o = { each, arg, 0 };
	struct part rest = { 0, UINTPTR_MAX, outline_each, &o };
	bool refused;
	int fd, err;

	fd = open(VMAS_MAPS, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	buf[0] = '\0';
	err = ask_each(fd, &rest, 0, buf, 0, &refused);
	sys_close(fd);
	if (refused)
		err = vmas_scan(VMAS_MAPS, buf, size, part_each, &rest, NULL);
	*ret_count = o.count;
	return err;
}

static int shared_each(const struct vma *v, const char *path, void *arg)
{
	return v->flags & VMA_SHARED && v->ino ? part_each(v, path, arg) : 0;
}

int vmas_shared(const char *from, char *buf, size_t size,
		int (*each)(const struct vma *v, const char *path, void *arg), void *arg)
{
	struct part rest = { 0, UINTPTR_MAX, each, arg };
	bool refused;
	int fd, err;

	fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = ask_each(fd, &rest, ONLY_SHARED | ONLY_OF_FILES, buf, size, &refused);
	sys_close(fd);
	if (err == -ESRCH && refused) /* a thread of the kernel, or a process that has ended */
		return 0;
	if (refused)
		err = vmas_scan(from, buf, size, shared_each, &rest, NULL);
	return err;
}

int vmas_can_ask(void)
{
	char name[PATH_MAX];
	struct vma v;
	int fd = open(VMAS_MAPS, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = ask(fd, (uintptr_t)&v, 0, name, sizeof(name), &v);
	sys_close(fd);
	return err;
}
