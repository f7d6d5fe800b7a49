/* SPDX-License-Identifier: MIT */
/* How segments come to the keeper: made for a client that stages, or brought by one that has
 * them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/guarded.h"
#include "keeper/outsiders.h"
#include "keeper/requests.h"

/* Our own description of the file: its position, append mode and reported errors are ours. */
static int reopen(struct stage *s, int passed)
{
	cleanup_fd int fd = -1;
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", passed);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_dev != s->key.dev || st.st_ino != s->key.ino)
		return -ESTALE;
	stage_opened(s, steal_fd(&fd));
	return 0;
}

/* A confinement that we have from the program which started us (Landlock) does not let us open
 * the files of others; descriptors that are passed are not bound by it. Position and append
 * mode are the description's: nothing here depends on the one, and with the other nothing could
 * be written in its place. */
static int take_as_it_is(struct stage *s, int passed)
{
	const int flags = fcntl(passed, F_GETFL);
	int fd;

	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR ||
	    flags & (O_PATH | O_APPEND | O_DIRECT))
		return -EACCES;
	fd = fcntl(passed, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	stage_opened(s, fd);
	return 0;
}

/* -ECONNRESET: it is another keeper that the client is to ask. */
static int open_file(struct stage *s, int passed, uint32_t flags)
{
	int err = reopen(s, passed);

	if ((err != -EACCES && err != -EPERM) || !(flags & FILE_AS_IS))
		return err;
	if (flags & STAGE_OR_LEAVE && make_way())
		return -ECONNRESET;
	return take_as_it_is(s, passed);
}

void stage_opened(struct stage *s, int fd)
{
	struct statfs sfs;

	s->overlay = fstatfs(fd, &sfs) == 0 && sfs.f_type == OVERLAYFS_SUPER_MAGIC;
	s->fd = fd;
	(void)stage_aside(s); /* before anybody listens who opens it */
}

void segment_admit(struct segment *g, uint64_t id, uint64_t run, uint64_t interval_ms)
{
	g->id = id;
	g->run = run;
	g->interval_ms = interval_ms;
	segment_try_now(g);
	keeper.staged += g->len;
	LIST_INSERT_HEAD(&g->stage->segments, g, link);
}

/* What lies in the way may be without users since somebody died, and free in a moment. A
 * process fills one segment at a time: of another one it never got our answer. */
static void clear_the_way(struct stage *s, uint64_t off, uint64_t len, const struct client *c)
{
	struct segment *g;
	bool unused, given_up;

	pthread_mutex_lock(&keeper.lock);
	g = segment_overlapping(s, off, len);
	unused = g && LIST_EMPTY(&g->users);
	if (unused)
		segment_try_now(g);
	given_up = g && g->state == SEGMENT_FILLING && segment_used_by(g, c);
	pthread_mutex_unlock(&keeper.lock);
	if (unused)
		let_go(s);
	else if (given_up)
		segment_let_go(g);
}

int within_file(const struct stage *s, uint64_t off, uint64_t len)
{
	struct stat st;

	if (off % page_size() || len % page_size() || len == 0 || off + len < off)
		return -EINVAL;
	if (fstat(s->fd, &st) < 0)
		return -errno;
	return off + len > page_up((uint64_t)st.st_size) ? -EFAULT : 0;
}

static bool is_taken(struct stage *s, uint64_t off, uint64_t len)
{
	bool taken;

	pthread_mutex_lock(&keeper.lock);
	taken = segment_overlapping(s, off, len) != NULL;
	pthread_mutex_unlock(&keeper.lock);
	return taken;
}

int do_stage(struct stage *s, struct job *j, struct segment **ret)
{
	struct client *c = j->from->client;
	struct msg *m = &j->m;
	struct segment *g;
	int err;

	pthread_mutex_lock(&keeper.lock);
	err = board_error();
	pthread_mutex_unlock(&keeper.lock);
	if (err) /* others could not know */
		return refuse(m, err == -EFBIG ? REASON_FILE_SIZE : REASON_RENDEZVOUS, err);
	clear_the_way(s, m->off, m->len, c);
	err = s->fd >= 0 ? 0 : open_file(s, j->fd[0], m->flags);
	if (err)
		return refuse(m,
			      err == -ESTALE	 ? REASON_CHANGED
			      : is_no_files(err) ? REASON_NO_FILES
						 : REASON_NO_DESCRIPTOR,
			      err);
	outsiders_watch(s);
	err = within_file(s, m->off, m->len);
	if (err)
		return refuse(m, err == -EFAULT ? REASON_PAST_EOF : REASON_BAD_RANGE, err);
	/* First: who was faster maps the file for a moment until the memory shows there. */
	if (is_taken(s, m->off, m->len))
		return refuse(m, REASON_STAGED_ELSEWHERE, -EBUSY);
	if (mapped_elsewhere(s, m->off, m->len, j->from->pid))
		return refuse(m, REASON_IN_USE, -EUSERS);
	pthread_mutex_lock(&keeper.lock);
	if (keeper.leaving && keeper.staged == 0) /* in a moment */
		err = -ECONNRESET;
	else if (m->len > budget_left(c))
		err = refuse(m, REASON_BUDGET, -ENOMEM);
	else
		keeper.staged += m->len;
	pthread_mutex_unlock(&keeper.lock);
	if (err)
		return err;
	err = segment_create(s, m->off, m->len, &g);
	pthread_mutex_lock(&keeper.lock);
	keeper.staged -= m->len; /* reserved above */
	if (!err) {
		if (m->text[0])
			memcpy(s->name, m->text, sizeof(s->name));
		m->id = keeper.next_id++;
		segment_admit(g, m->id, c->run, c->interval_ms);
		segment_use(g, c);
		*ret = g;
	}
	pthread_mutex_unlock(&keeper.lock);
	if (err)
		refuse(m,
		       is_no_files(err) ? REASON_NO_FILES
		       : err == -EFBIG	? REASON_FILE_SIZE
					: REASON_NO_MEMORY,
		       err);
	return err;
}

