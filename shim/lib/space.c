/* SPDX-License-Identifier: MIT */
#include "lib/space.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/board.h"
#include "lib/kept.h"
#include "lib/native.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/vmflags.h"

static int file_cmp(const struct file *a, const struct file *b)
{
	return inode_key_cmp(a->key, b->key);
}

RB_HEAD(file_tree, file);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wnull-dereference"
#pragma GCC diagnostic ignored "-Wshadow"
RB_GENERATE_INTERNAL(file_tree, file, node, file_cmp, static)
#pragma GCC diagnostic pop

struct space space = { .areas = AREAS_INIT };

static struct file_tree files;
static struct pool file_pool = POOL_INIT(struct file);
static struct pool lot_pool = POOL_INIT(struct lot);
static struct pool segment_pool = POOL_INIT(struct segment);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * Segments by the hash of their file, asked for without the lock. While that is held they only
 * rise: what goes, and what was expected and did not come, counts until the lock is given back,
 * when memory and file are as they will be. So nobody looks at a file whose segment is on its
 * way out, or for a moment on no list.
 */
#define SLOTS 1024
static atomic_uint segments_in[SLOTS];

/* By how much they fall then. Lock held. */
static struct {
	unsigned by, next; /* of those that fall: its number and 1, or 0 */
} falling[SLOTS];
static unsigned first_falling;

/* The process that the records are about, in a page that a copy of this process does not
 * inherit: 0 there tells a copy that no atfork handler saw from a child that only borrows our
 * memory. */
static _Atomic(pid_t) fallback, *owner = &fallback;
static void (*copied)(void);

#define NOBODY	 0
#define ADOPTING (-1)
#define ORPHAN	 (-2)
static __thread bool inside __attribute__((tls_model("initial-exec")));

void space_begin(void (*when_copied)(void))
{
	const size_t size = page_size();
	void *page;

	atomic_store(owner, (pid_t)arch_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0));
	copied = when_copied;
	page = real.mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
	if (page == MAP_FAILED)
		return;
	if (real.madvise(page, size, MADV_WIPEONFORK) < 0) {
		real.munmap(page, size);
		return;
	}
	*(_Atomic(pid_t) *)page = atomic_load(owner);
	owner = page;
}

/* If a thread of the process that we are a copy of had the lock, the records may be half
 * changed: then they are nobody's. */
static bool adopt(pid_t me)
{
	pid_t of = NOBODY;

	if (atomic_compare_exchange_strong(owner, &of, ADOPTING)) {
		of = pthread_mutex_trylock(&lock) ? ORPHAN : me;
		if (of == me) {
			pthread_mutex_unlock(&lock);
			native_forget();
			space.inherited = true;
			if (copied)
				copied();
		}
		atomic_store(owner, of);
	}
	while ((of = atomic_load(owner)) == ADOPTING)
		sched_yield();
	return of == me;
}

bool space_is_ours(void)
{
	const pid_t me = (pid_t)arch_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
	const pid_t of = atomic_load_explicit(owner, memory_order_relaxed);

	return of == me || (unlikely(of == NOBODY) && adopt(me));
}

/* Where something of ours may stand for a moment, the program has to wait until it is gone. */
static bool over_place(uintptr_t start, uintptr_t end)
{
	return start < VMFLAGS_PLACE + VMFLAGS_PAGES * page_size() && end > VMFLAGS_PLACE;
}

bool space_concerned(uintptr_t start, size_t len)
{
	uintptr_t end;

	if (!atomic_load_explicit(&space.tracked, memory_order_relaxed))
		return false;
	end = start + page_up(len);
	return areas_touched(&space.areas, start, end) || over_place(start, end);
}

static unsigned slot_of(struct inode_key key)
{
	return (unsigned)(board_hash(key) % SLOTS);
}

/* The fence is the other half of inflight_wait()'s: either who asks sees the file expected, or
 * who expects it sees the call that was noted before. */
bool space_may_have_segments(struct inode_key key)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&segments_in[slot_of(key)], memory_order_acquire) != 0;
}

static void rise(struct inode_key key)
{
	atomic_fetch_add(&segments_in[slot_of(key)], 1);
}

