/* SPDX-License-Identifier: MIT */
/* links: shim/keeper/engine.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/parts.c shim/keeper/thread.c shim/keeper/aside.c */
/*
 * The sync engine on a real file, with a segment made by hand. pwrite(), fdatasync() and
 * sync_file_range() are ours: they note what is written, and the first two fail when told to.
 */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "keeper/keeper.h"

static size_t page;

/* What the engine has to do with. */
static struct {
	struct stage stage;
	struct segment seg;
	unsigned char *mem; /* as the program sees it */
	uint64_t file_pages, pages;
} t;

static struct {
	off_t off;
	size_t len;
} written[64];

static struct {
	unsigned count;	    /* calls */
	unsigned fail_from; /* the first call that fails; 0: none */
	int error;	    /* how; 0: nothing is written */
	size_t most;	    /* per call */
	void (*before)(unsigned call);
	int sync_error;
	unsigned syncs;
	bool filling;	    /* another segment of the file is */
	unsigned early;	    /* write-outs that are begun before a flush, */
	int early_error;    /* and how they fail */
	void (*turn)(void); /* when it is the engine's to write */
	int turns;	    /* that are its just now */
} io;

void board_begin_read(struct stage *s)
{
	(void)s;
}

void board_end_read(struct stage *s)
{
	(void)s;
}

void board_begin_write(struct stage *s)
{
	(void)s;
	__atomic_add_fetch(&io.turns, 1, __ATOMIC_RELAXED);
	if (io.turn)
		io.turn();
}

void board_end_write(struct stage *s)
{
	(void)s;
	__atomic_sub_fetch(&io.turns, 1, __ATOMIC_RELAXED);
}

bool stage_is_filling(const struct stage *s)
{
	(void)s;
	return io.filling;
}

static ssize_t note_write(int fd, const void *buf, size_t n, off_t off, int how)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n < io.most ? n : io.most };
	const unsigned call = __atomic_add_fetch(&io.count, 1, __ATOMIC_RELAXED);

	assert_true(io.turns > 0);
	if (call <= sizeof(written) / sizeof(written[0])) {
		written[call - 1].off = off;
		written[call - 1].len = n;
	}
	if (io.before)
		io.before(call);
	if (io.fail_from && call >= io.fail_from) {
		if (io.error == EINTR) /* once */
			io.fail_from = 0;
		errno = io.error;
		return io.error ? -1 : 0;
	}
	return syscall(SYS_pwritev2, fd, &iov, 1ul, off, 0ul, how);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	return note_write(fd, buf, n, off, 0);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int how)
{
	assert_int_equal(n, 1);
	return note_write(fd, iov->iov_base, iov->iov_len, off, how);
}

int fdatasync(int fd)
{
	(void)fd;
	io.syncs++;
	errno = io.sync_error;
	return io.sync_error ? -1 : 0;
}

int sync_file_range(int fd, off_t off, off_t len, unsigned flags)
{
	assert_int_equal(fd, t.stage.fd);
	assert_int_equal(flags, SYNC_FILE_RANGE_WRITE); /* nothing is waited for */
	assert_true((uint64_t)off >= t.seg.off && (uint64_t)len <= t.seg.len);
	io.early++;
	errno = io.early_error;
	return io.early_error ? -1 : 0;
}

static void quiet(void)
{
	memset(&io, 0, sizeof(io));
	memset(written, 0, sizeof(written));
	io.most = SIZE_MAX;
}

static unsigned char *page_of(uint64_t p)
{
	return t.mem + p * page;
}

static void change(uint64_t p, int c)
{
	memset(page_of(p), c, page);
}

static struct ledger_base digest_of(const void *data)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(data, page, t.seg.ledger->seed);

	return (struct ledger_base){ h.low64, h.high64 };
}

static bool base_is(uint64_t p, const void *data)
{
	struct ledger_base want = digest_of(data), *have = &ledger_bases(t.seg.ledger)[p];

	return have->lo == want.lo && have->hi == want.hi;
}

static uint8_t *flag(uint64_t p)
{
	return &segment_flags(&t.seg)[p];
}

