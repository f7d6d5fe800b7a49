/* SPDX-License-Identifier: MIT */
/* links: shim/lib/space.c shim/lib/areas.c shim/lib/pool.c shim/lib/ownfd.c */
/* links: shim/lib/native.c shim/lib/real.c shim/lib/shadow.c */
#include "unit.h"

#include <pthread.h>
#include <sys/socket.h>

#include "lib/kept.h"
#include "lib/native.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/space.h"

#define PAGE 4096UL
#define BASE (1UL << 32) /* of the addresses, none of which is mapped */

static struct inode_key key(size_t i)
{
	return (struct inode_key){ 1 + i % 2, 100 + i };
}

/* Where files' own mappings are kept aside: made-up addresses, and whether each page was given
 * back. A page that is given back twice, or never, is a bug. */
enum { SAVED_MOST = 1 << 18 };
#define SAVED_BASE (1UL << 40)

static struct {
	unsigned char live[SAVED_MOST];
	size_t n, count;
} saved;

static int fake_munmap(void *addr, size_t len)
{
	size_t first = ((uintptr_t)addr - SAVED_BASE) / PAGE;

	assert_true((uintptr_t)addr >= SAVED_BASE && (uintptr_t)addr % PAGE == 0 &&
		    len % PAGE == 0);
	for (size_t p = first; p < first + len / PAGE; p++) {
		assert_true(p < saved.n);
		assert_true(saved.live[p]);
		saved.live[p] = 0;
		saved.count--;
	}
	return 0;
}

/* In place of what asks the kernel whether it is still there. */
void kept_drop(const struct segment *s, uint64_t off, uintptr_t addr, size_t len)
{
	(void)s, (void)off;
	real.munmap((void *)addr, len);
}

void kept_unhold(struct segment *s)
{
	s->hold = NULL;
}

static uintptr_t keep_aside(size_t pages)
{
	const size_t first = saved.n;

	assert_true(saved.n + pages <= SAVED_MOST);
	memset(saved.live + saved.n, 1, pages);
	saved.n += pages;
	saved.count += pages;
	return SAVED_BASE + first * PAGE;
}

static void *no_memory(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	(void)addr, (void)len, (void)prot, (void)flags, (void)fd, (void)off;
	errno = ENOMEM;
	return MAP_FAILED;
}

static struct space_guard guard;

static int enter(void **state)
{
	(void)state;
	real_bind();
	real.munmap = fake_munmap;
	memset(&saved, 0, sizeof(saved));
	assert_true(space_lock(&guard));
	return 0;
}

static int leave(void **state)
{
	struct segment *orphans = NULL, *next;

	(void)state;
	real_bind();
	real.munmap = fake_munmap;
	assert_int_equal(space_set(0, UINTPTR_MAX & ~(PAGE - 1), NULL, 0, &orphans), 0);
	for (; orphans; orphans = next) {
		next = orphans->next;
		segment_free(orphans);
	}
	space_unlock(&guard);
	for (size_t i = 0; i < 8; i++)
		assert_false(space_may_have_segments(key(i)));
	assert_int_equal(space.tracked, 0);
	assert_int_equal(space.staged, 0);
	assert_int_equal(space.parked, 0);
	assert_int_equal(saved.count, 0);
	return 0;
}

static uintptr_t at(size_t p)
{
	return BASE + p * PAGE;
}

static void map(size_t first, size_t end, size_t i, uint64_t off_page)
{
	struct segment *orphans = NULL;
	struct file *f = space_file(key(i), true);

	assert_non_null(f);
	assert_int_equal(space_set(at(first), at(end), f, off_page * PAGE, &orphans), 0);
	assert_null(orphans);
}

/* Shows a segment at a range as the library does after an exchange. */
static void show(struct segment *s, size_t first, size_t end, struct file *f, uint64_t off_page,
		 struct segment **orphans)
{
	struct area *a;

	assert_int_equal(space_set(at(first), at(end), f, off_page * PAGE, orphans), 0);
	a = areas_first(&space.areas, at(first), at(first) + 1);
	assert_non_null(a);
	assert_int_equal(a->start, at(first));
	assert_int_equal(a->end, at(end));
	a->seg = s;
	a->saved = keep_aside(end - first);
	s->areas++;
}

