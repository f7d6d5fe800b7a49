/* SPDX-License-Identifier: MIT */
#include "lib/fill.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/newer.h"
#include "lib/keeper.h"
#include "lib/real.h"

#define FILL_CHUNK (1UL << 20)
#define PIECE	   (4UL << 20) /* what is worth a message */

static bool fill_from(const struct place *p)
{
	const unsigned both = VMA_READ | VMA_WRITE;

	return !p->neighbour && (p->flags & both) == both;
}

/* RLIMIT_FSIZE is about the program's own writes, but would stop ours to a memfd, too, and with
 * a signal. Copying between two mappings is not subject to it, and slower. */
static ssize_t fill_chunk(struct exchange *x, const struct place *p, uint64_t at, size_t len,
			  bool limited)
{
	struct iovec from = { (char *)p->saved + (at - p->off), len };
	struct iovec to = { (char *)p->span.forward + (at - p->off), len };

	if (limited)
		return process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	return real.pwrite(x->s->memfd, from.iov_base, len, (off_t)(at - x->s->off));
}

void fill_let_go(void *from, size_t len)
{
	(void)real.madvise(from, len, MADV_DONTNEED);
	(void)real.madvise(from, len, MADV_COLD); /* empties those lists first */
}

/* The keeper deals with what is copied while we copy the rest; *told grows. Of the old pages,
 * only what was copied from is mapped there. */
static void say_copied(struct exchange *x, const struct place *p, uint64_t *told, uint64_t at)
{
	const uint64_t from = MAX(*told, p->off);
	struct msg m;

	if (!keeper_takes_copied())
		return;
	fill_let_go((char *)p->saved + (from - p->off), at - from);
	msg_init(&m, MSG_COPIED);
	m.id = x->s->id;
	m.off = x->s->off; /* all of it up to here: what it could not evict goes with the next
			    */
	m.len = at - x->s->off;
	keeper_tell(&m);
	*told = at;
}

/* Copies by write(): a page that vanished with a truncation is EFAULT there, not SIGBUS. Every
 * page of the segment shows at some place; the parts are taken where they are found first. */
int fill_segment(struct exchange *x)
{
	uint64_t at = x->s->off, end = x->s->off + x->s->len, stop, told = at;
	struct rlimit limit;
	bool limited;
	size_t i;
	ssize_t n;

	limited = getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
	while (at < end) {
		for (i = 0; i < x->n; i++)
			if (fill_from(&x->place[i]) && at >= x->place[i].off &&
			    at < x->place[i].off + x->place[i].span.len)
				break;
		if (i == x->n)
			return -EFAULT;
		stop = MIN(end, x->place[i].off + x->place[i].span.len);
		while (at < stop) {
			n = fill_chunk(x, &x->place[i], at, MIN(stop - at, FILL_CHUNK),
				       limited);
			if (n <= 0)
				return n < 0 ? -errno : -EIO;
			at += (uint64_t)n;
			if (page_down(at) - told >= PIECE && at < end)
				say_copied(x, &x->place[i], &told, page_down(at));
		}
	}
	return 0;
}