static void fall_at_end(struct inode_key key)
{
	const unsigned slot = slot_of(key);

	if (falling[slot].by++)
		return;
	falling[slot].next = first_falling;
	first_falling = slot + 1;
}

static void fall(void)
{
	unsigned slot;

	while (first_falling) {
		slot = first_falling - 1;
		first_falling = falling[slot].next;
		atomic_fetch_sub(&segments_in[slot], falling[slot].by);
		falling[slot].by = 0;
	}
}

void space_expect(struct inode_key key)
{
	rise(key);
	fall_at_end(key);
}

bool space_inside(void)
{
	return inside;
}

void space_join(void)
{
	inside = true;
}

bool space_lock(struct space_guard *g)
{
	sigset_t all;

	if (inside || !space_is_ours())
		return false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &g->mask);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &g->cancel);
	pthread_mutex_lock(&lock);
	inside = true;
	return true;
}

void space_unlock(struct space_guard *g)
{
	fall();
	inside = false;
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(g->cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &g->mask, NULL);
}

bool space_exchange_between(unsigned before)
{
	struct space_guard g;

	if (!space_exchange_since(before))
		return false;
	if (!space_lock(&g))
		return false;
	space_unlock(&g);
	return true;
}

static struct space_guard fork_guard;
static bool fork_locked;

void space_before_fork(void)
{
	struct space_guard g;

	if (!space_lock(&g))
		return;
	fork_guard = g;
	fork_locked = true;
}

void space_after_fork(bool child)
{
	struct space_guard g;

	if (child) {
		atomic_store(owner, (pid_t)arch_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0));
		native_forget();
		space.inherited = true;
	}
	if (!fork_locked)
		return;
	fork_locked = false;
	g = fork_guard;
	space_unlock(&g);
}

struct file *space_file(struct inode_key key, bool create)
{
	struct file want = { .key = key }, *f;

	f = file_tree_RB_FIND(&files, &want);
	if (f || !create)
		return f;
	f = pool_get(&file_pool);
	if (!f)
		return NULL;
	f->key = key;
	f->fd = -1;
	file_tree_RB_INSERT(&files, f);
	return f;
}

struct file *space_next_staged(const struct inode_key *after)
{
	struct file want, *f = file_tree_RB_MINMAX(&files, -1);

	if (after) {
		want.key = *after;
		f = file_tree_RB_NFIND(&files, &want);
		if (f && !inode_key_cmp(f->key, *after))
			f = file_tree_RB_NEXT(f);
	}
	while (f && !f->segments)
		f = file_tree_RB_NEXT(f);
	return f;
}

void space_file_put(struct file *f)
{
	if (f->areas || f->segments)
		return;
	file_tree_RB_REMOVE(&files, f);
	pool_put(&file_pool, f);
}

struct lot *space_lot_new(struct file *f, const int pair[2])
{
	struct lot *l = pool_get(&lot_pool);

	if (!l)
		return NULL;
	l->pair[0] = pair[0];
	l->pair[1] = pair[1];
	l->areas = 1;
	l->next = f->lots;
	f->lots = l;
	space.parked++;
	return l;
}

void space_lot_hold(struct lot *l)
{
	if (l)
		l->areas++;
}

/* What is parked in flight goes with the sockets, and takes no lock along. */
void space_lot_put(struct file *f, struct lot *l)
{
	struct lot **at = &f->lots;

	if (!l || --l->areas)
		return;
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	ownfd_close(l->pair[0]);
	ownfd_close(l->pair[1]);
	pool_put(&lot_pool, l);
	space.parked--;
}

void space_made_from(struct area *a, int fd, struct lot *l)
{
	space_lot_hold(l);
	space_lot_put(a->file, a->lot);
	a->fd = fd;
	a->lot = l;
}

static int split(uintptr_t at)
{
	struct area *made;
	int err = areas_split(&space.areas, at, &made);

	if (made) {
		made->file->areas++;
		space_lot_hold(made->lot);
		if (made->seg)
			made->seg->areas++;
		atomic_fetch_add(&space.tracked, 1);
	}
	return err;
}

