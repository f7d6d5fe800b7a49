/* SPDX-License-Identifier: MIT */
/* links: shim/keeper/words.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/segment.c shim/common/proto.c shim/common/sys.c */
/* What a client hands to a new keeper may be anything. */
#include "unit.h"

#include <sys/syscall.h>
#include <sys/vfs.h>

#include "keeper_parts.h"

#ifndef F_ADD_SEALS
#include <linux/fcntl.h>
#endif

static const struct inode_key key = { 0xfe01, 1835021 };

static struct stage stage = { .key = { 0xfe01, 1835021 }, .fd = -1 };

static size_t page;
static unsigned fds;
static bool statfs_denied;

int fstatfs(int fd, struct statfs *ret)
{
	if (!statfs_denied)
		return (int)syscall(SYS_fstatfs, fd, ret);
	errno = EPERM;
	return -1;
}

static int before(void **state)
{
	(void)state;
	page = page_size();
	fds = open_fds();
	return 0;
}

static int after(void **state)
{
	(void)state;
	assert_int_equal(open_fds(), fds);
	return 0;
}

/* A segment as the keeper before made it, and what a client says of it. */
static struct segment *old_one(uint64_t off, uint64_t pages, struct msg *m)
{
	struct segment *g = NULL;

	assert_int_equal(segment_create(&stage, off, pages * page, &g), 0);
	g->state = g->ledger->state = SEGMENT_LIVE;
	msg_init(m, MSG_ATTACH);
	m->key = key;
	m->off = off;
	m->len = pages * page;
	return g;
}

static void create__sealed_in_size_and_private(void **state)
{
	static const struct {
		uint64_t off, pages;
	} row[] = { { 0, 1 }, { 4096, 5 }, { 1UL << 40, 300 } };
	struct segment *g;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const uint64_t pages = row[i].pages;
		int fd[2];

		assert_int_equal(segment_create(&stage, row[i].off, pages * page, &g), 0);
		fd[0] = g->memfd;
		fd[1] = g->ledger_fd;
		for (int k = 0; k < 2; k++) {
			assert_true(fcntl(fd[k], F_GETFD) & FD_CLOEXEC);
			assert_int_equal(fcntl(fd[k], F_GET_SEALS) &
						 (F_SEAL_SHRINK | F_SEAL_GROW),
					 F_SEAL_SHRINK | F_SEAL_GROW);
			assert_int_equal(
				fcntl(fd[k], F_GET_SEALS) & (F_SEAL_SEAL | F_SEAL_WRITE), 0);
			assert_int_equal(fstat(fd[k], &st), 0);
			assert_int_equal(st.st_mode & 0777, 0600);
			assert_int_equal(st.st_size, k ? ledger_size(pages) : pages * page);
			assert_int_equal(ftruncate(fd[k], 0), -1);
		}
		assert_int_equal(g->state, SEGMENT_FILLING);
		assert_int_equal(g->ledger->magic, LEDGER_MAGIC);
		assert_int_equal(g->ledger->pages, pages);
		assert_int_equal(g->ledger->off, row[i].off);
		assert_int_equal(g->ledger->len, pages * page);
		assert_int_equal(g->ledger->state, SEGMENT_FILLING);
		assert_int_equal(inode_key_cmp(g->ledger->key, key), 0);
		assert_true((unsigned char *)(segment_flags(g) + pages) <=
			    (unsigned char *)g->ledger + g->ledger_size);
		segment_free(g);
	}
}

static void create__seeds_differ(void **state)
{
	struct segment *a, *b;

	(void)state;
	assert_int_equal(segment_create(&stage, 0, page, &a), 0);
	assert_int_equal(segment_create(&stage, 0, page, &b), 0);
	assert_true(a->ledger->seed != b->ledger->seed);
	assert_false(same_inode(a->memfd, b->memfd));
	assert_true(same_inode(a->memfd, a->memfd));
	segment_free(a);
	segment_free(b);
}