static struct segment *stage(size_t first, size_t end, size_t i, uint64_t off_page)
{
	struct file *f = space_file(key(i), true);
	struct segment *s = segment_new(), *orphans = NULL;

	assert_non_null(s);
	assert_int_equal(s->memfd, -1);
	assert_int_equal(s->ledger, -1);
	s->off = off_page * PAGE;
	s->len = (end - first) * PAGE;
	f->areas++;
	show(s, first, end, f, off_page, &orphans);
	f->areas--;
	assert_null(orphans);
	segment_link(f, s);
	return s;
}

static struct segment *unmap(size_t first, size_t end)
{
	struct segment *orphans = NULL;

	assert_int_equal(space_set(at(first), at(end), NULL, 0, &orphans), 0);
	return orphans;
}

static void set__records_and_forgets(void **state)
{
	struct area *a;

	(void)state;
	map(10, 20, 1, 5);
	assert_int_equal(space.tracked, 1);
	a = areas_first(&space.areas, 0, UINTPTR_MAX);
	assert_int_equal(a->start, at(10));
	assert_int_equal(a->end, at(20));
	assert_int_equal(a->off, 5 * PAGE);
	assert_ptr_equal(a->file, space_file(key(1), false));
	assert_null(a->seg);
	assert_null(unmap(10, 20));
	assert_int_equal(space.tracked, 0);
	assert_null(space_file(key(1), false));
}

static void set__carves_the_middle(void **state)
{
	struct area *a;

	(void)state;
	map(10, 20, 1, 0);
	map(13, 15, 2, 7);
	assert_int_equal(space.tracked, 3);
	assert_int_equal(space_file(key(1), false)->areas, 2);
	a = areas_first(&space.areas, at(15), at(16));
	assert_int_equal(a->start, at(15));
	assert_int_equal(a->off, 5 * PAGE);
	assert_null(unmap(0, 100));
}

/* The file over its own last mapping: its record lives on. */
static void set__same_file_again(void **state)
{
	(void)state;
	map(10, 20, 1, 0);
	map(10, 20, 1, 3);
	assert_int_equal(space.tracked, 1);
	assert_int_equal(space_file(key(1), false)->areas, 1);
	assert_null(unmap(0, 100));
}

static void set__nothing_there(void **state)
{
	(void)state;
	assert_null(unmap(5, 50));
	assert_int_equal(space.tracked, 0);
}

static void file__not_made_unless_asked(void **state)
{
	struct file *f;

	(void)state;
	assert_null(space_file(key(3), false));
	f = space_file(key(3), true);
	assert_ptr_equal(space_file(key(3), false), f);
	assert_int_equal(f->fd, -1);
	assert_null(f->lots);
	space_file_put(f);
	assert_null(space_file(key(3), false));
}

/* What is in flight goes with the last mapping that was made from it. */
static void file__parked_descriptor(void **state)
{
	const unsigned fds = open_fds();
	struct lot *lot[2];
	struct file *f;
	int pair[2];

	(void)state;
	map(1, 4, 1, 0);
	map(5, 6, 1, 9);
	f = space_file(key(1), false);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		pair[0] = ownfd_adopt(pair[0]);
		pair[1] = ownfd_adopt(pair[1]);
		lot[i] = space_lot_new(f, pair);
		space_made_from(areas_first(&space.areas, at(1 + 4 * i), at(6)), -1, lot[i]);
		space_lot_put(f, lot[i]);
	}
	map(10, 11, 1, 0);
	assert_int_equal(space.parked, 2);
	assert_null(unmap(1, 3));
	map(3, 4, 1, 2); /* as it was */
	assert_int_equal(open_fds(), fds + 4);
	assert_null(unmap(5, 6));
	assert_int_equal(open_fds(), fds + 2);
	assert_ptr_equal(f->lots, lot[0]);
	assert_null(unmap(3, 4));
	assert_null(f->lots);
	assert_null(unmap(10, 11));
	assert_int_equal(open_fds(), fds);
	assert_int_equal(space.parked, 0);
	assert_int_equal(ownfd_next(0), -1);
}

