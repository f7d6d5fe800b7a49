/* SPDX-License-Identifier: MIT */
#include "lib/unseal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ledger.h"
#include "common/newer.h"
#include "lib/ownfd.h"
#include "lib/real.h"

bool segment_sealed(const struct segment *s)
{
	const int seals = fcntl(s->memfd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_WRITE);
}

bool segment_in_force(const struct segment *s)
{
	return s->areas || s->joined || !segment_sealed(s);
}

static int make_memory(struct inode_key key, uint64_t len)
{
	char name[96];
	int fd;

	snprintf(name, sizeof(name), MEMFD_NAME, key.dev, key.ino);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* All of it, so that copying cannot meet want of memory, which is SIGBUS. */
	if (fallocate(fd, 0, 0, (off_t)len) < 0 || fchmod(fd, 0600) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		int err = -errno;

		real.close(fd);
		return err;
	}
	return fd;
}

/* Not by write(): RLIMIT_FSIZE is about the program's own writes. A read-only description can
 * still be mapped. */
static int copy_memory(const struct segment *s, int to)
{
	char name[64];
	void *src, *dst;
	int fd, err = 0;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", s->memfd);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	src = real.mmap(NULL, s->len, PROT_READ, MAP_SHARED, fd, 0);
	dst = real.mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
	if (src == MAP_FAILED || dst == MAP_FAILED)
		err = -errno;
	else
		memcpy(dst, src, s->len);
	if (src != MAP_FAILED)
		real.munmap(src, s->len);
	if (dst != MAP_FAILED)
		real.munmap(dst, s->len);
	real.close(fd);
	return err;
}

int segment_unseal(struct segment *s)
{
	int fd = make_memory(s->key, s->len), err;

	if (fd < 0)
		return fd;
	err = copy_memory(s, fd);
	if (err) {
		real.close(fd);
		return err;
	}
	fd = ownfd_adopt(fd);
	if (fd < 0)
		return fd;
	ownfd_close(s->origin);
	s->origin = s->memfd;
	s->memfd = fd;
	return 0;
}

void segment_goes_on_in(struct segment *s, int memfd)
{
	if (!segment_sealed(s)) {
		real.close(memfd); /* the same memory */
		return;
	}
	ownfd_close(s->memfd);
	s->memfd = ownfd_adopt_anyhow(memfd);
}
