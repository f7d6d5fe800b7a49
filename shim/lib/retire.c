/* SPDX-License-Identifier: MIT */
/*
 * Giving a segment back: the keeper carries the last changes to the file, and the file's own
 * mapping, kept aside, shows again where the segment stood.
 */
#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/exchange.h"
#include "lib/keeper.h"
#include "lib/kept.h"
#include "lib/log.h"
#include "lib/real.h"
#include "lib/recover.h"
#include "lib/stage.h"
#include "lib/unseal.h"
#include "lib/wake.h"

#define KEEPERS_MOST 8 /* that may die over one request */

static int protect(const struct place *p)
{
	const int prot = exchange_prot(p->flags);

	return p->pkey ? real.pkey_mprotect(p->saved, p->span.len, prot, (int)p->pkey)
		       : real.mprotect(p->saved, p->span.len, prot);
}

static int prepare_retire(struct exchange *x)
{
	size_t i;

	for (i = 0; i < x->n; i++) {
		struct place *p = &x->place[i];

		p->span.backward =
			NULL; /* made by back_to_segment(): no seal while it is there */
		p->span.forward = p->saved;
		(void)real.munlock(p->saved, p->span.len); /* mlockall() found it, too */
		if (protect(p) < 0)
			return exchange_fail(&x->why, REASON_NO_MEMORY, -ENOMEM);
	}
	return 0;
}

/* Where it is refused, the memory may have been sealed already, and goes on in another memfd.
 */
static int ask_to_retire(struct exchange *x)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, err; /* the keeper may be gone before it answers */
	struct msg m;

	segment_message(&m, MSG_RETIRE, x->s);
	err = keeper_ask(&m, fds, &x->why);
	if (fds[0] >= 0)
		segment_goes_on_in(x->s, fds[0]);
	return err;
}

/* Or it is another one, which knows nothing of the segment. */
static bool keeper_gone(const struct exchange *x, int err)
{
	return err && (x->why == REASON_KEEPER_LOST || err == -ENOENT);
}

/* A keeper that died over it, or one that took us for dead, may have sealed the memory: if the
 * curtain opened onto a copy now, what is stored there would be nobody else's. So the next
 * keeper is told, and asked, first. */
static int act_retire(void *arg)
{
	struct exchange *x = arg;
	int err;

	kept_unhold(x->s);
	err = ask_to_retire(x);
	for (int tries = 1; tries < KEEPERS_MOST && keeper_gone(x, err); tries++) {
		err = recover_segment(x->s, (uintptr_t)x->place[0].saved, &x->why);
		if (!err)
			err = ask_to_retire(x);
	}
	return err;
}

/* Until one lives long enough to answer. */
static int tell_keeper(struct exchange *x,
		       int (*how)(struct segment *s, uintptr_t saved, enum reason *ret_why))
{
	enum reason why = REASON_KEEPER_LOST;
	int err = -EPIPE;

	for (int tries = 0; tries < KEEPERS_MOST && err && why == REASON_KEEPER_LOST; tries++) {
		why = REASON_NONE;
		err = how(x->s, (uintptr_t)x->place[0].saved, &why);
	}
	return err;
}

/* In memory that the keeper has: it may be another client's meanwhile, too. */
static bool take_from_keeper(struct exchange *x)
{
	return tell_keeper(x, recover_to_map) == 0 && !segment_sealed(x->s);
}

/* A keeper that died may have sealed the memory, before it answered or, where we do not show
 * it, after. True: none was to be had, and it goes on in a copy of its own. */
static bool make_mappable(struct exchange *x)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	bool copied = false;

	for (;; nanosleep(&pause, NULL)) {
		if (segment_sealed(x->s) && !take_from_keeper(x) && segment_unseal(x->s) == 0)
			copied = true;
		if (!segment_sealed(x->s) && exchange_identify(x->s) == 0)
			return copied;
	}
}

/* One that had no memory to give may take it. Otherwise the next need of a keeper tells it. */
static void tell_of_copy(struct exchange *x)
{
	if (tell_keeper(x, recover_segment) < 0)
		keeper_told(0);
}

/* Threads wait for these mappings, and there is nothing else that could stand there. */
static void back_to_segment(void *arg)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	struct exchange *x = arg;
	bool copied, said = false;

	copied = make_mappable(x);
	for (size_t i = 0; i < x->n; i++) {
		while (!(x->span[i].backward = exchange_map_segment(x, &x->place[i]))) {
			if (!said)
				log_event(
					EV_ERROR,
					"call=mmap errno=%d reason=\"cannot open the curtain; "
					"threads wait\" remedy=\"raise vm.max_map_count\"",
					errno);
			said = true;
			nanosleep(&pause, NULL);
			copied |= make_mappable(x);
		}
	}
	if (copied)
		tell_of_copy(x);
}

/* The memory is sealed and can still be mapped from a read-only description. */
static void wake_those_on_segment(struct exchange *x)
{
	struct wake_span *w = scratch_get(x->scratch, x->n * sizeof(*w));
	const struct place *p;
	size_t i, n = 0;

	for (i = 0; w && i < x->n; i++) {
		p = &x->place[i];
		w[n].addr = (uintptr_t)p->span.addr;
		w[n].len = p->span.len;
		w[n].old = exchange_map_to_read(x, p, PROT_READ);
		n += w[n].old != NULL;
	}
	wake_sleepers(w, n);
	for (i = 0; i < n; i++)
		real.munmap(w[i].old, w[i].len);
}

static void record_retired(struct exchange *x)
{
	struct area *a;

	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX)) {
		if (a->seg == x->s) {
			a->seg = NULL;
			a->saved = 0;
		}
	}
	x->s->areas = 0;
}

int stage_retire(struct segment *s, enum reason *ret_why)
{
	struct exchange x = {
		.s = s, .f = s->file, .off = s->off, .end = s->off + s->len, .memfd_ro = -1
	};
	struct scratch scratch;
	char name[512] = "";
	int err;

	/* A forked child may not have talked to the keeper yet, or the keeper be a new one. */
	err = stage_keeper_ready(ret_why);
	if (err)
		return err;
	if (scratch_open(&scratch) < 0)
		return exchange_fail(ret_why, REASON_NO_MEMORY, -ENOMEM);
	x.scratch = &scratch;
	if (log_wanted())
		(void)stage_name_of(s, name, sizeof(name));
	err = exchange_find_staged(&x);
	if (!err) {
		err = prepare_retire(&x);
		if (!err)
			err = exchange_run(&x, act_retire, back_to_segment);
		exchange_unmap_backward(&x, false);
		for (size_t i = 0; i < x.n && err; i++)
			exchange_hide(x.place[i].saved, x.place[i].span.len);
	}
	if (!err)
		wake_those_on_segment(&x);
	exchange_close(&x);
	if (!err) {
		log_event(EV_RETIRE, "file=\"%s\" offset=%lu len=%lu", name, s->off, s->len);
		record_retired(&x);
		segment_unlink(s);
		segment_free(s);
	}
	scratch_close(&scratch);
	*ret_why = x.why;
	return err;
}