static void segment__orphan_when_its_last_area_goes(void **state)
{
	struct segment *s, *o;

	(void)state;
	s = stage(10, 20, 1, 0);
	assert_int_equal(space.staged, 1);
	assert_null(unmap(10, 12));
	assert_null(unmap(14, 16));
	assert_int_equal(s->areas, 2);
	assert_int_equal(saved.count, 6);
	assert_null(unmap(12, 14));
	o = unmap(0, 100);
	assert_ptr_equal(o, s);
	assert_null(o->next);
	assert_null(o->file);
	assert_int_equal(inode_key_cmp(o->key, key(1)), 0);
	assert_int_equal(o->areas, 0);
	assert_int_equal(space.staged, 0);
	assert_null(space_file(key(1), false));
	/* the file's own mapping of the last area is kept until the segment is let go */
	assert_int_equal(saved.count, 4);
	assert_int_equal(o->saved_len, 4 * PAGE);
	segment_free(o);
	assert_int_equal(saved.count, 0);
}

static void segment__orphans_join_those_before(void **state)
{
	struct segment *a, *b, *c, *orphans = NULL;
	unsigned seen = 0;

	(void)state;
	a = stage(10, 12, 1, 0);
	b = stage(12, 14, 1, 2);
	c = stage(20, 22, 2, 0);
	assert_int_equal(space_set(at(10), at(12), NULL, 0, &orphans), 0);
	assert_int_equal(space_set(at(11), at(30), NULL, 0, &orphans), 0);
	for (struct segment *o = orphans, *next; o; o = next) {
		next = o->next;
		seen |= o == a ? 1 : o == b ? 2 : o == c ? 4 : 8;
		segment_free(o);
	}
	assert_int_equal(seen, 7);
}

static void segment__in_order_of_offset(void **state)
{
	struct segment *a, *b, *c;
	struct file *f;

	(void)state;
	b = stage(30, 34, 1, 10);
	a = stage(20, 24, 1, 0);
	c = stage(10, 14, 1, 20);
	f = space_file(key(1), false);
	assert_ptr_equal(f->segments, a);
	assert_ptr_equal(a->next, b);
	assert_ptr_equal(b->next, c);
	assert_null(c->next);
	assert_null(segment_find(f, 4 * PAGE, 10 * PAGE));
	assert_ptr_equal(segment_find(f, 4 * PAGE, 10 * PAGE + 1), b);
	assert_ptr_equal(segment_find(f, 4 * PAGE - 1, 40 * PAGE), a);
	assert_ptr_equal(segment_find(f, 13 * PAGE, UINT64_MAX), b);
	assert_ptr_equal(segment_find(f, 14 * PAGE, UINT64_MAX), c);
	assert_null(segment_find(f, 24 * PAGE, UINT64_MAX));
}

static void segment__closes_its_descriptors(void **state)
{
	const unsigned fds = open_fds();
	struct segment *s;

	(void)state;
	s = stage(10, 14, 1, 0);
	s->memfd = ownfd_adopt(unnamed_file());
	s->ledger = ownfd_adopt(unnamed_file());
	assert_int_equal(open_fds(), fds + 2);
	segment_free(unmap(0, 100));
	assert_int_equal(open_fds(), fds);
}

static void fd_moved__wherever_it_is(void **state)
{
	struct segment *a, *b;
	struct file *f;
	struct lot *l;

	(void)state;
	a = stage(10, 14, 1, 0);
	b = stage(14, 16, 1, 4);
	f = space_file(key(1), false);
	a->memfd = 1000;
	b->memfd = 1001;
	b->ledger = 1002;
	l = space_lot_new(f, (const int[]){ -1, 1003 });
	assert_non_null(l);
	f->fd = 1000; /* the program's own number, which does not move */
	for (int fd = 1000; fd < 1004; fd++)
		space_fd_moved(fd, fd + 1000);
	space_fd_moved(7, 8);
	assert_int_equal(a->memfd, 2000);
	assert_int_equal(a->ledger, -1);
	assert_int_equal(b->memfd, 2001);
	assert_int_equal(b->ledger, 2002);
	assert_int_equal(l->pair[0], -1);
	assert_int_equal(l->pair[1], 2003);
	assert_int_equal(f->fd, 1000);
	space_lot_put(f, l);
}

