/* SPDX-License-Identifier: MIT */
#include "lib/join.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/board.h"
#include "lib/custody.h"
#include "lib/keeper.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/reconcile.h"
#include "lib/recover.h"
#include "lib/stage.h"

/* Filling takes as long as copying and evicting do, and up to seconds where somebody reads or
 * writes the range directly. Longer than this, whoever does it was stopped. */
#define FILLING_MS 15000

struct joining {
	struct file *f;
	int fd;
	const char *name; /* as seen from fd, a directory; or NULL */
	uintptr_t addr;
	struct custody c;
	bool found;	 /* c */
	char path[4096]; /* c's, if that is by name */
	bool visit;
	uint64_t waited_ms;
};

static int find_custody(struct joining *n)
{
	struct scratch scratch;
	enum reason why;
	struct vma v;
	int err;

	if (n->name) {
		n->c = (struct custody){
			.fd = -1, .lot = -1, .path = n->name, .named = true, .dir = n->fd
		};
		return 0;
	}
	if (n->fd >= 0) {
		n->c = (struct custody){ .fd = n->fd, .lot = -1 };
		return 0;
	}
	if (scratch_open(&scratch) < 0)
		return -ENOMEM;
	err = stage_vma_at(n->addr, &v, n->path, sizeof(n->path), &scratch);
	if (!err)
		err = custody_find(&n->c, &v, n->path, n->f, &scratch, &why);
	scratch_close(&scratch);
	return err;
}

static int ask(struct joining *n, uint64_t off, uint64_t end, unsigned flags, struct msg *m,
	       int *fds)
{
	enum reason why;
	int err = -EPIPE;

	for (int tries = 0; tries < 3 && (err == -EPIPE || err == -ECONNRESET); tries++) {
		if (tries && recover(&why) < 0)
			break;
		msg_init(m, MSG_JOIN);
		m->key = n->f->key;
		m->off = off;
		m->len = end - off;
		m->flags = flags;
		err = keeper_call_via(m, custody_send, &n->c, fds, &why);
	}
	return err;
}

static bool same_memory(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino &&
	       x.st_dev == y.st_dev;
}

/* Memory that is not shown here, and for which the keeper has other memory, or none: the file
 * has it, and it goes. What no keeper could take over is all there is of it. */
static int drop_stale(struct file *f, uint64_t off, uint64_t end)
{
	struct segment *s;

	while ((s = segment_find(f, off, end))) {
		if (s->areas || s->saved)
			return -EBUSY;
		segment_unlink(s);
		segment_free(s);
	}
	return 0;
}

static int take(struct file *f, const struct msg *m, int memfd, int ledger)
{
	struct segment *s = segment_find(f, m->off, m->off + m->len);
	int err;

	if (s && s->off == m->off && s->len == m->len && same_memory(s->memfd, memfd)) {
		ownfd_close(memfd);
		ownfd_close(ledger);
		s->idle = !s->areas && !s->joined;
	} else {
		err = drop_stale(f, m->off, m->off + m->len);
		s = err ? NULL : segment_new();
		if (!s) {
			ownfd_close(memfd);
			ownfd_close(ledger);
			return err ? err : -ENOMEM;
		}
		s->off = m->off;
		s->len = m->len;
		s->memfd = memfd;
		s->ledger = ledger;
		segment_link(f, s);
	}
	s->id = m->id;
	s->joined = true;
	return 0;
}

static void wait_for_filling(struct joining *n)
{
	const long ms = n->waited_ms < 50 ? 1 : 20;
	const struct timespec pause = { .tv_nsec = ms * 1000 * 1000 };

	nanosleep(&pause, NULL);
	n->waited_ms += (uint64_t)ms;
}

