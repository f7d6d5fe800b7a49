/* SPDX-License-Identifier: MIT */
/* What is asked: the main thread answers what it knows, and posts the rest to the stage's lane.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"
#include "keeper/server.h"

/* One that is left of a run; one that cannot be written before others. */
static struct segment *segment_of_run(uint64_t run)
{
	struct segment *g, *found = NULL;
	struct stage *s;

	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link)
			if (g->run == run && (!found || s->error))
				found = g;
	return found;
}

/* Answers those who wait for the end of a run, if it has come or their time is up. */
void check_waiters(void)
{
	struct waiter *w, *next;
	struct segment *g;
	struct msg m;

	for (w = LIST_FIRST(&keeper.waiters); w; w = next) {
		next = LIST_NEXT(w, link);
		g = segment_of_run(w->run);
		if (g && now_ms() < w->deadline)
			continue;
		msg_init(&m, MSG_WAIT);
		if (g) {
			m.error = g->stage->error ? g->stage->error : -EBUSY;
			m.reason = g->stage->error ? REASON_WRITE_BACK : REASON_IN_USE;
			memcpy(m.text, g->stage->name, sizeof(m.text));
		}
		answer(w->from, &m, NULL, 0);
		LIST_REMOVE(w, link);
		free(w);
	}
}

static void wait_for_run(struct conversation *c, const struct msg *m)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	w->from = c;
	w->run = m->run;
	w->deadline = now_ms() + MIN(m->arg[0], (uint64_t)24 * 3600 * 1000);
	LIST_INSERT_HEAD(&keeper.waiters, w, link);
	check_waiters();
}

/* That we can open it once more says nothing of what the client may do: O_PATH takes no right
 * to the file, and a confinement (Landlock) does not forbid it.
 */
static bool may_write(int fd)
{
	const int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && !(flags & O_PATH);
}

/* What is known of it without asking the file system, which may not answer (NFS, FUSE). A
 * filter on system calls may know no statx(). */
static bool is_file(int fd, struct inode_key *ret)
{
	struct statx sx;
	struct stat st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &sx) ==
	    0) {
		*ret = (struct inode_key){ makedev(sx.stx_dev_major, sx.stx_dev_minor),
					   sx.stx_ino };
		return S_ISREG(sx.stx_mode);
	}
	if (errno == EBADF || fstat(fd, &st) < 0)
		return false;
	*ret = (struct inode_key){ st.st_dev, st.st_ino };
	return S_ISREG(st.st_mode);
}

/* The stage that a request is about, or NULL. Only the descriptor says which file STAGE means.
 */
static struct stage *stage_of(struct msg *m, int fd, int *ret_err)
{
	struct inode_key key;
	struct segment *g;

	*ret_err = -ENOENT;
	switch (m->type) {
	case MSG_STAGE:
	case MSG_ATTACH:
	case MSG_JOIN:
		*ret_err = -EBADF;
		if (fd < 0 || !is_file(fd, &key) || (m->type != MSG_JOIN && !may_write(fd)))
			return NULL;
		*ret_err = -ESTALE;
		if (inode_key_cmp(key, m->key))
			return NULL;
		*ret_err = -ENOENT;
		return stage_find(m->key, m->type != MSG_JOIN);
	case MSG_SYNC:
		*ret_err = m->flags & SYNC_OTHERS ? 0 : -ENOENT;
		return stage_find(m->key, false);
	case MSG_WROTE:
		return stage_find(m->key, false);
	case MSG_CLEAN:
	case MSG_COPIED:
	case MSG_COMMIT:
	case MSG_ABORT:
		g = segment_by_id(m->id);
		return g ? g->stage : NULL;
	case MSG_RETIRE:
	case MSG_RELEASE:
		g = segment_meant(m);
		return g ? g->stage : NULL;
	}
	*ret_err = -EPROTO;
	return NULL;
}

void dispatch(struct conversation *c, struct msg *m, int *fds)
{
	struct stage *s;
	struct job *j;
	int err;

	if (m->type != MSG_HELLO && !c->client) {
		shutdown(c->fd, SHUT_RDWR);
		return;
	}
	switch (m->type) {
	case MSG_HELLO:
		if (!leave_for(c, m)) /* or the end of the conversation is the answer */
			hello(c, m);
		return;
	case MSG_STATUS:
		answer_status(c, m->arg[0]);
		return;
	case MSG_USERS:
		answer_users(c, m);
		return;
	case MSG_SHOW:
		answer_show(c, m);
		return;
	case MSG_WAIT:
		wait_for_run(c, m);
		return;
	}
	s = stage_of(m, fds[0], &err);
	if (!s && m->type == MSG_COPIED)
		return;
	if (!s) {
		m->error = err;
		m->reason = err == -ESTALE ? REASON_CHANGED
			    : err	   ? REASON_NO_DESCRIPTOR
					   : REASON_NONE;
		answer(c, m, NULL, 0);
		return;
	}
	j = xcalloc(1, sizeof(*j));
	j->kind = JOB_REQUEST;
	j->from = c;
	j->m = *m;
	for (int i = 0; i < PROTO_ASKS; i++)
		j->fd[i] = steal_fd(&fds[i]);
	c->refs++;
	lane_post(s, j);
}