/* The keeper's own mapping is no obstacle for the last word, a client's is. */
static void create__can_be_sealed_by_its_keeper(void **state)
{
	struct segment *g;
	void *p;

	(void)state;
	assert_int_equal(segment_create(&stage, 0, 4 * page, &g), 0);
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	assert_true(p != MAP_FAILED);
	memset(p, 0xaa, page);
	assert_int_equal(g->mem[page - 1], 0xaa);
	assert_int_equal(fcntl(g->memfd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EBUSY);
	munmap(p, page);
	assert_int_equal(fcntl(g->memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	segment_free(g);
}

static void create__too_much(void **state)
{
	struct segment *g = NULL;

	(void)state;
	assert_true(segment_create(&stage, 0, UINT64_MAX - page + 1, &g) < 0);
	assert_true(segment_create(&stage, 0, 1UL << 62, &g) < 0);
	assert_null(g);
}

static void adopt__what_another_keeper_had(void **state)
{
	struct segment *old, *g = NULL;
	struct msg m;
	void *p;

	(void)state;
	old = old_one(7 * page, 5, &m);
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, old->memfd, 0);
	memset(p, 0xaa, page);
	segment_flags(old)[3] = LEDGER_UNKNOWN;
	assert_int_equal(segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g), 0);
	assert_true(same_inode(g->memfd, old->memfd));
	assert_ptr_equal(g->stage, &stage);
	assert_int_equal(g->state, SEGMENT_LIVE);
	assert_int_equal(g->off, 7 * page);
	assert_int_equal(g->len, 5 * page);
	segment_free(old); /* it has descriptors of its own */
	assert_int_equal(g->mem[17], 0xaa);
	assert_int_equal(segment_flags(g)[3], LEDGER_UNKNOWN);
	segment_flags(g)[3] = 0;
	munmap(p, page);
	assert_int_equal(fcntl(g->memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	segment_free(g);
}

static void refused_with(const struct msg *m, int memfd, int ledger, const char *what)
{
	const unsigned open = open_fds();
	struct segment *g = NULL;
	int err = segment_adopt(&stage, m, memfd, ledger, &g);

	if (err >= 0 || g)
		fail_msg("taken: %s", what);
	assert_int_equal(open_fds(), open);
}

static void adopt__header_that_is_wrong(void **state)
{
	static const struct {
		const char *what;
		size_t at, size;
		uint64_t value;
	} row[] = {
#define FIELD(member, value)                                            \
	{ #member " = " #value, offsetof(struct ledger_header, member), \
	  sizeof(((struct ledger_header *)0)->member), value }
		FIELD(magic, 0),
		FIELD(magic, LEDGER_MAGIC + 1),
		FIELD(version, 0),
		FIELD(version, LEDGER_VERSION + 1),
		FIELD(page, 0),
		FIELD(page, 1),
		FIELD(page, 512),
		FIELD(page, 8192),
		FIELD(page, UINT32_MAX),
		FIELD(pages, 0),
		FIELD(pages, 4),
		FIELD(pages, 6),
		FIELD(pages, UINT64_MAX),
		FIELD(pages, 1UL << 60),
		FIELD(key.dev, 0),
		FIELD(key.ino, 1),
		FIELD(off, 0),
		FIELD(off, UINT64_MAX),
		FIELD(len, 0),
		FIELD(len, 4096),
		FIELD(len, UINT64_MAX),
		FIELD(state, SEGMENT_FILLING),
		FIELD(state, SEGMENT_SEALED + 1),
		FIELD(state, UINT32_MAX),
	};
	struct segment *old;
	struct msg m;

	(void)state;
	old = old_one(7 * page, 5, &m);
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct ledger_header good = *old->ledger;

		memcpy((char *)old->ledger + row[i].at, &row[i].value, row[i].size);
		refused_with(&m, old->memfd, old->ledger_fd, row[i].what);
		*old->ledger = good;
	}
	segment_free(old);
}

/* The message and the ledger agree, and yet it cannot be. */
static void adopt__range_that_is_wrong(void **state)
{
	const struct {
		uint64_t off, len;
	} row[] = {
		{ 1, 5 * page },
		{ 7 * page + 512, 5 * page },
		{ UINT64_MAX - page + 1, 5 * page },
		{ UINT64_MAX - 5 * page + 1, 5 * page }, /* ends at 2^64 */
		{ (1UL << 63) - 2 * page, 5 * page },	 /* no file is that long */
		{ 1UL << 63, 5 * page },
		{ 7 * page, 0 },
		{ 7 * page, 4 * page },
		{ 7 * page, 6 * page },
		{ 7 * page, 5 * page + 1 },
		{ 7 * page, UINT64_MAX },
		{ 7 * page, UINT64_MAX - page + 1 },
	};
	struct segment *old;
	struct msg m;
	char what[64];

	(void)state;
	old = old_one(7 * page, 5, &m);
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		m.off = old->ledger->off = row[i].off;
		m.len = old->ledger->len = row[i].len;
		old->ledger->pages = row[i].len / page;
		snprintf(what, sizeof(what), "%#lx+%#lx", row[i].off, row[i].len);
		refused_with(&m, old->memfd, old->ledger_fd, what);
		old->ledger->pages = 5;
		refused_with(&m, old->memfd, old->ledger_fd, what);
	}
	segment_free(old);
}

static int sealed_copy(int from, int seals, off_t size)
{
	int fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char buf[4096];
	ssize_t n;

	assert_true(fd >= 0);
	for (off_t at = 0; (n = pread(from, buf, sizeof(buf), at)) > 0 && at < size; at += n)
		assert_int_equal(pwrite(fd, buf, (size_t)n, at), n);
	assert_int_equal(ftruncate(fd, size), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

/* Memory that could be cut off under the keeper's mapping. */
static void adopt__size_not_sealed(void **state)
{
	static const int seals[] = { 0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE };
	struct segment *old, *g;
	struct msg m;
	int fd;

	(void)state;
	old = old_one(7 * page, 5, &m);
	for (size_t i = 0; i < sizeof(seals) / sizeof(seals[0]); i++) {
		fd = sealed_copy(old->memfd, seals[i], size_of(old->memfd));
		refused_with(&m, fd, old->ledger_fd, "memory");
		close(fd);
		fd = sealed_copy(old->ledger_fd, seals[i], size_of(old->ledger_fd));
		refused_with(&m, old->memfd, fd, "ledger");
		close(fd);
	}
	/* The seals are all that was missing. */
	fd = sealed_copy(old->memfd, F_SEAL_SHRINK | F_SEAL_GROW, size_of(old->memfd));
	assert_int_equal(segment_adopt(&stage, &m, fd, old->ledger_fd, &g), 0);
	segment_free(g);
	close(fd);
	segment_free(old);
}

/* Memory of which pages could be taken away so that there are none to replace them. */
static void adopt__huge_pages(void **state)
{
	const uint64_t size = 2UL << 20;
	struct segment *old, *g = NULL;
	struct msg m;
	int fd;

	(void)state;
	fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB |
					  (21U << 26)); /* of 2 MiB */
	if (fd < 0)
		skip();
	old = old_one(0, size / page, &m);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(segment_adopt(&stage, &m, fd, old->ledger_fd, &g), -EPERM);
	assert_null(g);
	close(fd);
	segment_free(old);
}

/* By a worker that a filter (seccomp) does not let ask what kind of memory it is. */
static void adopt__not_to_be_asked(void **state)
{
	struct segment *old, *g = NULL;
	struct msg m;

	(void)state;
	old = old_one(0, 4, &m);
	statfs_denied = true;
	assert_int_equal(segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g), 0);
	statfs_denied = false;
	segment_free(g);
	segment_free(old);
}

/* It has no seals at all: the answer to the question is an error, not a set of seals. */
static void adopt__not_memfds(void **state)
{
	const int other[] = { unnamed_file(), open("/dev/zero", O_RDWR | O_CLOEXEC),
			      open("/", O_RDONLY | O_CLOEXEC) };
	struct segment *old;
	char buf[4096];
	struct msg m;

	(void)state;
	old = old_one(7 * page, 5, &m);
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		if (i == 0)
			assert_int_equal(ftruncate(other[0], size_of(old->memfd)), 0);
		refused_with(&m, other[i], old->ledger_fd, "memory");
		if (i == 0) {
			assert_int_equal(ftruncate(other[0], size_of(old->ledger_fd)), 0);
			for (off_t at = 0; at < size_of(old->ledger_fd); at += sizeof(buf)) {
				assert_int_equal(pread(old->ledger_fd, buf, sizeof(buf), at),
						 sizeof(buf));
				assert_int_equal(pwrite(other[0], buf, sizeof(buf), at),
						 sizeof(buf));
			}
		}
		refused_with(&m, old->memfd, other[i], "ledger");
		close(other[i]);
	}
	refused_with(&m, -1, old->ledger_fd, "no memory");
	refused_with(&m, old->memfd, -1, "no ledger");
	refused_with(&m, -1, -1, "nothing");
	segment_free(old);
}

