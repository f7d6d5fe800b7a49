/* SPDX-License-Identifier: MIT */
/* Segments that several processes use. A segment is in force, and not given back to the file,
 * for as long as any client uses it; nobody is waited for. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keeper/requests.h"

/* Lock held. */
static struct segment *first_in(struct stage *s, uint64_t off, uint64_t len)
{
	struct segment *g, *found = NULL;

	LIST_FOREACH(g, &s->segments, link)
		if (g->off < off + len && g->off + g->len > off &&
		    (!found || g->off < found->off))
			found = g;
	return found;
}

/*
 * Any descriptor of the file will do, for reading, too: who maps the file read-only has to see
 * the memory. Unless it is confined it could take that from the process that staged it anyway;
 * and a read-only description of a memfd can be opened for writing again, under Landlock, too
 * (docs/sharing.md, Security). A client that asks has the file mapped, or is about to: what was
 * found out about mappings earlier does not hold any more.
 */
int do_join(struct stage *s, struct job *j, struct segment **ret)
{
	struct msg *m = &j->m;
	struct segment *g;
	int flags, err;

	if (m->len == 0 || m->off + m->len < m->off)
		return refuse(m, REASON_BAD_RANGE, -EINVAL);
	flags = fcntl(j->fd[0], F_GETFL);
	if (flags < 0 || flags & O_PATH)
		return refuse(m, REASON_NO_DESCRIPTOR, -EBADF);
	s->unmapped_at = 0;
	pthread_mutex_lock(&keeper.lock);
	g = first_in(s, m->off, m->len);
	pthread_mutex_unlock(&keeper.lock);
	if (!g)
		return -ENOENT;
	if (g->state == SEGMENT_FILLING) {
		if (m->flags & JOIN_BREAK)
			segment_let_go(g); /* its COMMIT will find it gone */
		return -EAGAIN;
	}
	err = g->state == SEGMENT_SEALED ? segment_reopen(g) : 0;
	if (err)
		return refuse(m, REASON_NO_MEMORY, err);
	if (!(m->flags & JOIN_VISIT))
		stage_catch_up(s, g);
	pthread_mutex_lock(&keeper.lock);
	segment_use(g, j->from->client);
	pthread_mutex_unlock(&keeper.lock);
	m->id = g->id;
	m->off = g->off;
	m->len = g->len;
	*ret = g;
	return 0;
}

bool used_by_others(const struct segment *g, const struct client *c)
{
	const struct use *u;
	bool yes = false;

	pthread_mutex_lock(&keeper.lock);
	LIST_FOREACH(u, &g->users, link)
		yes |= u->client != c;
	pthread_mutex_unlock(&keeper.lock);
	return yes;
}

/* `pinstage run` waits for what its programs staged. Once that is written, and only programs of
 * other runs use it, it is theirs. Lock held. */
void hand_over_runs(struct stage *s)
{
	struct segment *g;
	struct use *u;

	LIST_FOREACH(g, &s->segments, link) {
		LIST_FOREACH(u, &g->users, link)
			if (u->client->run == g->run)
				break;
		if (!u && !LIST_EMPTY(&g->users))
			g->run = LIST_FIRST(&g->users)->client->run;
	}
}

bool left_by_run(const struct segment *g, uint64_t run)
{
	const struct use *u;

	LIST_FOREACH(u, &g->users, link)
		if (u->client->run == run)
			return false;
	return true;
}