/* A file of so many pages, each of them different, and a segment of it that agrees with it. */
static void begin(uint64_t file_pages, uint64_t first, uint64_t pages)
{
	struct segment *g = &t.seg;
	void *ro;

	memset(&t, 0, sizeof(t));
	t.file_pages = file_pages;
	t.pages = pages;
	t.stage.fd = unnamed_file();
	for (uint64_t p = 0; p < file_pages; p++) {
		unsigned char buf[65536];

		memset(buf, (int)(p % 200) + 1, page);
		assert_int_equal(syscall(SYS_pwrite64, t.stage.fd, buf, page, p * page), page);
	}
	g->stage = &t.stage;
	g->off = first * page;
	g->len = pages * page;
	g->state = SEGMENT_LIVE;
	g->memfd = memfd_create("unit", MFD_CLOEXEC);
	assert_int_equal(ftruncate(g->memfd, (off_t)g->len), 0);
	t.mem = mmap(NULL, g->len, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	ro = mmap(NULL, g->len, PROT_READ, MAP_SHARED, g->memfd, 0);
	assert_true(t.mem != MAP_FAILED && ro != MAP_FAILED);
	g->mem = ro;
	g->ledger_size = ledger_size(pages);
	g->ledger = mmap(NULL, g->ledger_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(g->ledger != MAP_FAILED);
	*g->ledger = (struct ledger_header){ .magic = LEDGER_MAGIC,
					     .version = LEDGER_VERSION,
					     .page = (uint32_t)page,
					     .pages = pages,
					     .seed = 0x1234567890abcdef,
					     .off = g->off,
					     .len = g->len,
					     .state = SEGMENT_LIVE };
	LIST_INIT(&t.stage.segments);
	LIST_INSERT_HEAD(&t.stage.segments, g, link);
	for (uint64_t p = 0; p < pages; p++)
		if (pread(t.stage.fd, page_of(p), page, (off_t)((first + p) * page)) < 0)
			fail();
	engine_record_bases(g);
	quiet();
}

static int end(void **state)
{
	(void)state;
	if (!t.mem)
		return 0;
	munmap(t.mem, t.seg.len);
	munmap((void *)(uintptr_t)t.seg.mem, t.seg.len);
	munmap(t.seg.ledger, t.seg.ledger_size);
	close(t.seg.memfd);
	close(t.stage.fd);
	memset(&t, 0, sizeof(t));
	return 0;
}

static int set_page(void **state)
{
	(void)state;
	page = page_size();
	return page > 65536;
}

static int sync_all(void)
{
	return engine_sync(&t.seg, 0, UINT64_MAX);
}

static uint64_t file_size(void)
{
	struct stat st;

	assert_int_equal(fstat(t.stage.fd, &st), 0);
	return (uint64_t)st.st_size;
}

static const unsigned char *in_file(uint64_t p)
{
	static unsigned char buf[65536];

	memset(buf, 0, sizeof(buf));
	assert_true(pread(t.stage.fd, buf, page, (off_t)(t.seg.off + p * page)) >= 0);
	return buf;
}

static void assert_written(unsigned call, uint64_t first, uint64_t pages)
{
	assert_int_equal(written[call].off, t.seg.off + first * page);
	assert_int_equal(written[call].len, pages * page);
}

static void sync__nothing_changed(void **state)
{
	(void)state;
	begin(20, 4, 10);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 0);
	assert_int_equal(t.seg.dirty, 0);
}

static void sync__only_the_page_that_changed(void **state)
{
	(void)state;
	begin(20, 4, 10);
	page_of(3)[page - 1] ^= 1;
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
	assert_written(0, 3, 1);
	assert_memory_equal(in_file(3), page_of(3), page);
	assert_true(base_is(3, page_of(3)));
	assert_int_equal(*flag(3), LEDGER_PENDING);
	assert_int_equal(*flag(2), 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
}

static void sync__neighbours_in_one_write(void **state)
{
	(void)state;
	begin(20, 4, 10);
	for (uint64_t p = 0; p < 10; p++)
		if (p != 4 && p != 8)
			change(p, 0xaa);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 3);
	assert_written(0, 0, 4);
	assert_written(1, 5, 3);
	assert_written(2, 9, 1);
	for (uint64_t p = 0; p < 10; p++)
		assert_memory_equal(in_file(p), page_of(p), page);
}

/* Writes meet where 256 KiB of the file do, or where the buffer is full. */
static void sync__long_run(void **state)
{
	const uint64_t per_write = (256UL << 10) / page, per_buffer = (1UL << 20) / page;
	uint64_t at = 0, end;

	(void)state;
	begin(2 * per_buffer + 5, 1, 2 * per_buffer + 3);
	for (uint64_t p = 0; p < t.pages; p++)
		change(p, (int)(p % 7) + 0xf0);
	assert_int_equal(sync_all(), 0);
	for (unsigned i = 0; i < io.count; i++, at = end) {
		end = MIN(at + per_write - (1 + at) % per_write, t.pages);
		end = MIN(end, (at / per_buffer + 1) * per_buffer);
		assert_written(i, at, end - at);
	}
	assert_int_equal(at, t.pages);
	for (uint64_t p = 0; p < t.pages; p++)
		assert_memory_equal(in_file(p), page_of(p), page);
}

/* While the rest is looked at; not where what is about to be flushed may be of a folio that
 * reaches into what is being filled: that is remembered first. */
static void sync__early_write_out(void **state)
{
	const uint64_t pages = 3 * ((1UL << 20) / page);

	(void)state;
	begin(pages, 0, pages);
	for (unsigned how = 0; how < 4; how++) {
		quiet();
		t.stage.to_flush = how & 1;
		io.filling = how & 2;
		for (uint64_t p = 0; p < pages; p++)
			change(p, 201 + (int)how);
		assert_int_equal(sync_all(), 0);
		if (how == 1)
			assert_true(io.early > 0);
		else
			assert_int_equal(io.early, 0);
	}
}

/* What the kernel dropped over it is written again, and flushed before it is let go of. */
static void sync__early_write_out_fails(void **state)
{
	const uint64_t pages = 3 * ((1UL << 20) / page);

	(void)state;
	begin(pages, 0, pages);
	t.stage.to_flush = true;
	for (uint64_t p = 0; p < pages; p++)
		change(p, 201);
	io.early_error = EPERM; /* of a filter */
	assert_int_equal(sync_all(), 0);
	assert_false(t.stage.unflushed);
	for (uint64_t p = 0; p < pages; p++)
		change(p, 202);
	io.early_error = ENOSPC;
	assert_int_equal(sync_all(), -ENOSPC);
	assert_int_equal(*flag(0), LEDGER_UNKNOWN);
	assert_true(t.stage.unflushed);
}

static void sync__a_part(void **state)
{
	static const struct {
		uint64_t off, len; /* of the file; the segment is [4, 14) pages */
		uint64_t first, pages;
	} row[] = {
		{ 6 * 4096, 2 * 4096, 2, 2 },
		{ 0, 5 * 4096, 0, 1 },
		{ 0, 4 * 4096, 0, 0 },
		{ 14 * 4096, 4096, 0, 0 },
		{ 13 * 4096, 100 * 4096, 9, 1 },
		{ 6 * 4096 + 1, 1, 2, 1 },
		{ 6 * 4096 + 4095, 2, 2, 2 },
		{ 6 * 4096, 0, 0, 0 },
		{ 0, UINT64_MAX, 0, 10 },
		/* to the end, which is not to come out before the beginning */
		{ 1, UINT64_MAX, 0, 10 },
		{ 6 * 4096, UINT64_MAX, 2, 8 },
		{ 6 * 4096, UINT64_MAX - 4096, 2, 8 },
		{ UINT64_MAX, UINT64_MAX, 0, 0 },
	};

	(void)state;
	if (page != 4096)
		skip();
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		begin(20, 4, 10);
		for (uint64_t p = 0; p < 10; p++)
			change(p, 0xaa);
		assert_int_equal(engine_sync(&t.seg, row[i].off, row[i].len), 0);
		if (io.count != (row[i].pages != 0))
			fail_msg("row %zu: %u writes", i, io.count);
		if (row[i].pages)
			assert_written(0, row[i].first, row[i].pages);
		end(NULL);
	}
}