static void adopt__wrong_size(void **state)
{
	const int fixed = F_SEAL_SHRINK | F_SEAL_GROW;
	struct segment *old;
	struct msg m;
	int fd;

	(void)state;
	old = old_one(7 * page, 5, &m);
	for (off_t size = 0; size <= (off_t)(7 * page); size += 1024) {
		if (size != size_of(old->memfd)) {
			fd = sealed_copy(old->memfd, fixed, size);
			refused_with(&m, fd, old->ledger_fd, "memory");
			close(fd);
		}
		if (size != size_of(old->ledger_fd)) {
			fd = sealed_copy(old->ledger_fd, fixed, size);
			refused_with(&m, old->memfd, fd, "ledger");
			close(fd);
		}
	}
	fd = sealed_copy(old->ledger_fd, fixed, 100);
	refused_with(&m, old->memfd, fd, "less than a header");
	close(fd);
	segment_free(old);
}

static void adopt__ledger_that_cannot_be_written(void **state)
{
	struct segment *old;
	char path[64];
	struct msg m;
	int fd;

	(void)state;
	old = old_one(7 * page, 5, &m);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", old->ledger_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	refused_with(&m, old->memfd, fd, "open for reading only");
	close(fd);
	fd = sealed_copy(old->ledger_fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
			 size_of(old->ledger_fd));
	refused_with(&m, old->memfd, fd, "sealed");
	close(fd);
	segment_free(old);
}

