/* SPDX-License-Identifier: MIT */
/* A segment's two memfds: the memory that takes the file's place, and its ledger. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/newer.h"
#include "common/probe.h"
#include "keeper/keeper.h"
#include "keeper/outsiders.h"

/* Named for fuser's and /proc readers' sake. Its size cannot change any more, so that no client
 * can pull pages from under our mapping; and no other user may open it. */
static int make_memfd(const struct stage *s, const char *what, uint64_t size)
{
	cleanup_fd int fd = -1;
	char name[96];

	snprintf(name, sizeof(name), MEMFD_NAME "%s", s->key.dev, s->key.ino, what);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fchmod(fd, 0600) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* A mapping from a read-only description is no writer in the eyes of F_SEAL_WRITE. */
static int map_read_only(int memfd, uint64_t len, const unsigned char **ret)
{
	cleanup_fd int fd = -1;
	char path[64];
	void *p;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

static int make_ledger(struct segment *g)
{
	const uint64_t pages = g->len / page_size();
	struct ledger_header *l;
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return -EAGAIN;
	g->ledger_fd = make_memfd(g->stage, ":ledger", ledger_size(pages));
	if (g->ledger_fd < 0)
		return g->ledger_fd;
	l = mmap(NULL, ledger_size(pages), PROT_READ | PROT_WRITE, MAP_SHARED, g->ledger_fd, 0);
	if (l == MAP_FAILED)
		return -errno;
	*l = (struct ledger_header){ .magic = LEDGER_MAGIC,
				     .version = LEDGER_VERSION,
				     .page = (uint32_t)page_size(),
				     .pages = pages,
				     .seed = seed,
				     .key = g->stage->key,
				     .off = g->off,
				     .len = g->len,
				     .state = SEGMENT_FILLING };
	g->ledger = l;
	g->ledger_size = ledger_size(pages);
	return 0;
}

int segment_create(struct stage *s, uint64_t off, uint64_t len, struct segment **ret)
{
	struct segment *g = xcalloc(1, sizeof(*g));
	int err;

	g->stage = s;
	g->off = off;
	g->len = len;
	g->ledger_fd = -1;
	g->memfd = make_memfd(s, "", len);
	err = g->memfd < 0 ? g->memfd : map_read_only(g->memfd, len, &g->mem);
	if (!err)
		err = make_ledger(g);
	if (err) {
		segment_free(g);
		return err;
	}
	segment_is_current(g);
	*ret = g;
	return 0;
}

/* Both came from a client: nothing in them is believed before it was checked. */
static int check_ledger(const struct ledger_header *l, const struct stage *s,
			const struct msg *m, off_t size)
{
	if (l->magic != LEDGER_MAGIC || l->version != LEDGER_VERSION ||
	    l->page != page_size() || inode_key_cmp(l->key, s->key) != 0 || l->off != m->off ||
	    l->len != m->len || l->pages != m->len / page_size() ||
	    (uint64_t)size != ledger_size(m->len / page_size()))
		return -EPROTO;
	return l->state == SEGMENT_LIVE || l->state == SEGMENT_SEALED ? 0 : -EPROTO;
}

/* Of huge pages, a hole that is punched later may be one that none are left for: to read there
 * is SIGBUS, in the next worker again. Where a filter (seccomp) does not let us ask, what the
 * keeper before had is not lost for that. */
static int fixed_size_memfd(int fd, off_t *ret_size)
{
	const int fixed = F_SEAL_SHRINK | F_SEAL_GROW;
	struct statfs sfs;
	struct stat st;
	int seals;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -EBADF;
	if (fstatfs(fd, &sfs) == 0 && sfs.f_type == HUGETLBFS_MAGIC)
		return -EPERM;
	seals = fcntl(fd, F_GET_SEALS); /* -1: no memfd */
	if (seals < 0 || (seals & fixed) != fixed)
		return -EPERM;
	*ret_size = st.st_size;
	return 0;
}

bool segment_has_unflushed(const struct segment *g)
{
	const uint64_t pages = segment_pages(g);
	const uint8_t *flags = segment_flags(g);

	for (uint64_t p = 0; p < pages; p++)
		if (flags[p] & (LEDGER_PENDING | LEDGER_UNKNOWN))
			return true;
	return false;
}

/* The keeper before may have died with an error of the device's that nobody hears again. */
static void doubt_flush(struct segment *g)
{
	const uint64_t pages = segment_pages(g);
	uint8_t *flags = segment_flags(g);

	for (uint64_t p = 0; p < pages && g->ledger->flushing; p++)
		if (flags[p] & LEDGER_PENDING)
			flags[p] = LEDGER_UNKNOWN;
	g->ledger->flushing = 0;
}

static uint64_t memory_of(const struct segment *g)
{
	struct stat st;

	return fstat(g->memfd, &st) == 0 ? st.st_ino : 0;
}

void segment_is_current(struct segment *g)
{
	if (g->state != SEGMENT_SEALED)
		g->ledger->memory = memory_of(g);
}

bool segment_is_superseded(const struct segment *g)
{
	return g->state == SEGMENT_SEALED && g->ledger->memory &&
	       g->ledger->memory != memory_of(g);
}

int segment_part_ledger(struct segment *g)
{
	void *own = mmap(NULL, g->ledger_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_NORESERVE, g->ledger_fd, 0);

	if (own == MAP_FAILED)
		return -errno;
	munmap(g->ledger, g->ledger_size);
	g->ledger = own;
	g->parted = true;
	return 0;
}

int segment_share_ledger(struct segment *g)
{
	void *shared;

	if (!g->parted)
		return 0;
	shared =
		mmap(NULL, g->ledger_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->ledger_fd, 0);
	if (shared == MAP_FAILED)
		return -errno;
	memcpy(shared, g->ledger, g->ledger_size);
	munmap(g->ledger, g->ledger_size);
	g->ledger = shared;
	g->parted = false;
	return 0;
}

int segment_adopt(struct stage *s, const struct msg *m, int memfd, int ledger,
		  struct segment **ret)
{
	struct segment *g = xcalloc(1, sizeof(*g));
	off_t mem_size, size = 0;
	int err;

	g->stage = s;
	g->off = m->off;
	g->len = m->len;
	g->memfd = fcntl(memfd, F_DUPFD_CLOEXEC, 3);
	g->ledger_fd = fcntl(ledger, F_DUPFD_CLOEXEC, 3);
	err = fixed_size_memfd(memfd, &mem_size);
	if (!err)
		err = fixed_size_memfd(ledger, &size);
	if (!err && ((m->off | m->len) % page_size() || (uint64_t)mem_size != m->len ||
		     m->off > (uint64_t)INT64_MAX - m->len ||
		     (uint64_t)size < sizeof(struct ledger_header)))
		err = -EPROTO;
	if (!err) {
		void *l = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
			       g->ledger_fd, 0);

		g->ledger = l == MAP_FAILED ? NULL : l;
		g->ledger_size = (size_t)size;
		err = g->ledger ? check_ledger(g->ledger, s, m, size) : -ENOMEM;
	}
	if (!err)
		err = map_read_only(g->memfd, g->len, &g->mem);
	if (err) {
		segment_free(g);
		return err;
	}
	/* The kernel's word. The keeper before may have died with the seal set and not noted.
	 */
	g->state = fcntl(g->memfd, F_GET_SEALS) & F_SEAL_WRITE ? SEGMENT_SEALED : SEGMENT_LIVE;
	g->ledger->state = g->state;
	doubt_flush(g);
	err = g->state == SEGMENT_LIVE ? words_go_on(g) : 0;
	if (err) {
		segment_free(g);
		return err;
	}
	/* The keeper before may have been told that the device fails. */
	if (segment_has_unflushed(g))
		s->unflushed = true;
	PROBE(takeover, s->key.ino, g->off, g->len, (int)g->state);
	*ret = g;
	return 0;
}

int segment_map_origin(const struct segment *g, int fd, const unsigned char **ret)
{
	struct stat st;
	off_t size;
	int err = fixed_size_memfd(fd, &size);

	*ret = NULL;
	if (err)
		return err;
	if ((uint64_t)size != g->len || !(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) ||
	    fstat(fd, &st) < 0)
		return -EPROTO;
	if (!g->ledger->memory || g->ledger->memory == st.st_ino ||
	    g->ledger->memory == memory_of(g)) /* whose answer was lost */
		return 0;
	return map_read_only(fd, g->len, ret);
}

bool same_inode(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

int segment_copy_memory(const struct segment *g, int *ret_fd, const unsigned char **ret_mem)
{
	const unsigned char *mem = NULL;
	uint64_t at = 0;
	int fd, err;
	ssize_t n;

	fd = make_memfd(g->stage, "", g->len);
	err = fd < 0 ? fd : map_read_only(fd, g->len, &mem);
	while (!err && at < g->len) {
		n = pwrite(fd, g->mem + at, MIN(g->len - at, 1UL << 20), (off_t)at);
		err = n <= 0 ? -ENOSPC : 0;
		at += n > 0 ? (uint64_t)n : 0;
	}
	if (err) {
		if (mem)
			munmap((void *)(uintptr_t)mem, g->len);
		if (fd >= 0)
			close(fd);
		return err;
	}
	*ret_fd = fd;
	*ret_mem = mem;
	return 0;
}

void segment_take_memory(struct segment *g, int fd, const unsigned char *mem)
{
	munmap((void *)(uintptr_t)g->mem, g->len);
	close(g->memfd);
	g->memfd = fd;
	g->mem = mem;
	g->replaced = true;
}

void stage_close(struct stage *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->aside > 0)
		close(s->aside);
	s->fd = -1;
	s->aside = 0;
}

bool stage_is_filling(const struct stage *s)
{
	const struct segment *g;

	LIST_FOREACH(g, &s->segments, link)
		if (g->state == SEGMENT_FILLING)
			return true;
	return false;
}

/* Pages that we map count as ours when the kernel looks for whom to kill for memory; and we are
 * the last that it should choose. */
void segment_unpopulate(struct segment *g)
{
	(void)madvise((void *)(uintptr_t)g->mem, g->len, MADV_DONTNEED);
}

void segment_unmap(struct segment *g)
{
	if (g->mem)
		munmap((void *)(uintptr_t)g->mem, g->len);
	g->mem = NULL;
}

void segment_free(struct segment *g)
{
	segment_unmap(g);
	if (g->ledger)
		munmap(g->ledger, g->ledger_size);
	if (g->memfd >= 0)
		close(g->memfd);
	if (g->ledger_fd >= 0)
		close(g->ledger_fd);
	free(g->stayed);
	free(g);
}
