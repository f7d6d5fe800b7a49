/* SPDX-License-Identifier: MIT */
#include "lib/resume.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/exchange.h"
#include "lib/keeper.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/unseal.h"
#include "lib/wake.h"

static void unmap_prepared(struct exchange *x)
{
	for (size_t i = 0; i < x->n; i++) {
		if (x->place[i].span.forward)
			real.munmap(x->place[i].span.forward, x->place[i].span.len);
		if (x->place[i].span.backward)
			real.munmap(x->place[i].span.backward, x->place[i].span.len);
	}
}

/* Forward: the other memory. Backward: what stands there now, to wake those who sleep on it. */
static int prepare(struct exchange *x)
{
	for (size_t i = 0; i < x->n; i++) {
		struct place *p = &x->place[i];

		p->span.forward = exchange_map_segment(x, p);
		if (!p->span.forward)
			return -ENOMEM;
		p->span.backward = p->flags & VMA_READ ? exchange_map_again(p) : NULL;
	}
	return 0;
}

/* No curtain: nobody can store to what stands there, and the other memory reads the same.
 * Halfway there is no way back; room for the mappings was looked after. */
static void move(struct exchange *x)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (size_t i = 0; i < x->n; i++) {
		struct place *p = &x->place[i];

		while (real.mremap(p->span.forward, p->span.len, p->span.len,
				   MREMAP_MAYMOVE | MREMAP_FIXED, p->span.addr) == MAP_FAILED)
			nanosleep(&pause, NULL);
		p->span.forward = NULL;
		exchange_lock(p->span.addr, p->span.len, p->flags);
	}
}

static void wake_all(struct exchange *x)
{
	struct wake_span *w = scratch_get(x->scratch, x->n * sizeof(*w));
	size_t n = 0;

	for (size_t i = 0; w && i < x->n; i++)
		if (x->place[i].span.backward)
			w[n++] = (struct wake_span){ (uintptr_t)x->place[i].span.addr,
						     x->place[i].span.len,
						     x->place[i].span.backward };
	wake_sleepers(w, n);
}

/* All of the segment's places show `memfd` from here on, which becomes ours; or nothing has
 * changed. */
static int go_on_in(struct segment *s, int memfd)
{
	struct exchange x = {
		.s = s, .f = s->file, .off = s->off, .end = s->off + s->len, .memfd_ro = -1
	};
	struct segment other = *s;
	struct scratch scratch;
	int err;

	other.memfd = memfd;
	if (scratch_open(&scratch) < 0)
		return -ENOMEM;
	x.scratch = &scratch;
	err = s->areas ? exchange_find_staged(&x) : 0;
	if (!err) {
		x.s = &other;
		err = prepare(&x);
		if (!err) {
			move(&x);
			wake_all(&x);
		}
		unmap_prepared(&x);
	}
	exchange_close(&x);
	scratch_close(&scratch);
	if (err)
		return err;
	ownfd_close(s->memfd);
	s->memfd = memfd;
	exchange_identify(s);
	return 0;
}

int resume_alone(struct segment *s)
{
	int memfd = segment_copy(s), err;

	if (memfd < 0)
		return memfd;
	err = go_on_in(s, memfd);
	if (err)
		ownfd_close(memfd);
	return err;
}

static void leave(uint64_t id)
{
	enum reason why;
	struct msg m;

	msg_init(&m, MSG_RELEASE);
	m.id = id;
	m.flags = RELEASE_VISIT;
	(void)keeper_call(&m, NULL, 0, NULL, &why);
}

/* What others went on in, another child of our parent's for one. */
static int join_others(struct segment *s, struct custody *c, enum reason *ret_why)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, memfd, ledger, err;
	struct msg m;

	msg_init(&m, MSG_JOIN);
	m.key = s->key;
	m.off = s->off;
	m.len = s->len;
	err = keeper_call_via(&m, custody_send, c, fds, ret_why);
	memfd = ownfd_adopt(fds[0]);
	ledger = ownfd_adopt(fds[1]);
	if (err)
		return err == -EAGAIN ? -EBUSY : err;
	if (m.off != s->off || m.len != s->len) {
		/* It goes on as a part of something else: the keeper is asked again. */
		*ret_why = REASON_STAGED_ELSEWHERE;
		err = -EBUSY;
	} else {
		err = memfd < 0 || ledger < 0 ? -EMFILE : go_on_in(s, memfd);
	}
	if (err) {
		ownfd_close(memfd);
		ownfd_close(ledger);
		leave(m.id);
		return err;
	}
	ownfd_close(s->ledger);
	s->ledger = ledger;
	s->id = m.id;
	return 0;
}

int resume_sealed(struct segment *s, struct custody *c, bool *ret_told, enum reason *ret_why)
{
	int err;

	*ret_told = false;
	if (!segment_sealed(s))
		return 0;
	err = join_others(s, c, ret_why);
	*ret_told = !err;
	return err == -ENOENT ? resume_alone(s) : err;
}