static void adopt__sealed_one(void **state)
{
	struct segment *old, *g;
	struct msg m;

	(void)state;
	old = old_one(0, 3, &m);
	assert_int_equal(fcntl(old->memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	old->ledger->state = SEGMENT_SEALED;
	assert_int_equal(segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g), 0);
	assert_int_equal(g->state, SEGMENT_SEALED);
	segment_free(g);
	segment_free(old);
}

/* Sealed memory of which the content went on elsewhere, with the same ledger, is known as that;
 * memory that can be stored to is the last one, whatever the ledger says. */
static void adopt__superseded(void **state)
{
	struct segment *old, *g;
	struct msg m;
	int next;

	(void)state;
	old = old_one(0, 3, &m);
	next = sealed_copy(old->memfd, F_SEAL_SHRINK | F_SEAL_GROW, size_of(old->memfd));
	assert_int_equal(fcntl(old->memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g), 0);
	assert_false(segment_is_superseded(g));
	segment_free(g);
	assert_int_equal(segment_adopt(&stage, &m, next, old->ledger_fd, &g), 0);
	assert_false(segment_is_superseded(g));
	segment_is_current(g);
	segment_free(g);
	assert_int_equal(segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g), 0);
	assert_true(segment_is_superseded(g));
	segment_is_current(g); /* it is not */
	assert_true(segment_is_superseded(g));
	segment_free(g);
	assert_int_equal(fcntl(next, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(segment_adopt(&stage, &m, next, old->ledger_fd, &g), 0);
	assert_false(segment_is_superseded(g));
	segment_free(g);
	segment_free(old);
	close(next);
}

/* Of one who died over fdatasync() nobody knows what that said. */
static void adopt__flush_under_way(void **state)
{
	struct segment *old, *g;
	struct msg m;

	(void)state;
	for (unsigned under_way = 0; under_way < 2; under_way++) {
		old = old_one(0, 3, &m);
		segment_flags(old)[1] = LEDGER_PENDING;
		old->ledger->flushing = under_way;
		assert_int_equal(segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g), 0);
		assert_int_equal(segment_flags(g)[0], 0);
		assert_int_equal(segment_flags(g)[1],
				 under_way ? LEDGER_UNKNOWN : LEDGER_PENDING);
		assert_int_equal(g->ledger->flushing, 0);
		assert_true(stage.unflushed);
		stage.unflushed = false;
		segment_free(g);
		segment_free(old);
	}
}

/* That nothing can change any more is the kernel's word, not the ledger's. */
static void adopt__says_that_it_is_sealed(void **state)
{
	struct segment *old, *g = NULL;
	struct msg m;

	(void)state;
	old = old_one(0, 3, &m);
	old->ledger->state = SEGMENT_SEALED;
	if (segment_adopt(&stage, &m, old->memfd, old->ledger_fd, &g) == 0) {
		assert_int_equal(g->state, SEGMENT_LIVE);
		segment_free(g);
	}
	segment_free(old);
}

static void replace__same_content_not_sealed(void **state)
{
	const unsigned char *mem;
	struct segment *g;
	struct stat st;
	void *p;
	int fd;

	(void)state;
	assert_int_equal(segment_create(&stage, 0, 700 * page, &g), 0);
	p = mmap(NULL, g->len, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	assert_true(p != MAP_FAILED);
	for (size_t i = 0; i < 700; i++)
		memset((char *)p + i * page, (int)(i % 251), page);
	munmap(p, g->len);
	assert_int_equal(fcntl(g->memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(segment_copy_memory(g, &fd, &mem), 0);
	segment_take_memory(g, fd, mem);
	assert_int_equal(fcntl(g->memfd, F_GET_SEALS) & F_SEAL_WRITE, 0);
	assert_int_equal(fcntl(g->memfd, F_GET_SEALS) & (F_SEAL_GROW | F_SEAL_SHRINK),
			 F_SEAL_GROW | F_SEAL_SHRINK);
	assert_int_equal(fstat(g->memfd, &st), 0);
	assert_int_equal(st.st_size, g->len);
	for (size_t i = 0; i < 700; i++)
		assert_int_equal(g->mem[i * page + i], i % 251);
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	assert_true(p != MAP_FAILED);
	*(char *)p = 77;
	assert_int_equal(g->mem[0], 77);
	munmap(p, page);
	segment_free(g);
}

#define T(f) cmocka_unit_test_setup_teardown(f, before, after)

static const struct CMUnitTest tests[] = {
	T(create__sealed_in_size_and_private),
	T(create__seeds_differ),
	T(create__can_be_sealed_by_its_keeper),
	T(create__too_much),
	T(adopt__what_another_keeper_had),
	T(adopt__header_that_is_wrong),
	T(adopt__range_that_is_wrong),
	T(adopt__size_not_sealed),
	T(adopt__huge_pages),
	T(adopt__not_to_be_asked),
	T(adopt__not_memfds),
	T(adopt__wrong_size),
	T(adopt__ledger_that_cannot_be_written),
	T(adopt__sealed_one),
	T(adopt__says_that_it_is_sealed),
	T(adopt__superseded),
	T(adopt__flush_under_way),
	T(replace__same_content_not_sealed),
};

UNIT_MAIN(tests, NULL, NULL)
