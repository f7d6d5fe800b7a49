/* SPDX-License-Identifier: MIT */
#include "command/view.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/conversation.h"
#include "command/mount.h"
#include "common/ledger.h"
#include "common/rendezvous.h"

/* Room for one more element of an array that is extended one by one; zeroed. */
static void *grow(void *array, size_t n, size_t size)
{
	char *more = reallocarray(array, n + 1, size);

	if (more)
		memset(more + n * size, 0, size);
	return more;
}

static int add_pid(pid_t **pid, size_t *n, pid_t one)
{
	pid_t *more;

	for (size_t i = 0; i < *n; i++)
		if ((*pid)[i] == one)
			return 0;
	more = grow(*pid, *n, sizeof(*more));
	if (!more)
		return -ENOMEM;
	*pid = more;
	more[(*n)++] = one;
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int by_offset(const void *a, const void *b)
{
	const struct view_segment *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

static int by_name(const void *a, const void *b)
{
	const struct view_file *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : inode_key_cmp(x->key, y->key);
}

static int by_uid(const void *a, const void *b)
{
	const struct view_keeper *x = a, *y = b;

	return (x->uid > y->uid) - (x->uid < y->uid);
}

static struct view_file *file_of(struct view_keeper *k, const struct msg *m)
{
	struct view_file *f;

	for (f = k->file; f < k->file + k->files; f++)
		if (!inode_key_cmp(f->key, m->key))
			return f;
	f = grow(k->file, k->files, sizeof(*f));
	if (!f)
		return NULL;
	k->file = f;
	f += k->files++;
	f->key = m->key;
	memcpy(f->name, m->text, sizeof(f->name));
	f->error = m->error;
	f->age_ms = m->arg[2];
	return f;
}

static int add_segment(const struct msg *m, void *arg)
{
	struct view_file *f = file_of(arg, m);
	struct view_segment *g;

	g = f ? grow(f->segment, f->segments, sizeof(*g)) : NULL;
	if (!g)
		return -ENOMEM;
	f->segment = g;
	g += f->segments++;
	g->id = m->id;
	g->off = m->off;
	g->len = m->len;
	g->dirty = m->arg[0];
	g->state = m->arg[3];
	f->staged += g->len;
	f->dirty += g->dirty;
	return 0;
}

/* A segment that has been let go meanwhile has no users; nor has one of a keeper that does not
 * know the question. */
static int ask_users(struct view_keeper *k, struct view_file *f, struct view_segment *g,
		     uint64_t until)
{
	uint32_t pid;
	struct msg m;
	int err;

	do {
		if (now_ms() >= until)
			return -ETIMEDOUT;
		msg_init(&m, MSG_USERS);
		m.id = g->id;
		m.arg[0] = g->pids;
		err = conversation_ask(k->sock, &m, ANSWER_MS);
		if (err || m.error)
			return err;
		for (size_t i = 0; i < m.len && i < USERS_PAGE && !err; i++) {
			memcpy(&pid, m.text + i * sizeof(pid), sizeof(pid));
			g->pid = reallocarray(g->pid, g->pids + 1, sizeof(*g->pid));
			if (!g->pid)
				return -ENOMEM;
			g->pid[g->pids++] = (pid_t)pid;
			err = add_pid(&f->pid, &f->pids, (pid_t)pid);
		}
	} while (!err && m.len >= USERS_PAGE);
	return err;
}

static int ask(struct view_keeper *k)
{
	const uint64_t until = now_ms() + 2 * ANSWER_MS;
	struct view_file *f;
	struct msg last;
	int err;

	err = conversation_status(k->sock, add_segment, k, &last);
	if (err)
		return err;
	k->staged = last.arg[0];
	k->budget = last.arg[2];
	k->fate_shared = last.flags & FATE_SHARED;
	k->refusals = last.arg[3];
	k->failures = last.len;
	snprintf(k->version, sizeof(k->version), "%.*s", (int)sizeof(k->version) - 1,
		 last.text);
	if (k->files)
		qsort(k->file, k->files, sizeof(*k->file), by_name);
	for (f = k->file; f < k->file + k->files; f++) {
		for (size_t i = 0; i < f->segments && !err; i++)
			err = ask_users(k, f, &f->segment[i], until);
		qsort(f->segment, f->segments, sizeof(*f->segment), by_offset);
		if (f->pids)
			qsort(f->pid, f->pids, sizeof(*f->pid), by_pid);
	}
	return err;
}

static int take_user(struct view *v, uid_t uid)
{
	struct view_keeper *k;
	enum reason why;
	uint64_t pid = 0;
	int sock;

	for (k = v->keeper; k < v->keeper + v->keepers; k++)
		if (k->uid == uid)
			return 0;
	sock = conversation_open_for(uid, &why, &pid);
	/* Nobody's keeper is in a directory that anybody could have made for another. */
	if (sock == -ENOENT || (sock == -EPERM && uid != geteuid()))
		return 0;
	k = grow(v->keeper, v->keepers, sizeof(*k));
	if (!k) {
		if (sock >= 0)
			close(sock);
		return -ENOMEM;
	}
	v->keeper = k;
	k += v->keepers++;
	k->uid = uid;
	k->pid = pid;
	k->sock = sock < 0 ? -1 : sock;
	k->error = sock < 0 ? sock : ask(k);
	k->why = sock < 0 ? why : k->error ? REASON_KEEPER_LOST : REASON_NONE;
	return k->error == -ENOMEM ? -ENOMEM : 0;
}

/* Users for whom the directory of a keeper may exist, see rendezvous.h. */
static int take_users_of(struct view *v, const char *dir, const char *prefix)
{
	const size_t skip = strlen(prefix);
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned long uid;
	int err = 0;
	char *end;

	while (d && !err && (e = readdir(d))) {
		if (strncmp(e->d_name, prefix, skip) != 0 ||
		    !isdigit((unsigned char)e->d_name[skip]))
			continue;
		uid = strtoul(e->d_name + skip, &end, 10);
		if (!*end && uid < (uid_t)-1)
			err = take_user(v, (uid_t)uid);
	}
	if (d)
		closedir(d);
	return err;
}

int view_take(struct view *v, bool all)
{
	int err;

	memset(v, 0, sizeof(*v));
	err = take_user(v, geteuid());
	if (all && geteuid() == 0) {
		err = err ? err : take_users_of(v, "/run/user", "");
		err = err ? err : take_users_of(v, "/tmp", "pinstage-");
	}
	if (v->keepers)
		qsort(v->keeper, v->keepers, sizeof(*v->keeper), by_uid);
	if (err)
		view_free(v);
	return err;
}

static void free_file(struct view_file *f)
{
	for (size_t i = 0; i < f->segments; i++)
		free(f->segment[i].pid);
	free(f->segment);
	free(f->pid);
}

static void free_keeper(struct view_keeper *k)
{
	for (size_t i = 0; i < k->files; i++)
		free_file(&k->file[i]);
	free(k->file);
	if (k->sock >= 0)
		close(k->sock);
}

void view_free(struct view *v)
{
	for (size_t i = 0; i < v->keepers; i++)
		free_keeper(&v->keeper[i]);
	free(v->keeper);
	memset(v, 0, sizeof(*v));
}

const char *view_state(uint64_t state)
{
	static const char *const name[] = { [SEGMENT_FILLING] = "filling",
					    [SEGMENT_LIVE] = "live",
					    [SEGMENT_SEALED] = "sealed" };

	return state < ARRAY_SIZE(name) ? name[state] : "?";
}

uint64_t view_dirty(const struct view_keeper *k)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < k->files; i++)
		sum += k->file[i].dirty;
	return sum;
}

