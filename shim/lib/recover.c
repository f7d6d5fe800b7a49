/* SPDX-License-Identifier: MIT */
#include "lib/recover.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "lib/custody.h"
#include "lib/keeper.h"
#include "lib/log.h"
#include "lib/ownfd.h"
#include "lib/stage.h"
#include "lib/unseal.h"

#define TRIES 40

struct attach {
	struct custody c;
	struct segment *s;
};

static int attach_send(int sock, struct msg *m, void *arg)
{
	const struct attach *a = arg;
	const int more[] = { a->s->memfd, a->s->ledger, a->s->origin };
	const bool origin = a->s->origin >= 0 && keeper_takes_origin();

	return custody_send_with(sock, m, &a->c, more, origin ? 3 : 2);
}

static int attach(struct attach *a, const char *path, uint32_t flags, enum reason *ret_why)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, err;
	struct msg m, request;

	msg_init(&m, MSG_ATTACH);
	m.key = a->s->key;
	m.off = a->s->off;
	m.len = a->s->len;
	m.flags = flags;
	snprintf(m.text, sizeof(m.text), "%.*s", (int)sizeof(m.text) - 1, path);
	request = m;
	err = keeper_call_via(&m, attach_send, a, fds, ret_why);
	/* One that is more confined than whoever opened the file: what was stored is the file's
	 * all the same. */
	if (custody_denied(err, *ret_why)) {
		a->c.anew = a->c.or_as_it_is = true;
		m = request;
		m.flags |= FILE_AS_IS;
		err = keeper_call_via(&m, attach_send, a, fds, ret_why);
	}
	if (!err) {
		a->s->id = m.id;
		ownfd_close(a->s->origin);
		a->s->origin = -1;
	}
	if (fds[0] >= 0)
		segment_goes_on_in(a->s, fds[0]);
	return err;
}

/* The file's own mapping is kept aside for every place where a segment stands: it proves which
 * file it is, and is a way to a descriptor. */
static int recover_by(struct segment *s, uintptr_t saved, uint32_t flags, enum reason *ret_why)
{
	struct attach a = { .s = s };
	struct scratch scratch;
	int err, tries = 0;
	char path[4096];
	struct vma v;

	if (scratch_open(&scratch) < 0)
		return -ENOMEM;
	err = stage_vma_at(saved, &v, path, sizeof(path), &scratch);
	if (!err && !vma_is_of(&v, s->file_id)) {
		*ret_why = REASON_CHANGED;
		err = -ESTALE;
	}
	if (!err) {
		do {
			err = custody_find(&a.c, &v, path, s->file, &scratch, ret_why);
			if (!err)
				err = attach(&a, path, flags, ret_why);
		} while (custody_vanished(&a.c, err, &tries));
	}
	scratch_close(&scratch);
	return err;
}

int recover_segment(struct segment *s, uintptr_t saved, enum reason *ret_why)
{
	return recover_by(s, saved, 0, ret_why);
}

int recover_to_map(struct segment *s, uintptr_t saved, enum reason *ret_why)
{
	return recover_by(s, saved, ATTACH_TO_MAP, ret_why);
}

/* What a device has, and no mapping: a descriptor that the program has of the file must do. It
 * is the keeper's alone again then, to be let go of when the device is done. */
static int recover_idle(struct segment *s, enum reason *ret_why)
{
	const struct vma v = { .dev = s->file_id.dev, .ino = s->file_id.ino, .off = s->off };
	struct attach a = { .s = s };
	char link[64], path[4096] = "";
	struct scratch scratch;
	struct msg m;
	int err;

	if (scratch_open(&scratch) < 0)
		return -ENOMEM;
	err = custody_find(&a.c, &v, path, s->file, &scratch, ret_why);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", a.c.fd);
	if (!err && a.c.fd >= 0)
		(void)!readlink(link, path, sizeof(path) - 1);
	if (!err)
		err = attach(&a, path, 0, ret_why);
	scratch_close(&scratch);
	if (err || s->joined)
		return err;
	segment_message(&m, MSG_RELEASE, s);
	err = keeper_call(&m, NULL, 0, NULL, ret_why);
	return err == -EBUSY || err == -ENOENT ? 0 : err;
}