int space_move(uintptr_t start, uintptr_t end, uintptr_t to, struct segment **ret_orphans)
{
	struct area *a, *next;
	int err;

	err = space_set(to, to + (end - start), NULL, 0, ret_orphans);
	if (!err)
		err = split(start);
	if (!err)
		err = split(end);
	if (err)
		return err;
	for (a = areas_first(&space.areas, start, end); a; a = next) {
		next = areas_next(a, end);
		areas_shift(&space.areas, a, to - start);
	}
	return 0;
}

static void forget(struct area *a, struct segment **ret_orphans)
{
	struct segment *s = a->seg;
	struct file *f = a->file;

	if (s && s->areas == 1) { /* still of use if the keeper dies now */
		s->saved = a->saved;
		s->saved_len = a->end - a->start;
		s->saved_off = a->off;
	} else if (a->saved) {
		kept_drop(s, a->off, a->saved, a->end - a->start);
	}
	space_lot_put(f, a->lot);
	areas_remove(&space.areas, a);
	atomic_fetch_sub(&space.tracked, 1);
	f->areas--;
	if (s && --s->areas == 0) {
		segment_unlink(s);
		s->file = NULL;
		s->next = *ret_orphans;
		*ret_orphans = s;
	}
	space_file_put(f);
}

int space_set(uintptr_t start, uintptr_t end, struct file *f, uint64_t off,
	      struct segment **ret_orphans)
{
	struct lot *lot = NULL;
	struct area *a;
	unsigned made = 0;
	int fd = -1, err;

	if (f)
		f->areas++; /* not to lose it below */
	err = split(start);
	if (!err)
		err = split(end);
	if (!err)
		while ((a = areas_first(&space.areas, start, end))) {
			if (a->start == start && a->file == f && a->off == off)
				made = a->made; /* only what stands there changes */
			if (f && a->file == f && fd < 0 && !lot) {
				fd = a->fd;
				space_lot_hold(lot = a->lot);
			}
			forget(a, ret_orphans);
		}
	if (!f)
		return err;
	if (!err && (a = areas_add(&space.areas, start, end, off, f))) {
		a->made = made;
		a->fd = fd;
		a->lot = lot;
		atomic_fetch_add(&space.tracked, 1);
		return 0;
	}
	space_lot_put(f, lot);
	f->areas--;
	space_file_put(f);
	return -ENOMEM;
}

void space_fd_moved(int from, int to)
{
	struct segment *s;
	struct file *f;
	struct lot *l;

	RB_FOREACH(f, file_tree, &files) {
		for (l = f->lots; l; l = l->next)
			for (int i = 0; i < 2; i++)
				if (l->pair[i] == from)
					l->pair[i] = to;
		for (s = f->segments; s; s = s->next) {
			s->memfd = s->memfd == from ? to : s->memfd;
			s->ledger = s->ledger == from ? to : s->ledger;
			s->origin = s->origin == from ? to : s->origin;
		}
	}
}

struct segment *segment_new(void)
{
	struct segment *s = pool_get(&segment_pool);

	if (!s)
		return NULL;
	s->memfd = s->ledger = s->origin = -1;
	atomic_fetch_add(&space.held, 1);
	return s;
}

void segment_link(struct file *f, struct segment *s)
{
	struct segment **at = &f->segments;

	while (*at && (*at)->off < s->off)
		at = &(*at)->next;
	s->file = f;
	s->key = f->key;
	s->next = *at;
	*at = s;
	rise(f->key);
	atomic_fetch_add(&space.staged, 1);
}

void segment_unlink(struct segment *s)
{
	struct segment **at = &s->file->segments;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	fall_at_end(s->key);
	atomic_fetch_sub(&space.staged, 1);
	s->next = NULL;
}

void segment_free(struct segment *s)
{
	if (s->saved)
		kept_drop(s, s->saved_off, s->saved, s->saved_len);
	kept_unhold(s);
	ownfd_close(s->memfd);
	ownfd_close(s->ledger);
	ownfd_close(s->origin);
	pool_put(&segment_pool, s);
	atomic_fetch_sub(&space.held, 1);
}

struct segment *segment_find(struct file *f, uint64_t off, uint64_t end)
{
	struct segment *s;

	for (s = f->segments; s; s = s->next)
		if (s->off < end && s->off + s->len > off)
			return s;
	return NULL;
}