uint64_t view_age_ms(const struct view_keeper *k)
{
	uint64_t most = 0;

	for (size_t i = 0; i < k->files; i++)
		most = MAX(most, k->file[i].age_ms);
	return most;
}

static void keep_files(struct view_keeper *k, const struct mount *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < k->files; i++) {
		if (mount_has(m, k->file[i].key, k->file[i].name))
			k->file[kept++] = k->file[i];
		else
			free_file(&k->file[i]);
	}
	k->files = kept;
}

void view_keep_only(struct view *v, const struct mount *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < v->keepers; i++) {
		keep_files(&v->keeper[i], m);
		if (v->keeper[i].files || v->keeper[i].error)
			v->keeper[kept++] = v->keeper[i];
		else
			free_keeper(&v->keeper[i]);
	}
	v->keepers = kept;
}

void process_name(pid_t pid, char *name, size_t size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = pid ? fopen(path, "re") : NULL;
	if (!f || !fgets(name, (int)size, f))
		snprintf(name, size, "?");
	name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
}

void users_text(const pid_t *pid, size_t pids, char *text, size_t size)
{
	const size_t most = 4;
	char name[64];
	size_t at = 0;

	snprintf(text, size, "-");
	for (size_t i = 0; i < pids && i < most && at < size; i++) {
		process_name(pid[i], name, sizeof(name));
		at += (size_t)snprintf(text + at, size - at, "%s%d (%s)", i ? ", " : "",
				       (int)pid[i], name);
	}
	if (pids > most && at < size)
		snprintf(text + at, size - at, ", and %zu more", pids - most);
}
