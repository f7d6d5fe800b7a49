/* SPDX-License-Identifier: MIT */
/* pinstage status for programs. pinstage(1) describes the keys. */
#include <errno.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "command/format.h"
#include "command/status.h"

#define add json_object_object_add

static struct json_object *number(uint64_t n)
{
	return json_object_new_uint64(n);
}

static struct json_object *text(const char *s)
{
	char safe[FORMAT_NAME_MOST(sizeof(((struct view_file *)0)->name))];

	format_name(s, safe, sizeof(safe));
	return json_object_new_string(safe);
}

/* Zero errors are null, so that a program need not know that 0 means none. */
static void add_error(struct json_object *o, int error)
{
	struct json_object *e = NULL;

	if (error) {
		e = json_object_new_object();
		add(e, "errno", json_object_new_int(-error));
		add(e, "text", json_object_new_string(strerror(-error)));
	}
	add(o, "error", e);
}

static struct json_object *users_of(const pid_t *pid, size_t n)
{
	struct json_object *list = json_object_new_array(), *o;
	char name[64];

	for (size_t i = 0; i < n; i++) {
		o = json_object_new_object();
		process_name(pid[i], name, sizeof(name));
		add(o, "pid", json_object_new_int(pid[i]));
		add(o, "name", text(name));
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *segment_of(const struct view_segment *g)
{
	struct json_object *o = json_object_new_object(), *pids = json_object_new_array();

	add(o, "offset", number(g->off));
	add(o, "length", number(g->len));
	add(o, "dirty", number(g->dirty));
	add(o, "state", json_object_new_string(view_state(g->state)));
	for (size_t i = 0; i < g->pids; i++)
		json_object_array_add(pids, json_object_new_int(g->pid[i]));
	add(o, "pids", pids);
	return o;
}

static struct json_object *file_of(const struct view_file *f)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	add(o, "file", text(f->name));
	add(o, "device", number(f->key.dev));
	add(o, "inode", number(f->key.ino));
	add(o, "staged", number(f->staged));
	add(o, "dirty", number(f->dirty));
	add(o, "synced_ms", number(f->age_ms));
	add_error(o, f->error);
	add(o, "users", users_of(f->pid, f->pids));
	for (size_t i = 0; i < f->segments; i++)
		json_object_array_add(list, segment_of(&f->segment[i]));
	add(o, "segments", list);
	return o;
}

static struct json_object *keeper_of(const struct view_keeper *k)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	char user[64];

	add(o, "uid", number(k->uid));
	add(o, "user", text(format_user(k->uid, user, sizeof(user))));
	add(o, "pid", number(k->pid));
	add(o, "version", text(k->version));
	add_error(o, k->error);
	add(o, "staged", number(k->staged));
	add(o, "dirty", number(view_dirty(k)));
	add(o, "budget", number(k->budget));
	add(o, "unsynced_ms", number(view_age_ms(k)));
	add(o, "refusals", number(k->refusals));
	add(o, "failed_passes", number(k->failures));
	for (size_t i = 0; i < k->files; i++)
		json_object_array_add(list, file_of(&k->file[i]));
	add(o, "files", list);
	return o;
}

int status_json(const struct view *v)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	const char *out;

	if (!o || !list)
		return -ENOMEM;
	add(o, "format", json_object_new_int(1));
	for (size_t i = 0; i < v->keepers; i++)
		json_object_array_add(list, keeper_of(&v->keeper[i]));
	add(o, "keepers", list);
	out = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
							JSON_C_TO_STRING_NOSLASHESCAPE);
	if (out)
		puts(out);
	json_object_put(o);
	return out ? 0 : -ENOMEM;
}