/* Two to split with and one for the range itself: what callers reserve is enough. */
static void set__needs_three_nodes_at_most(void **state)
{
	struct segment *orphans = NULL;

	(void)state;
	map(10, 40, 1, 0);
	for (size_t i = 0; i < 200; i++) {
		struct file *f = space_file(key(1 + i % 2), true);
		void **third;

		assert_int_equal(pool_reserve(&space.areas.pool, 3), 0);
		third = *(void ***)*(void ***)space.areas.pool.free;
		*third = NULL; /* the others are lost to this process */
		real.mmap = no_memory;
		assert_int_equal(space_set(at(15 + i % 7), at(25 + i % 5), f, 0, &orphans), 0);
		real_bind();
		real.munmap = fake_munmap;
	}
	assert_null(orphans);
}

static void set__no_memory(void **state)
{
	struct segment *orphans = NULL;
	void *kept = space.areas.pool.free;
	struct file *f;

	(void)state;
	f = space_file(key(1), true);
	space.areas.pool.free = NULL;
	real.mmap = no_memory;
	assert_int_equal(space_set(at(10), at(20), f, 0, &orphans), -ENOMEM);
	assert_null(areas_first(&space.areas, 0, UINTPTR_MAX));
	assert_null(space_file(key(1), false));
	assert_int_equal(space.tracked, 0);
	real_bind();
	real.munmap = fake_munmap;
	space.areas.pool.free = kept;
	assert_null(orphans);
}

static void give_lock_back_and_take_it(void)
{
	space_unlock(&guard);
	assert_true(space_lock(&guard));
}

/* Calls on other files do not wait for whoever has the lock. */
static void may_have__only_what_is_staged(void **state)
{
	(void)state;
	map(10, 20, 1, 0);
	assert_false(space_may_have_segments(key(1)));
	stage(30, 34, 2, 0);
	stage(40, 44, 2, 10);
	assert_true(space_may_have_segments(key(2)));
	assert_false(space_may_have_segments(key(1)));
	give_lock_back_and_take_it();
	assert_true(space_may_have_segments(key(2)));
	assert_false(space_may_have_segments(key(1)));
	segment_free(unmap(30, 34));
	give_lock_back_and_take_it();
	assert_true(space_may_have_segments(key(2)));
	segment_free(unmap(40, 44));
}

/* From before it comes, and if it does not until that is certain. */
static void may_have__what_is_expected(void **state)
{
	(void)state;
	space_expect(key(1));
	assert_true(space_may_have_segments(key(1)));
	assert_false(space_may_have_segments(key(2)));
	give_lock_back_and_take_it();
	assert_false(space_may_have_segments(key(1)));
	space_expect(key(1));
	space_expect(key(1));
	stage(10, 14, 1, 0);
	give_lock_back_and_take_it();
	assert_true(space_may_have_segments(key(1)));
	segment_free(unmap(10, 14));
	give_lock_back_and_take_it();
	assert_false(space_may_have_segments(key(1)));
}

/* What is on no list any more may not be in the file yet. */
static void may_have__what_goes_until_it_is_gone(void **state)
{
	struct segment *o;

	(void)state;
	stage(10, 14, 1, 0);
	stage(20, 24, 2, 0);
	o = unmap(0, 100);
	assert_int_equal(space.staged, 0);
	assert_true(space_may_have_segments(key(1)));
	assert_true(space_may_have_segments(key(2)));
	segment_free(o->next);
	segment_free(o);
	assert_true(space_may_have_segments(key(1)));
	give_lock_back_and_take_it();
	assert_false(space_may_have_segments(key(1)));
	assert_false(space_may_have_segments(key(2)));
}

/* As memory that a device still writes to when it is let go of. */
static void may_have__what_comes_back(void **state)
{
	struct segment *o;

	(void)state;
	stage(10, 14, 1, 0);
	for (int i = 0; i < 3; i++) {
		o = unmap(0, 100);
		if (!o) {
			o = space_file(key(1), false)->segments;
			segment_unlink(o);
		}
		assert_true(space_may_have_segments(key(1)));
		segment_link(space_file(key(1), true), o);
		assert_true(space_may_have_segments(key(1)));
	}
	give_lock_back_and_take_it();
	assert_true(space_may_have_segments(key(1)));
	segment_unlink(o);
	segment_free(o);
	space_file_put(space_file(key(1), false));
}

