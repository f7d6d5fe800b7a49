/* SPDX-License-Identifier: MIT */
/* What the keeper tells of itself. */
#include <errno.h>
#include <string.h>

#include "keeper/keeper.h"
#include "keeper/server.h"

static void describe(const struct segment *g, struct msg *m)
{
	const struct stage *s = g->stage;
	const struct use *u;

	msg_init(m, MSG_STATUS);
	m->key = s->key;
	m->id = g->id;
	m->off = g->off;
	m->len = g->len;
	m->run = g->run;
	m->error = s->error;
	m->arg[0] = g->dirty;
	LIST_FOREACH(u, &g->users, link)
		m->arg[1]++;
	m->arg[2] = now_ms() - s->last_good;
	m->arg[3] = g->state;
	memcpy(m->text, s->name, sizeof(m->text));
}

/* The least that holds for any program, or what would for the next one. */
static uint64_t budget_in_force(void)
{
	uint64_t left = budget_left(NULL);
	const struct client *k;

	LIST_FOREACH(k, &keeper.clients, link)
		left = MIN(left, budget_left(k));
	return keeper.staged + left;
}

static bool fate_shared(void)
{
	const struct segment *g;
	const struct stage *s;
	const struct use *u;

	LIST_FOREACH(s, &keeper.stages, link)
		LIST_FOREACH(g, &s->segments, link)
			LIST_FOREACH(u, &g->users, link)
				if (u->client->fate_shared)
					return true;
	return false;
}

void answer_status(struct conversation *c, uint64_t skip)
{
	uint64_t at = 0, more = 0;
	struct segment *g;
	struct stage *s;
	struct msg m;

	LIST_FOREACH(s, &keeper.stages, link) {
		LIST_FOREACH(g, &s->segments, link) {
			if (at++ < skip)
				continue;
			if (at > skip + STATUS_PAGE) {
				more = 1;
				break;
			}
			describe(g, &m);
			answer(c, &m, NULL, 0);
		}
	}
	msg_init(&m, MSG_STATUS);
	m.last = 1;
	m.arg[0] = keeper.staged;
	m.arg[1] = more;
	m.arg[2] = budget_in_force();
	m.arg[3] = keeper.refusals;
	m.len = keeper.failures;
	m.flags = fate_shared() ? FATE_SHARED : 0;
	memcpy(m.text, PINSTAGE_VERSION, sizeof(PINSTAGE_VERSION));
	answer(c, &m, NULL, 0);
}

void answer_users(struct conversation *c, struct msg *m)
{
	const struct segment *g = segment_by_id(m->id);
	const struct use *u;
	uint64_t at = 0;
	uint32_t pid;

	m->error = g ? 0 : -ENOENT;
	m->len = 0;
	if (g) {
		LIST_FOREACH(u, &g->users, link) {
			if (at++ < m->arg[0] || m->len == USERS_PAGE)
				continue;
			pid = (uint32_t)u->client->seen;
			memcpy(m->text + m->len++ * sizeof(pid), &pid, sizeof(pid));
		}
	}
	answer(c, m, NULL, 0);
}