static void sync__never_grows_the_file(void **state)
{
	(void)state;
	begin(10, 0, 10);
	assert_int_equal(ftruncate(t.stage.fd, (off_t)(9 * page + 100)), 0);
	change(8, 0xaa);
	change(9, 0xbb);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(file_size(), 9 * page + 100);
	assert_int_equal(io.count, 1);
	assert_int_equal(written[0].len, page + 100);
	assert_memory_equal(in_file(9), page_of(9), 100);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
}

static void sync__what_was_cut_off_stays_cut_off(void **state)
{
	static const uint64_t size[] = { 0, 1, 4096, 3 * 4096, 3 * 4096 + 1, 4 * 4096 - 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		begin(10, 2, 8);
		for (uint64_t p = 0; p < 8; p++)
			change(p, 0xaa);
		assert_int_equal(ftruncate(t.stage.fd, (off_t)size[i]), 0);
		assert_int_equal(sync_all(), 0);
		assert_int_equal(file_size(), size[i]);
		end(NULL);
	}
}

static void cut_the_file(unsigned call)
{
	if (call == 1)
		assert_int_equal(ftruncate(t.stage.fd, (off_t)(3 * page)), 0);
}

/* Cut off behind a run that is being written, with another to come. */
static void sync__file_is_cut_meanwhile(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(1, 0xaa);
	change(6, 0xaa);
	change(9, 0xaa);
	io.before = cut_the_file;
	assert_int_equal(sync_all(), 0);
	assert_int_equal(file_size(), 3 * page);
	assert_int_equal(io.count, 1);
}

/* Or between the writes of a long one. */
static void sync__file_is_cut_in_a_long_run(void **state)
{
	const uint64_t per_write = (256UL << 10) / page;

	(void)state;
	begin(4 * per_write, 0, 4 * per_write);
	for (uint64_t p = 0; p < t.pages; p++)
		change(p, 0xaa);
	io.before = cut_the_file;
	assert_int_equal(sync_all(), 0);
	assert_int_equal(file_size(), per_write * page);
	assert_int_equal(io.count, 1);
}