static void lock__not_twice_by_one_thread(void **state)
{
	struct space_guard g;

	(void)state;
	assert_true(space_inside());
	assert_false(space_lock(&g));
	assert_true(space_inside());
	space_unlock(&guard);
	assert_false(space_inside());
	assert_true(space_lock(&guard));
}

static void lock__no_signals_no_cancellation(void **state)
{
	sigset_t now, usr1;
	int cancel;

	(void)state;
	space_unlock(&guard);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	assert_true(space_lock(&guard));
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_true(sigismember(&now, SIGTERM) && sigismember(&now, SIGUSR1));
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	assert_int_equal(cancel, PTHREAD_CANCEL_DISABLE);
	space_unlock(&guard);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_false(sigismember(&now, SIGTERM));
	assert_true(sigismember(&now, SIGUSR1));
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &cancel);
	assert_int_equal(cancel, PTHREAD_CANCEL_ENABLE);
	pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
	assert_true(space_lock(&guard));
}

static int child_locks(void *arg)
{
	struct space_guard g;

	(void)arg;
	if (space_is_ours() || space_lock(&g))
		return 1;
	space_after_fork(true);
	if (!space_is_ours() || !space_lock(&g))
		return 2;
	space_unlock(&g);
	return 0;
}

/* A child made behind fork()'s back may not touch the records. */
static void fork__child_is_told(void **state)
{
	struct space_guard g;

	(void)state;
	space_unlock(&guard);
	space_before_fork();
	assert_true(space_inside());
	assert_int_equal(in_child(child_locks, NULL), 0);
	space_after_fork(false);
	assert_false(space_inside());
	assert_true(space_is_ours());
	assert_true(space_lock(&g));
	space_unlock(&g);
	assert_true(space_lock(&guard));
}

/* From inside (a handler of the hooks' own fork): it is left as it is. */
static void fork__while_inside(void **state)
{
	(void)state;
	space_before_fork();
	assert_true(space_inside());
	space_after_fork(false);
	assert_true(space_inside());
}

/* ---- native pins, which are recorded by what the space says ---- */

static void native__follows_the_file_not_the_address(void **state)
{
	int mr, other, device;

	(void)state;
	map(10, 20, 1, 100);
	map(30, 40, 2, 0);
	native_add(at(12) + 5, at(32), &mr);
	assert_int_equal(native_count(), 2);
	assert_true(native_is_owner(&mr));
	assert_false(native_is_owner(&other));
	assert_null(unmap(0, 100));
	assert_true(native_overlaps(key(1), 103 * PAGE, 104 * PAGE));
	assert_true(native_overlaps(key(1), 109 * PAGE, 200 * PAGE));
	assert_false(native_overlaps(key(1), 110 * PAGE, 200 * PAGE));
	assert_false(native_overlaps(key(1), 0, 102 * PAGE));
	assert_true(native_overlaps(key(1), 102 * PAGE, 103 * PAGE));
	assert_true(native_overlaps(key(2), PAGE, 2 * PAGE));
	assert_false(native_overlaps(key(2), 2 * PAGE, 9 * PAGE));
	assert_false(native_overlaps(key(3), 0, UINT64_MAX));
	native_pass_on(&mr, &other, &device);
	assert_false(native_is_owner(&mr));
	assert_true(native_is_owner(&other));
	native_drop(&mr);
	assert_int_equal(native_count(), 2);
	native_drop(&other);
	assert_int_equal(native_count(), 0);
	assert_false(native_overlaps(key(1), 0, UINT64_MAX));
}

static void native__of_a_device(void **state)
{
	int a, b, c, here, there;

	(void)state;
	map(10, 20, 1, 0);
	native_add(at(10), at(11), &a);
	native_pass_on(&a, &a, &here);
	native_add(at(11), at(12), &b);
	native_pass_on(&b, &b, &there);
	native_add(at(12), at(13), &c);
	native_pass_on(&c, &c, &here);
	native_drop_context(&here);
	assert_int_equal(native_count(), 1);
	assert_true(native_is_owner(&b));
	native_forget();
	assert_int_equal(native_count(), 0);
}

