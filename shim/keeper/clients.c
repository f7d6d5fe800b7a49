/* SPDX-License-Identifier: MIT */
/* Who we talk to: conversations, and the processes that they are of. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keeper/fate.h"
#include "keeper/keeper.h"
#include "keeper/server.h"

/* The sockets do not block: a client that does not read its answers loses its conversation, and
 * delays nobody. */
void answer(struct conversation *c, struct msg *m, const int *fds, size_t n)
{
	m->magic = PROTO_MAGIC;
	m->version = PROTO_VERSION;
	if (msg_send(c->fd, m, fds, n) < 0)
		shutdown(c->fd, SHUT_RDWR);
}

static void client_gone(struct client *c)
{
	struct segment *g;
	struct stage *s;
	bool left;

	LIST_FOREACH(s, &keeper.stages, link) {
		left = false;
		LIST_FOREACH(g, &s->segments, link) {
			if (segment_used_by(g, c))
				segment_try_now(g);
			segment_unuse(g, c);
			left |= g->run == c->run && left_by_run(g, c->run);
			left |= LIST_EMPTY(&g->users);
		}
		if (left) {
			lane_post_pass(s);
		}
	}
	LIST_REMOVE(c, link);
	free(c);
}

void conversation_put(struct conversation *c)
{
	struct waiter *w, *next;

	if (--c->refs)
		return;
	leave_waits_not(c);
	for (w = LIST_FIRST(&keeper.waiters); w; w = next) {
		next = LIST_NEXT(w, link);
		if (w->from == c) {
			LIST_REMOVE(w, link);
			free(w);
		}
	}
	if (c->client && --c->client->conversations == 0)
		client_gone(c->client);
	keeper.conversations--;
	close(c->fd);
	free(c);
}

static struct client *client_find(uint64_t token)
{
	struct client *c;

	LIST_FOREACH(c, &keeper.clients, link)
		if (c->token == token)
			return c;
	return NULL;
}

static int meet(struct conversation *c, struct msg *m)
{
	struct client *k;

	if (m->version != PROTO_VERSION || c->client)
		return -EPROTO;
	k = client_find(m->arg[3]);
	if (!k) {
		k = xcalloc(1, sizeof(*k));
		k->token = m->arg[3];
		k->pid = m->arg[2];
		k->seen = c->pid;
		k->fate_shared = fate_shared_with(c->pid);
		k->run = m->run;
		k->interval_ms = MIN(MAX(m->arg[0], (uint64_t)10), INTERVAL_MOST_MS);
		k->budget = m->arg[1];
		LIST_INSERT_HEAD(&keeper.clients, k, link);
	}
	k->conversations++;
	c->client = k;
	m->arg[0] = (uint64_t)getpid();
	m->arg[1] = keeper.instance;
	m->flags = TAKES_COPIED | TAKES_ORIGIN | (k->fate_shared ? FATE_SHARED : 0);
	return 0;
}

void hello(struct conversation *c, struct msg *m)
{
	m->error = meet(c, m);
	m->reason = m->error ? REASON_PROTOCOL : REASON_NONE;
	answer(c, m, NULL, 0);
}