static void cut_before_the_turn(void)
{
	assert_int_equal(ftruncate(t.stage.fd, (off_t)(3 * page)), 0);
}

/* What the length was before it was our turn does not count. */
static void sync__file_is_cut_by_whose_turn_it_was(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(1, 0xaa);
	change(2, 0xaa);
	change(3, 0xaa);
	change(6, 0xaa);
	io.turn = cut_before_the_turn;
	assert_int_equal(sync_all(), 0);
	assert_int_equal(file_size(), 3 * page);
	assert_int_equal(io.turns, 0);
	io.turn = NULL;
	io.fail_from = 1;
	io.error = ENOSPC;
	change(1, 0xbb);
	assert_int_equal(sync_all(), -ENOSPC);
	assert_int_equal(io.turns, 0);
}

static void sync__holes_stay_holes(void **state)
{
	struct stat before, after;

	(void)state;
	begin(0, 0, 64);
	assert_int_equal(ftruncate(t.stage.fd, (off_t)(64 * page)), 0);
	assert_int_equal(fstat(t.stage.fd, &before), 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 0);
	change(40, 0xaa);
	assert_int_equal(sync_all(), 0);
	assert_written(0, 40, 1);
	assert_int_equal(io.count, 1);
	assert_int_equal(fstat(t.stage.fd, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(before.st_blocks, 0);
	assert_true((uint64_t)after.st_blocks * 512 <= 16 * page);
	/* Zeros where there were zeros are no change. */
	change(7, 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
}

static void sync__somebody_elses_changes_stay(void **state)
{
	unsigned char other[65536];

	(void)state;
	begin(10, 0, 10);
	memset(other, 0xee, sizeof(other));
	assert_int_equal(syscall(SYS_pwrite64, t.stage.fd, other, page, 5 * page), page);
	change(4, 0xaa);
	change(6, 0xaa);
	assert_int_equal(sync_all(), 0);
	assert_memory_equal(in_file(5), other, page);
}

static void device_writes(unsigned call)
{
	change(3, 0xb0 + (int)call);
	change(7, 0xb0 + (int)call);
}

/* What is in the file is what the base says, whatever memory says by now. */
static void sync__page_changes_while_it_is_written(void **state)
{
	unsigned char was[65536];

	(void)state;
	begin(10, 0, 10);
	change(3, 0xaa);
	memcpy(was, page_of(3), page);
	io.before = device_writes;
	assert_int_equal(sync_all(), 0);
	assert_memory_equal(in_file(3), was, page);
	assert_true(base_is(3, was));
	io.before = NULL;
	assert_int_equal(sync_all(), 0);
	assert_memory_equal(in_file(3), page_of(3), page);
	assert_memory_equal(in_file(7), page_of(7), page);
}

static atomic_bool stop;

static void *device(void *arg)
{
	uint64_t n = 0;

	(void)arg;
	while (!atomic_load(&stop)) {
		uint64_t p = n * 7 % t.pages;

		for (size_t i = 0; i < page / sizeof(uint64_t); i++)
			__atomic_store_n((uint64_t *)(void *)page_of(p) + i, n,
					 __ATOMIC_RELAXED);
		n++;
	}
	return NULL;
}

static void sync__device_keeps_writing(void **state)
{
	pthread_t thread;

	(void)state;
	begin(40, 3, 32);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, device, NULL), 0);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(sync_all(), 0);
		for (uint64_t p = 0; p < t.pages; p++)
			assert_true(base_is(p, in_file(p)));
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(sync_all(), 0);
	for (uint64_t p = 0; p < t.pages; p++)
		assert_memory_equal(in_file(p), page_of(p), page);
}

static void sync__unknown_base(void **state)
{
	(void)state;
	begin(10, 0, 10);
	*flag(2) = LEDGER_UNKNOWN;
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
	assert_written(0, 2, 1);
	assert_int_equal(*flag(2), LEDGER_PENDING);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
}

/* The program wrote to the file, and to memory the same. */
static bool differs;

static void sync__forgotten_base_and_file_agrees(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(2, 77);
	assert_int_equal(syscall(SYS_pwrite64, t.stage.fd, page_of(2), page, 2 * page), page);
	/* Looked at at once: what others write from here on is theirs. */
	differs = false;
	assert_true(engine_forget_bases(&t.seg, 2 * page, page, &differs));
	assert_false(differs);
	assert_true(base_is(2, page_of(2)));
	assert_int_equal(*flag(2), LEDGER_PENDING);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 0);
	assert_int_equal(*flag(2), LEDGER_PENDING); /* for no fdatasync() has succeeded since */
	io.sync_error = EIO;
	assert_int_equal(engine_flush(&t.stage), -EIO);
	assert_int_equal(sync_all(), 0); /* the kernel may have dropped it */
	assert_written(0, 2, 1);
}