static void native__not_what_is_staged(void **state)
{
	int mr;

	(void)state;
	map(10, 20, 1, 0);
	stage(12, 14, 1, 2);
	native_add(at(10), at(20), &mr);
	assert_int_equal(native_count(), 2);
	assert_false(native_overlaps(key(1), 2 * PAGE, 4 * PAGE));
	native_drop(&mr);
}

/* ---- the same page by page ---- */

enum { PAGES = 96, FILES = 5, SEGMENTS = 4000 };

static struct {
	struct {
		int file;     /* or -1 */
		uint64_t off; /* pages */
		int seg;      /* or -1 */
		bool begins;  /* a record begins here */
	} page[PAGES + 1];
	struct {
		struct segment *s;
		uint64_t off, len; /* pages */
		int file;
		bool live;
	} seg[SEGMENTS];
	int segs;
} model;

static void model_boundary(size_t p)
{
	if (p > 0 && p < PAGES && model.page[p].file >= 0)
		model.page[p].begins = true;
}

static void model_set(size_t first, size_t end, int file, uint64_t off, int seg)
{
	model_boundary(first);
	model_boundary(end);
	for (size_t p = first; p < end; p++) {
		model.page[p].file = file;
		model.page[p].off = off + (p - first);
		model.page[p].seg = seg;
		model.page[p].begins = file >= 0 && p == first;
	}
}

static unsigned model_areas(int file, int seg)
{
	unsigned n = 0;

	for (size_t p = 0; p < PAGES; p++)
		n += model.page[p].begins && (file < 0 || model.page[p].file == file) &&
		     (seg < 0 || model.page[p].seg == seg);
	return n;
}

static void compare_pages(void)
{
	for (size_t p = 0; p < PAGES; p++) {
		struct area *a = areas_first(&space.areas, at(p), at(p) + 1);

		if (model.page[p].file < 0) {
			assert_null(a);
			continue;
		}
		assert_non_null(a);
		assert_int_equal(a->start == at(p), model.page[p].begins);
		assert_int_equal(a->off + (at(p) - a->start), model.page[p].off * PAGE);
		assert_ptr_equal(a->file, space_file(key((size_t)model.page[p].file), false));
		assert_int_equal(a->seg != NULL, model.page[p].seg >= 0);
		assert_int_equal(a->saved != 0, a->seg != NULL);
		if (a->seg)
			assert_ptr_equal(a->seg, model.seg[model.page[p].seg].s);
	}
}

static void compare_files(void)
{
	unsigned staged = 0;

	for (int i = 0; i < FILES; i++) {
		struct file *f = space_file(key((size_t)i), false);
		uint64_t last = 0;
		unsigned in_list = 0, in_model = 0;

		assert_int_equal(f ? f->areas : 0, model_areas(i, -1));
		assert_int_equal(f != NULL, model_areas(i, -1) != 0);
		for (struct segment *s = f ? f->segments : NULL; s; s = s->next) {
			assert_ptr_equal(s->file, f);
			assert_true(s->off >= last);
			last = s->off;
			in_list++;
		}
		for (int s = 0; s < model.segs; s++) {
			if (!model.seg[s].live || model.seg[s].file != i)
				continue;
			in_model++;
			assert_int_equal(model.seg[s].s->areas, model_areas(-1, s));
		}
		assert_int_equal(in_list, in_model);
		staged += in_model;
	}
	assert_int_equal(space.tracked, model_areas(-1, -1));
	assert_int_equal(space.staged, staged);
}

/* Exactly those that the model says have lost their last area, each once. */
static void take_orphans(struct segment *orphans)
{
	struct segment *next;

	for (; orphans; orphans = next) {
		int i;

		next = orphans->next;
		for (i = 0; i < model.segs; i++)
			if (model.seg[i].live && model.seg[i].s == orphans)
				break;
		assert_true(i < model.segs);
		assert_int_equal(model_areas(-1, i), 0);
		assert_null(orphans->file);
		assert_int_equal(inode_key_cmp(orphans->key, key((size_t)model.seg[i].file)),
				 0);
		model.seg[i].live = false;
		segment_free(orphans);
	}
	for (int i = 0; i < model.segs; i++)
		if (model.seg[i].live)
			assert_true(model_areas(-1, i) > 0);
}