/* The next segment in [*off, end); *off moves behind it. */
static int join_next(struct joining *n, uint64_t *off, uint64_t end)
{
	const unsigned flags =
		(n->waited_ms > FILLING_MS ? JOIN_BREAK : 0) | (n->visit ? JOIN_VISIT : 0);
	int fds[PROTO_FDS] = { -1, -1, -1 }, memfd, ledger, err;
	struct msg m;

	err = ask(n, *off, end, flags, &m, fds);
	memfd = ownfd_adopt(fds[0]);
	ledger = ownfd_adopt(fds[1]);
	if (err == -EAGAIN) {
		wait_for_filling(n);
		return 0;
	}
	if (err == -ENOENT) {
		err = drop_stale(n->f, *off, end);
		*off = end;
		return err;
	}
	if (!err &&
	    (memfd < 0 || ledger < 0 || m.len == 0 || m.off >= end || m.off + m.len <= *off))
		err = -EMFILE;
	/* Before the first one that the keeper has there is none. */
	if (!err && m.off > *off)
		err = drop_stale(n->f, *off, m.off);
	if (err) {
		ownfd_close(memfd);
		ownfd_close(ledger);
		return err;
	}
	*off = m.off + m.len;
	return take(n->f, &m, memfd, ledger);
}

static int join_range_by(struct file *f, int fd, const char *name, uintptr_t addr, bool visit,
			 uint64_t off, uint64_t end)
{
	struct joining n;
	struct segment *s;
	uint64_t stop;
	int err = 0;

	if (!f->segments && !board_lists(f->key))
		return 0;
	space_expect(f->key);
	n.f = f;
	n.fd = fd;
	n.name = name;
	n.addr = addr;
	n.found = false;
	n.visit = visit;
	n.waited_ms = 0;
	while (off < end && !err) {
		/* Those that are ours already, and what lies between. */
		for (s = f->segments; s; s = s->next)
			if ((s->areas || s->joined) && s->off + s->len > off)
				break;
		if (s && s->off <= off) {
			off = s->off + s->len;
			continue;
		}
		stop = s ? MIN(s->off, end) : end;
		if (!n.found)
			err = find_custody(&n);
		n.found = !err;
		if (!err)
			err = join_next(&n, &off, stop);
	}
	return err;
}

int join_range(struct file *f, int fd, uintptr_t addr, uint64_t off, uint64_t end)
{
	return join_range_by(f, fd, NULL, addr, false, off, end);
}

void join_leave(struct file *f, bool visit)
{
	struct segment *s, *next;
	enum reason why;
	struct msg m;
	int err;

	for (s = f->segments; s; s = next) {
		next = s->next;
		if (s->areas || !s->joined)
			continue;
		segment_message(&m, MSG_RELEASE, s);
		m.flags = visit ? RELEASE_VISIT : 0;
		/* If the keeper is gone, whoever shows it brings it to the next one. */
		err = keeper_call(&m, NULL, 0, NULL, &why);
		s->joined = false;
		if (err == -EBUSY && s->idle)
			continue; /* a device still writes to it: as before the visit */
		segment_unlink(s);
		segment_free(s);
	}
}

static void visit_range(struct join_visit *v, uint64_t off, uint64_t end)
{
	if (!v->f) {
		/* Records of our parent's may be of memory that we have not, or of what it has
		 * given back since. */
		reconcile_inherited();
		v->f = space_file(v->key, false);
		if (!(v->f && v->f->segments) && !board_lists(v->key)) {
			v->f = NULL;
			return;
		}
		v->f = v->f ? v->f : space_file(v->key, true);
		if (!v->f)
			return;
		v->f->areas++; /* for as long as the visit lasts */
	}
	(void)join_range_by(v->f, v->fd, v->path, 0, true, off, end);
}

void join_visit(struct join_visit *v)
{
	if (v->off < v->end)
		visit_range(v, v->off, v->end);
}

void join_visit_more(struct join_visit *v, uint64_t off, uint64_t end)
{
	if (!v->f || off < v->off || end > v->end)
		visit_range(v, off, end);
}

void join_end_visit(struct join_visit *v)
{
	if (!v->f)
		return;
	join_leave(v->f, true);
	v->f->areas--;
	space_file_put(v->f);
	v->f = NULL;
}