/* Memory went back to what it was; the base says that this is nothing new. */
static void sync__forgotten_base_and_file_differs(void **state)
{
	unsigned char other[65536];

	(void)state;
	begin(10, 0, 10);
	memset(other, 99, page);
	assert_int_equal(syscall(SYS_pwrite64, t.stage.fd, other, page, 2 * page), page);
	differs = false;
	assert_true(engine_forget_bases(&t.seg, 2 * page, 1, &differs));
	assert_true(differs);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
	assert_written(0, 2, 1);
	assert_memory_equal(in_file(2), page_of(2), page);
}

/* What must be written is not made a matter of looking. */
static void sync__forgotten_base_that_was_unknown(void **state)
{
	(void)state;
	begin(10, 0, 10);
	*flag(2) = LEDGER_UNKNOWN;
	engine_forget_bases(&t.seg, 2 * page, page, &differs);
	assert_int_equal(*flag(2), LEDGER_UNKNOWN);
}

/* Written by us and not on the device yet when the program writes there, too: if the device
 * fails then, the page cache looks right and is not. */
static void sync__forgotten_base_that_was_pending(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(2, 77);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(*flag(2), LEDGER_PENDING);
	engine_forget_bases(&t.seg, 2 * page, page, &differs);
	io.sync_error = EIO;
	assert_int_equal(engine_flush(&t.stage), -EIO);
	quiet();
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
	assert_written(0, 2, 1);
}

/* A hole that was punched in the file, and zeroed in memory, stays a hole. */
static void sync__forgotten_base_over_a_hole(void **state)
{
	(void)state;
	begin(10, 0, 10);
	memset(page_of(4), 0, 2 * page);
	assert_int_equal(fallocate(t.stage.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(4 * page), (off_t)(2 * page)),
			 0);
	engine_forget_bases(&t.seg, 4 * page, 2 * page, &differs);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 0);
	assert_int_equal(lseek(t.stage.fd, (off_t)(4 * page), SEEK_DATA), 6 * page);
}

static void sync__short_writes_go_on(void **state)
{
	(void)state;
	begin(10, 1, 8);
	change(2, 0xaa);
	change(3, 0xbb);
	io.most = 1000;
	assert_int_equal(sync_all(), 0);
	assert_true(io.count > 2);
	assert_memory_equal(in_file(2), page_of(2), page);
	assert_memory_equal(in_file(3), page_of(3), page);
}

static void sync__interrupted(void **state)
{
	(void)state;
	begin(10, 1, 8);
	change(2, 0xaa);
	io.fail_from = 1;
	io.error = EINTR;
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 2);
	assert_memory_equal(in_file(2), page_of(2), page);
}

static void sync__no_room(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(1, 0xaa);
	change(4, 0xbb);
	change(7, 0xcc);
	io.fail_from = 2;
	io.error = ENOSPC;
	assert_int_equal(sync_all(), -ENOSPC);
	assert_true(t.seg.dirty >= 2 * page); /* for status to tell */
	assert_memory_equal(in_file(1), page_of(1), page);
	assert_memory_not_equal(in_file(4), page_of(4), page);
	assert_int_equal(*flag(1), LEDGER_PENDING);
	quiet();
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 2);
	assert_written(0, 4, 1);
	assert_written(1, 7, 1);
	assert_int_equal(t.seg.dirty, 0);
}

static void sync__writes_nothing(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(1, 0xaa);
	io.fail_from = 1;
	assert_int_equal(sync_all(), -EIO);
	assert_true(t.seg.dirty > 0);
}

/* The file got some of it before the disk was full. If memory then goes back to what the file
 * had, it agrees with the base, and with the file not at all. */
static void sync__fails_half_way_and_memory_goes_back(void **state)
{
	unsigned char was[65536];

	(void)state;
	for (size_t most = 100; most <= page + 100; most += page) {
		begin(10, 0, 10);
		memcpy(was, page_of(4), page);
		change(4, 0xaa);
		change(5, 0xaa);
		io.most = most;
		io.fail_from = 2;
		io.error = ENOSPC;
		assert_int_equal(sync_all(), -ENOSPC);
		assert_memory_not_equal(in_file(4), was, page);
		memcpy(page_of(4), was, page);
		quiet();
		assert_int_equal(engine_flush(&t.stage), 0);
		assert_int_equal(sync_all(), 0);
		assert_memory_equal(in_file(4), was, page);
		assert_memory_equal(in_file(5), page_of(5), page);
		end(NULL);
	}
}

