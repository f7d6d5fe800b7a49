/* SPDX-License-Identifier: MIT */
/*
 * smaps begins with the lowest mapping. So that comes to be a second one of the same file, made
 * from the mapping itself by mremap(), which has its flags and its key: without access, where
 * nothing else is. Behind it lies an empty one, for smaps is read ahead by one entry.
 *
 * The second mapping loses what somebody else's userfaultfd does with the first, or that would
 * be told of it. So the kernel is asked before whether there is one: nobody else may register
 * the same pages.
 */
#include "lib/vmflags.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/newer.h"
#include "common/util.h"
#include "lib/real.h"

#define OF_MAPS (VMA_READ | VMA_WRITE | VMA_EXEC | VMA_SHARED)
#define LOWEST	VMFLAGS_PLACE
#define AT_ONCE 512 /* bytes, less than an entry */

static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	int fd = (int)real.syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY), err;

	if (fd < 0)
		return -errno;
	if (real.ioctl(fd, UFFDIO_API, &api) == 0)
		return fd;
	err = -errno;
	real.close(fd);
	return err;
}

/* Nothing is protected by that, and no page is touched. 1: by somebody. */
static int is_watched(int uffd, uintptr_t addr)
{
	struct uffdio_register reg = { .range = { addr, page_size() },
				       .mode = UFFDIO_REGISTER_MODE_WP };

	if (real.ioctl(uffd, UFFDIO_REGISTER, &reg) == 0)
		return real.ioctl(uffd, UFFDIO_UNREGISTER, &reg.range) < 0 ? -errno : 0;
	if (errno == EPERM) /* it can never be written to: nobody may */
		return 0;
	return errno == EBUSY ? 1 : -errno;
}

static int map_lowest(char **ret)
{
	char *p = real.mmap((void *)LOWEST, VMFLAGS_PAGES * page_size(), PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
			    -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	if (p == (char *)LOWEST)
		return 0;
	real.munmap(p, VMFLAGS_PAGES * page_size()); /* a kernel that takes it for a hint */
	return -EEXIST;
}

static int map_again(uintptr_t addr, char *to)
{
	const size_t page = page_size();
	void *again = real.mremap((void *)addr, 0, page, MREMAP_MAYMOVE, NULL);
	int err;

	if (again == MAP_FAILED)
		return -errno;
	if (real.mprotect(again, page, PROT_NONE) == 0 &&
	    real.mremap(again, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED)
		return 0;
	err = -errno;
	real.munmap(again, page);
	return err;
}

static int read_entry(char *text)
{
	size_t have = 0;
	const char *last;
	ssize_t n;
	int fd, err = -EPROTO;

	fd = open(VMAS_SMAPS, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (err && have + AT_ONCE < VMFLAGS_TEXT) {
		n = real.read(fd, text + have, AT_ONCE);
		if (n <= 0)
			break;
		have += (size_t)n;
		text[have] = '\0';
		last = strstr(text, "\nVmFlags:");
		if (last && strchr(last + 1, '\n'))
			err = 0;
	}
	real.close(fd);
	return err;
}

/* All lines up to the one with the flags. */
static int parse_entry(char *text, struct vma *ret)
{
	const char *path;
	char *line, *nl;

	nl = strchr(text, '\n');
	if (!nl)
		return -EPROTO;
	*nl = '\0';
	if (!vma_parse_header(text, ret, &path))
		return -EPROTO;
	for (line = nl + 1; (nl = strchr(line, '\n')); line = nl + 1) {
		*nl = '\0';
		vma_parse_detail(line, ret);
		if (!strncmp(line, "VmFlags:", 8))
			return 0;
	}
	return -EPROTO;
}

static bool is_copy_of(const struct vma *copy, const struct vma *v)
{
	return copy->start == LOWEST && copy->dev == v->dev && copy->ino == v->ino &&
	       copy->off == v->off && copy->flags & VMA_SHARED;
}

int vmflags_add(struct vmflags *f, struct vma *v)
{
	struct vma copy = { 0 };
	int watched, err;
	char *low;

	if (!(v->flags & VMA_SHARED)) /* mremap() would say so in the kernel's log */
		return -EINVAL;
	if (prctl(PR_GET_SECCOMP) != 0) /* which may end whoever asks for a userfaultfd */
		return -EPERM;
	if (f->uffd < 0)
		f->uffd = open_uffd();
	if (f->uffd < 0)
		return f->uffd;
	watched = is_watched(f->uffd, v->start);
	if (watched) {
		v->flags |= watched > 0 ? VMA_UFFD : 0;
		return MIN(watched, 0);
	}
	err = map_lowest(&low);
	if (err)
		return err;
	err = map_again(v->start, low);
	if (!err)
		err = read_entry(f->text);
	real.munmap(low, VMFLAGS_PAGES * page_size());
	if (!err)
		err = parse_entry(f->text, &copy);
	if (!err && !is_copy_of(&copy, v))
		err = -ESTALE;
	if (err)
		return err;
	v->flags |= copy.flags & ~OF_MAPS;
	v->pkey = copy.pkey;
	return 0;
}

static int find_each(const struct vma *v, const char *path, void *arg)
{
	struct vma *found = arg;

	(void)path;
	if (v->end <= found->start)
		return 0;
	if (v->start > found->start || v->dev != found->dev || v->ino != found->ino)
		return -ESTALE;
	found->flags |= v->flags & ~OF_MAPS;
	found->pkey = v->pkey;
	return 1;
}

int vmflags_find(struct vmflags *f, struct vma *v, char *buf, size_t size)
{
	int err = vmflags_add(f, v);

	if (err || v->flags & VMA_UFFD) /* that is all that is known then */
		err = vmas_scan(VMAS_SMAPS, buf, size, find_each, v, NULL);
	return MIN(err, 0);
}

void vmflags_end(struct vmflags *f)
{
	if (f->uffd >= 0)
		real.close(f->uffd);
	f->uffd = -1;
}