static void random_stage(size_t first, size_t end, int file, uint64_t off, uint64_t *rng)
{
	struct segment *orphans = NULL, *s = segment_new();
	struct file *f = space_file(key((size_t)file), true);
	const int i = model.segs++;
	size_t alias = random_below(rng, PAGES - (end - first));

	assert_true(model.segs <= SEGMENTS);
	s->off = off * PAGE;
	s->len = (end - first) * PAGE;
	f->areas++;
	show(s, first, end, f, off, &orphans);
	model_set(first, end, file, off, i);
	if (alias >= end) {
		show(s, alias, alias + (end - first), f, off, &orphans);
		model_set(alias, alias + (end - first), file, off, i);
	}
	f->areas--;
	segment_link(f, s);
	model.seg[i].s = s;
	model.seg[i].file = file;
	model.seg[i].off = off;
	model.seg[i].len = end - first;
	model.seg[i].live = true;
	take_orphans(orphans);
}

static void compare_find(uint64_t *rng)
{
	const int file = (int)random_below(rng, FILES);
	uint64_t off = random_below(rng, PAGES), end = off + 1 + random_below(rng, 6),
		 least = UINT64_MAX;
	struct file *f = space_file(key((size_t)file), false);
	struct segment *s;

	if (!f)
		return;
	s = segment_find(f, off * PAGE, end * PAGE);
	for (int i = 0; i < model.segs; i++)
		if (model.seg[i].live && model.seg[i].file == file && model.seg[i].off < end &&
		    model.seg[i].off + model.seg[i].len > off && model.seg[i].off < least)
			least = model.seg[i].off;
	assert_int_equal(s != NULL, least != UINT64_MAX);
	if (s)
		assert_int_equal(s->off, least * PAGE);
}

static void random__like_page_by_page(void **state)
{
	uint64_t *rng = random_start();

	(void)state;
	memset(&model, 0, sizeof(model));
	for (size_t p = 0; p <= PAGES; p++)
		model.page[p].file = model.page[p].seg = -1;
	for (int i = 0; i < 6000; i++) {
		size_t first = random_below(rng, PAGES - 1);
		size_t end =
			first + 1 + random_below(rng, PAGES - first > 14 ? 14 : PAGES - first);
		int file = (int)random_below(rng, FILES);
		uint64_t off = random_below(rng, PAGES);
		struct segment *orphans = NULL;

		switch (random_below(rng, 5)) {
		case 0 ... 1:
			assert_int_equal(space_set(at(first), at(end),
						   space_file(key((size_t)file), true),
						   off * PAGE, &orphans),
					 0);
			model_set(first, end, file, off, -1);
			take_orphans(orphans);
			break;
		case 2 ... 3:
			assert_int_equal(space_set(at(first), at(end), NULL, 0, &orphans), 0);
			model_set(first, end, -1, 0, -1);
			take_orphans(orphans);
			break;
		case 4:
			random_stage(first, end, file, off, rng);
			break;
		}
		compare_find(rng);
		if (i % 8)
			continue;
		compare_pages();
		compare_files();
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, enter, leave)

static const struct CMUnitTest tests[] = {
	T(set__records_and_forgets),
	T(set__carves_the_middle),
	T(set__same_file_again),
	T(set__nothing_there),
	T(file__not_made_unless_asked),
	T(file__parked_descriptor),
	T(segment__orphan_when_its_last_area_goes),
	T(segment__orphans_join_those_before),
	T(segment__in_order_of_offset),
	T(segment__closes_its_descriptors),
	T(fd_moved__wherever_it_is),
	T(set__needs_three_nodes_at_most),
	T(set__no_memory),
	T(may_have__only_what_is_staged),
	T(may_have__what_is_expected),
	T(may_have__what_goes_until_it_is_gone),
	T(may_have__what_comes_back),
	T(lock__not_twice_by_one_thread),
	T(lock__no_signals_no_cancellation),
	T(fork__child_is_told),
	T(fork__while_inside),
	T(native__follows_the_file_not_the_address),
	T(native__of_a_device),
	T(native__not_what_is_staged),
	T(random__like_page_by_page),
};

UNIT_MAIN(tests, NULL, NULL)