static void die(unsigned call)
{
	if (call == 2)
		_exit(0);
}

static int dies_while_writing(void *arg)
{
	(void)arg;
	io.most = page;
	io.before = die;
	(void)sync_all();
	return 1;
}

/* The ledger outlives the keeper: it may not say that memory and file agree where it did not
 * see to the end what the file got. */
static void sync__keeper_dies_half_way_and_memory_goes_back(void **state)
{
	unsigned char was[65536];

	(void)state;
	begin(10, 0, 10);
	memcpy(was, page_of(4), page);
	change(4, 0xaa);
	change(5, 0xaa);
	assert_int_equal(in_child(dies_while_writing, NULL), 0);
	assert_memory_equal(in_file(4), page_of(4), page);
	memcpy(page_of(4), was, page);
	assert_int_equal(sync_all(), 0);
	assert_memory_equal(in_file(4), was, page);
	assert_memory_equal(in_file(5), page_of(5), page);
}

static void sync__descriptor_cannot_write(void **state)
{
	const int rw = (begin(10, 0, 10), t.stage.fd);
	char path[64];

	(void)state;
	change(1, 0xaa);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw);
	t.stage.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(t.stage.fd >= 0);
	assert_int_equal(sync_all(), -EBADF);
	close(t.stage.fd);
	assert_int_equal(sync_all(), -EBADF); /* not open at all */
	t.stage.fd = rw;
	assert_int_equal(sync_all(), 0);
	assert_memory_equal(in_file(1), page_of(1), page);
}