static bool lost(int err)
{
	return err == -EPIPE || err == -ECONNRESET;
}

/* A child has nothing to tell of what MADV_DONTFORK keeps from it: neither the segment's memory
 * nor the file's own mapping is there. */
static bool not_inherited(const struct area *a)
{
	struct scratch scratch;
	struct vma v;
	bool memory, file;

	if (!space.inherited || scratch_open(&scratch) < 0)
		return false;
	memory =
		!stage_vma_at(a->start, &v, NULL, 0, &scratch) && vma_is_of(&v, a->seg->mem_id);
	scratch_close(&scratch);
	if (memory || scratch_open(&scratch) < 0)
		return false;
	file = !stage_vma_at(a->saved, &v, NULL, 0, &scratch) && vma_is_of(&v, a->seg->file_id);
	scratch_close(&scratch);
	return !file;
}

static void say_lost(const struct segment *s, int err, enum reason why)
{
	char name[512];

	log_event(
		EV_ERROR,
		"file=\"%s\" offset=%lu len=%lu errno=%d reason=\"the keeper is gone and another "
		"cannot take over: %s\" remedy=\"%s\"",
		stage_name_of(s, name, sizeof(name)), s->off, s->len, -err, reason_text(why),
		reason_remedy(why));
}

/* One that nobody can have any more is no reason to keep the others back. One that the same
 * keeper has from us or, in a forked child, from our parent, needs no telling, for which there
 * may be no descriptor left. */
static int attach_idle(enum reason *ret_why)
{
	struct inode_key key;
	struct segment *s;
	struct file *f;
	int err;

	for (f = space_next_staged(NULL); f; f = space_next_staged(&key)) {
		key = f->key;
		for (s = f->segments; s; s = s->next) {
			if (s->areas || (s->joined && !s->idle) || segment_sealed(s) ||
			    (!s->joined && s->had_by == keeper_met()))
				continue;
			err = recover_idle(s, ret_why);
			if (lost(err))
				return err;
			if (err)
				say_lost(s, err, *ret_why);
		}
	}
	return 0;
}

static int attach_all(enum reason *ret_why)
{
	struct segment *done = NULL;
	struct area *a;
	int err, first = 0;

	/* Segments have few areas, side by side more often than not. */
	for (a = areas_first(&space.areas, 0, UINTPTR_MAX); a; a = areas_next(a, UINTPTR_MAX)) {
		if (!a->seg || a->seg == done)
			continue;
		err = recover_segment(a->seg, a->saved, ret_why);
		if (err && not_inherited(a))
			continue; /* the segment may show elsewhere */
		done = a->seg;
		if (lost(err) || err == -EBUSY)
			return err;
		if (err)
			say_lost(a->seg, err, *ret_why);
		first = first ? first : err;
	}
	err = attach_idle(ret_why);
	return first ? first : err;
}

/* The keeper that we meet may die, too: then the next one is told everything. Another thread
 * may have done it while we waited for the lock. */
static int tell(enum reason *ret_why)
{
	int err = keeper_connect(ret_why);
	uint64_t instance = keeper_met();

	if (!err && !keeper_is_told())
		err = attach_all(ret_why);
	if (!err && instance != keeper_met())
		return -ECONNRESET;
	if (!err)
		keeper_told(instance);
	return err;
}

/* -EBUSY: what the keeper has of an earlier keeper's is let go of first. */
int recover(enum reason *ret_why)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	struct space_guard g;
	bool locked = space_lock(&g);
	int err = -EPIPE;

	if (!locked && !space_inside())
		return -ECHILD;
	for (int tries = 0; tries < TRIES; tries++) {
		err = tell(ret_why);
		if (err == -EBUSY)
			nanosleep(&pause, NULL);
		else if (!lost(err))
			break;
	}
	if (locked)
		space_unlock(&g);
	return err;
}