/* A client that lost its keeper while that sealed the memory, and found no other, goes on in a
 * copy of its own, with the same ledger. The sealed memory, adopted from the guardian, then has
 * nothing that the copy has not. It may be that client's by an answer that it never had. */
static bool succeeds(const struct segment *g, const struct client *c, int ledger)
{
	const struct use *u;

	LIST_FOREACH(u, &g->users, link)
		if (u->client != c)
			return false;
	return g->state == SEGMENT_SEALED && same_inode(g->ledger_fd, ledger);
}

/* Nobody can have changed the client's memory since it was sealed, and what we have took its
 * place: for somebody else, or because it could not be written. */
static bool went_on(const struct segment *g, int memfd, int ledger)
{
	const int seals = fcntl(memfd, F_GET_SEALS); /* -1: no memfd */

	return seals >= 0 && (seals & F_SEAL_WRITE) && same_inode(g->ledger_fd, ledger);
}

/* In memory that can be mapped for writing. */
static int go_on(struct segment *g, struct msg *m, int *ret_memfd)
{
	int err;

	if (!(m->flags & ATTACH_TO_MAP) || g->state != SEGMENT_SEALED)
		return 0;
	err = segment_reopen(g);
	if (err)
		return refuse(m, REASON_NO_MEMORY, err);
	*ret_memfd = g->memfd;
	return 0;
}

int never_to_be_written(struct segment *g)
{
	int err = segment_part_ledger(g);

	if (!err)
		engine_record_bases(g);
	return err;
}

/* A copy has what its client stored since, and otherwise what was in the memory that it was
 * made of. If that was superseded meanwhile, the bases are of its successor, and the file may
 * have what others confirmed: what does not differ from the old memory is not the client's. */
static int know_copy(struct segment *g, int origin)
{
	const unsigned char *mem;
	int err = segment_map_origin(g, origin, &mem);

	if (err || !mem)
		return err;
	engine_record_bases_of(g, mem);
	munmap((void *)(uintptr_t)mem, g->len);
	return 0;
}

/* What the ledger says of memory that no keeper has had. */
static int know_attached(struct segment *g, int origin)
{
	if (segment_is_superseded(g))
		return never_to_be_written(g);
	engine_write_again(g);
	return origin < 0 ? 0 : know_copy(g, origin);
}

/* One that the keeper before had, or that nobody else has. */
static int admit_attached(struct stage *s, struct job *j, struct segment *before,
			  struct segment **ret)
{
	const struct client *c = j->from->client;
	struct segment *g;
	uint64_t id;
	int err;

	err = segment_adopt(s, &j->m, j->fd[1], j->fd[2], &g);
	if (err)
		return refuse(&j->m, REASON_PROTOCOL, err);
	if (!before || before->parted)
		err = know_attached(g, j->fd[3]);
	if (err) {
		segment_free(g);
		return refuse(&j->m, REASON_NO_MEMORY, err);
	}
	pthread_mutex_lock(&keeper.lock);
	memcpy(s->name, j->m.text, sizeof(s->name));
	id = before ? before->id : keeper.next_id++;
	if (before)
		segment_unlink(before);
	segment_admit(g, id, c->run, c->interval_ms);
	s->touched = TOUCHED_ANYWHERE; /* since when, nobody here has seen */
	pthread_mutex_unlock(&keeper.lock);
	if (before)
		segment_free(before);
	/* By the same number, so that the guardian has the one or the other. */
	if (before)
		guarded_keep_anyhow(g);
	else if (guarded_keep(g))
		(void)eventfd_write(keeper.event, 1); /* the main thread tries again */
	segment_is_current(g);
	*ret = g;
	return 0;
}

/*
 * A segment that outlived another keeper, or that came to this client by fork(). Its ledger
 * says what file and memory last agreed on. *ret_memfd: of memory that the client has to take
 * instead of its own.
 */
int do_attach(struct stage *s, struct job *j, int *ret_memfd)
{
	struct segment *g = NULL, *before;
	struct msg *m = &j->m;
	int err;

	err = s->fd >= 0 ? 0 : open_file(s, j->fd[0], m->flags & FILE_AS_IS);
	if (err)
		return refuse(m, REASON_NO_DESCRIPTOR, err);
	pthread_mutex_lock(&keeper.lock);
	before = segment_overlapping(s, m->off, m->len);
	if (before && same_inode(before->memfd, j->fd[1])) {
		g = before;
	} else if (before && went_on(before, j->fd[1], j->fd[2])) {
		g = before;
		*ret_memfd = g->memfd;
	} else if (before && !succeeds(before, j->from->client, j->fd[2])) {
		err = refuse(m, REASON_STAGED_ELSEWHERE, -EBUSY);
	}
	pthread_mutex_unlock(&keeper.lock);
	if (!err && !g)
		err = admit_attached(s, j, before, &g);
	if (!err)
		err = go_on(g, m, ret_memfd);
	if (err)
		return err;
	pthread_mutex_lock(&keeper.lock);
	segment_use(g, j->from->client);
	m->id = g->id;
	pthread_mutex_unlock(&keeper.lock);
	return 0;
}