/* A description that is the program's, too: where it says, every write goes to the end. */
static void sync__append_mode(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(1, 0xaa);
	assert_int_equal(fcntl(t.stage.fd, F_SETFL, O_APPEND), 0);
	assert_int_equal(sync_all(), -EACCES);
	assert_int_equal(file_size(), 10 * page);
	assert_int_equal(fcntl(t.stage.fd, F_SETFL, 0), 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(file_size(), 10 * page);
	assert_memory_equal(in_file(1), page_of(1), page);
}

static void comes_to_append(void)
{
	assert_int_equal(fcntl(t.stage.fd, F_SETFL, O_APPEND), 0);
}

/* Which it may be in from any moment on, and was not when we looked. */
static void sync__append_mode_meanwhile(void **state)
{
	int err;

	(void)state;
	begin(10, 0, 10);
	change(1, 0xaa);
	io.turn = comes_to_append;
	err = sync_all();
	assert_true(err == 0 || err == -EACCES); /* before Linux 6.9 */
	assert_int_equal(file_size(), 10 * page);
	io.turn = NULL;
	assert_int_equal(fcntl(t.stage.fd, F_SETFL, 0), 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(file_size(), 10 * page);
	assert_memory_equal(in_file(1), page_of(1), page);
}

static int file_size_limited(void *arg)
{
	const struct rlimit limit = { 5 * page, 5 * page };

	(void)arg;
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
		return 1;
	return sync_all() == -EFBIG ? 0 : 2;
}

/* The kernel itself refuses. */
static void sync__past_a_limit(void **state)
{
	(void)state;
	begin(10, 0, 10);
	for (uint64_t p = 4; p < 7; p++)
		change(p, 0xaa);
	assert_int_equal(in_child(file_size_limited, NULL), 0);
	assert_int_equal(file_size(), 10 * page);
	assert_int_equal(sync_all(), 0);
	for (uint64_t p = 4; p < 7; p++)
		assert_memory_equal(in_file(p), page_of(p), page);
}

static int goes_on(void *arg)
{
	*t.seg.ledger = *(const struct ledger_header *)arg;
	change(2, 0xaa);
	if (sync_all() != 0 || engine_flush(&t.stage) != 0)
		return 1;
	engine_record_bases(&t.seg);
	return 0;
}

/* A client can write there. What it can spoil are its own pages, not the keeper. */
static void sync__ledger_is_scribbled_on(void **state)
{
	static const uint32_t some[] = { 0, 1, 4095, 1U << 20, 1U << 31, UINT32_MAX };
	struct ledger_header l;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(some) / sizeof(some[0]); i++) {
		begin(10, 0, 10);
		if (i % 2) {
			memset(&l, (int)some[i / 2] & 0xff, sizeof(l));
		} else {
			l = *t.seg.ledger;
			l.page = some[i / 2];
			l.pages = (uint64_t)some[i / 2] << 20;
		}
		assert_int_equal(in_child(goes_on, &l), 0);
		assert_memory_equal(in_file(2), page_of(2), page);
		end(NULL);
	}
}

static void flush__settles_what_was_written(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(2, 0xaa);
	*flag(8) = LEDGER_UNKNOWN; /* since the sync */
	assert_int_equal(engine_sync(&t.seg, 0, 5 * page), 0);
	assert_int_equal(*flag(2), LEDGER_PENDING);
	assert_int_equal(engine_flush(&t.stage), 0);
	assert_int_equal(io.syncs, 1);
	assert_int_equal(*flag(2), 0);
	assert_int_equal(*flag(8), LEDGER_UNKNOWN);
}

/* The kernel may have dropped the pages: they are written again. */
static void flush__fails(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(2, 0xaa);
	assert_int_equal(sync_all(), 0);
	io.sync_error = EIO;
	assert_int_equal(engine_flush(&t.stage), -EIO);
	assert_true(t.stage.unflushed);
	assert_int_equal(*flag(2), LEDGER_UNKNOWN);
	assert_int_equal(*flag(1), 0);
	quiet();
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
	assert_written(0, 2, 1);
	assert_true(t.stage.unflushed); /* written again is not on the device */
	assert_int_equal(engine_flush(&t.stage), 0);
	assert_false(t.stage.unflushed);
	assert_int_equal(*flag(2), 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
}

/* Pages 2 and 7 of ten. */
static void fail_to_flush_two(void)
{
	begin(10, 0, 10);
	change(2, 0xaa);
	change(7, 0xaa);
	assert_int_equal(sync_all(), 0);
	io.sync_error = EIO;
	assert_int_equal(engine_flush(&t.stage), -EIO);
	quiet();
}

/* A success says nothing of what was not written again before it. */
static void flush__of_a_part(void **state)
{
	(void)state;
	fail_to_flush_two();
	assert_int_equal(engine_sync(&t.seg, 0, 5 * page), 0);
	assert_int_equal(engine_flush(&t.stage), 0);
	assert_true(t.stage.unflushed);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(engine_flush(&t.stage), 0);
	assert_false(t.stage.unflushed);
}

/* What was cut off is not written again, and so nothing to wait for; unless the file grows. */
static void flush__of_what_was_cut_off(void **state)
{
	(void)state;
	fail_to_flush_two();
	assert_int_equal(ftruncate(t.stage.fd, (off_t)(5 * page)), 0);
	assert_int_equal(sync_all(), 0);
	assert_int_equal(engine_flush(&t.stage), 0);
	assert_false(t.stage.unflushed);
	assert_int_equal(ftruncate(t.stage.fd, (off_t)(10 * page)), 0);
	quiet();
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 1);
}

/* Who waits by the only description there is takes the error off it; and by any, may be the
 * only one who is told. */
static void flush__somebody_waited_and_was_told(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(2, 0xaa);
	assert_int_equal(sync_all(), 0);
	stage_wait_begins(&t.stage);
	assert_int_equal(t.seg.ledger->flushing, 1);
	stage_wait_ends(&t.stage, -EPERM); /* of a filter */
	assert_false(t.stage.unflushed);
	assert_int_equal(*flag(2), LEDGER_PENDING);
	stage_wait_begins(&t.stage);
	stage_wait_ends(&t.stage, -EIO);
	assert_int_equal(t.seg.ledger->flushing, 0);
	assert_true(t.stage.unflushed);
	assert_int_equal(*flag(2), LEDGER_UNKNOWN);
	stage_wait_begins(&t.stage);
	stage_wait_ends(&t.stage, 0);
	assert_true(t.stage.unflushed); /* only fdatasync() says that it is over */
}

static void flush__leaves_a_segment_that_is_filled(void **state)
{
	(void)state;
	begin(10, 0, 10);
	t.seg.state = SEGMENT_FILLING;
	*flag(2) = LEDGER_PENDING;
	io.sync_error = EIO;
	assert_int_equal(engine_flush(&t.stage), -EIO);
	assert_int_equal(*flag(2), LEDGER_PENDING);
	t.seg.state = SEGMENT_SEALED;
	assert_int_equal(engine_flush(&t.stage), -EIO);
	assert_int_equal(*flag(2), LEDGER_UNKNOWN);
}

static void bases__recorded_anew(void **state)
{
	(void)state;
	begin(10, 0, 10);
	change(2, 0xaa);
	memset(flag(0), 0xff, 10);
	engine_record_bases(&t.seg);
	for (uint64_t p = 0; p < 10; p++) {
		assert_int_equal(*flag(p), 0);
		assert_true(base_is(p, page_of(p)));
	}
	assert_int_equal(sync_all(), 0);
	assert_int_equal(io.count, 0);
}

/* Any changes, cuts, failures: in the end the file has what memory has, and nothing else. */
static void random__ends_equal(void **state)
{
	uint64_t *rng = random_start();
	unsigned char first, last;

	(void)state;
	begin(30, 3, 20);
	first = *in_file((uint64_t)-1);
	last = *in_file(20);
	for (int i = 0; i < 1500; i++) {
		for (uint64_t n = random_below(rng, 6); n > 0; n--) {
			uint64_t p = random_below(rng, 20);

			/* few contents, so that old ones come back */
			change(p, 0x80 + (int)random_below(rng, 3));
		}
		quiet();
		if (random_below(rng, 3) == 0) {
			io.fail_from = 1 + (unsigned)random_below(rng, 4);
			io.error = ENOSPC;
		}
		if (random_below(rng, 3) == 0)
			io.most = 1 + random_below(rng, 3 * page);
		if (random_below(rng, 4) == 0)
			io.sync_error = EIO;
		switch (random_below(rng, 3)) {
		case 0:
			(void)engine_sync(&t.seg, random_below(rng, 30 * page),
					  random_below(rng, 10 * page));
			break;
		case 1:
			(void)engine_flush(&t.stage);
			break;
		case 2:
			if (sync_all() == 0)
				for (uint64_t p = 0; p < 20; p++)
					assert_memory_equal(in_file(p), page_of(p), page);
			break;
		}
	}
	assert_int_equal(file_size(), 30 * page);
	assert_int_equal(*in_file((uint64_t)-1), first);
	assert_int_equal(*in_file(20), last);
}

/* Large enough for several threads; the segment ends within the file, and an end of a part is
 * no page of its own. */
static void hurry__all_parts(void **state)
{
	const uint64_t pages = (80UL << 20) / page + 7;

	(void)state;
	begin(pages + 3, 2, pages);
	for (uint64_t p = 0; p < pages; p += p < pages / 2 ? 1 : 37)
		change(p, 201 + (int)(p % 50));
	assert_int_equal(engine_sync(&t.seg, 0, UINT64_MAX), 0);
	for (uint64_t p = 0; p < pages; p++) {
		assert_memory_equal(in_file(p), page_of(p), page);
		assert_true(base_is(p, page_of(p)));
	}
	quiet();
	t.stage.gently = true;
	assert_int_equal(engine_sync(&t.seg, 0, UINT64_MAX), 0);
	assert_int_equal(io.count, 0);
}

static void hurry__one_part_fails(void **state)
{
	const uint64_t pages = (80UL << 20) / page;

	(void)state;
	begin(pages, 0, pages);
	change(3, 255);
	change(pages - 3, 255);
	io.fail_from = 1;
	io.error = ENOSPC;
	assert_int_equal(engine_sync(&t.seg, 0, UINT64_MAX), -ENOSPC);
	quiet();
	assert_int_equal(engine_sync(&t.seg, 0, UINT64_MAX), 0);
	assert_memory_equal(in_file(3), page_of(3), page);
	assert_memory_equal(in_file(pages - 3), page_of(pages - 3), page);
}

#define T(f) cmocka_unit_test_teardown(f, end)

static const struct CMUnitTest tests[] = {
	T(sync__nothing_changed),
	T(sync__only_the_page_that_changed),
	T(sync__neighbours_in_one_write),
	T(sync__long_run),
	T(sync__a_part),
	T(sync__early_write_out),
	T(sync__early_write_out_fails),
	T(sync__never_grows_the_file),
	T(sync__what_was_cut_off_stays_cut_off),
	T(sync__file_is_cut_meanwhile),
	T(sync__file_is_cut_in_a_long_run),
	T(sync__file_is_cut_by_whose_turn_it_was),
	T(sync__holes_stay_holes),
	T(sync__somebody_elses_changes_stay),
	T(sync__page_changes_while_it_is_written),
	T(sync__device_keeps_writing),
	T(sync__unknown_base),
	T(sync__forgotten_base_and_file_agrees),
	T(sync__forgotten_base_and_file_differs),
	T(sync__forgotten_base_that_was_unknown),
	T(sync__forgotten_base_that_was_pending),
	T(sync__forgotten_base_over_a_hole),
	T(sync__short_writes_go_on),
	T(sync__interrupted),
	T(sync__no_room),
	T(sync__writes_nothing),
	T(sync__fails_half_way_and_memory_goes_back),
	T(sync__keeper_dies_half_way_and_memory_goes_back),
	T(sync__descriptor_cannot_write),
	T(sync__append_mode),
	T(sync__append_mode_meanwhile),
	T(sync__past_a_limit),
	T(sync__ledger_is_scribbled_on),
	T(flush__settles_what_was_written),
	T(flush__fails),
	T(flush__of_a_part),
	T(flush__of_what_was_cut_off),
	T(flush__somebody_waited_and_was_told),
	T(flush__leaves_a_segment_that_is_filled),
	T(bases__recorded_anew),
	T(random__ends_equal),
	T(hurry__all_parts),
	T(hurry__one_part_fails),
};

UNIT_MAIN(tests, set_page, NULL)
