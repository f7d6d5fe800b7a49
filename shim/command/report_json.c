/* SPDX-License-Identifier: MIT */
/* A report for programs. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "command/report.h"
#include "common/util.h"

#define REPORT_FORMAT 1

/* JSON is Unicode: bytes that are no ASCII are written as the log has them. */
static struct json_object *text(const char *s)
{
	static const char hex[] = "0123456789abcdef";
	char out[8192];
	size_t n = 0;

	for (; s && *s && n + 5 < sizeof(out); s++) {
		if ((unsigned char)*s < 0x80) {
			out[n++] = *s;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[(unsigned char)*s >> 4];
		out[n++] = hex[*s & 15];
	}
	return json_object_new_string_len(out, (int)n);
}

/* An empty value is none. */
static void add_text(struct json_object *o, const char *key, const char *s)
{
	if (s && *s)
		json_object_object_add(o, key, text(s));
}

static void add_number(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

static void add_time(struct json_object *o, const char *key, uint64_t ns)
{
	char when[REPORT_TIME_SIZE];

	json_object_object_add(o, key, text(report_time(when, ns)));
}

static struct json_object *stack(const char *words, const char *modules, struct symbols *s)
{
	struct json_object *list = json_object_new_array(), *o;
	struct frame *f;
	size_t n;

	f = frames_of(words, modules, &n);
	if (f)
		symbols_resolve(s, &f, &n);
	for (size_t i = 0; i < n; i++) {
		o = json_object_new_object();
		add_text(o, "function", f[i].function);
		add_text(o, "file", f[i].file);
		if (f[i].file)
			add_number(o, "line", (uint64_t)f[i].line);
		if (f[i].inlined)
			json_object_object_add(o, "inlined", json_object_new_boolean(true));
		add_text(o, "module", f[i].module);
		add_text(o, "build_id", f[i].id);
		add_number(o, "address", f[i].address);
		add_text(o, "note", f[i].note);
		json_object_array_add(list, o);
	}
	frames_free(f, n);
	return list;
}

static struct json_object *remedies(const struct row *row)
{
	struct json_object *list = json_object_new_array(), *o;
	struct remedy remedy[REMEDIES_MOST];
	size_t n = report_remedies(row, remedy);

	for (size_t i = 0; i < n; i++) {
		o = json_object_new_object();
		add_text(o, "name", remedy[i].name);
		add_text(o, "text", remedy[i].text);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *row_object(const struct row *row, struct symbols *s)
{
	struct json_object *o = json_object_new_object(), *outcome = json_object_new_object();
	const struct offence *one = row->one;

	add_text(o, "executable", one->exe);
	add_text(o, "call", one->call);
	add_text(o, "file", one->file);
	add_text(o, "fs", one->fs);
	add_number(o, "files", row->files);
	add_number(o, "hosts", row->hosts);
	add_number(o, "processes", row->processes);
	add_number(o, "count", row->count);
	add_number(o, "bytes", row->bytes);
	add_time(o, "first", row->first);
	add_time(o, "last", row->last);
	for (int i = 0; i < OUTCOMES; i++)
		if (row->outcome[i])
			add_number(outcome, outcome_name((enum outcome)i), row->outcome[i]);
	json_object_object_add(o, "outcome", outcome);
	add_text(o, "errno", one->error ? strerrorname_np(one->error) : NULL);
	add_text(o, "flags", one->flags);
	if (one->has_access)
		add_number(o, "access", row->access);
	json_object_object_add(o, "stack", stack(one->stack, one->modules, s));
	json_object_object_add(o, "mmap_stack", stack(one->mmap_stack, one->modules, s));
	json_object_object_add(o, "remedies", remedies(row));
	return o;
}

int report_print_json(const struct report *r, struct symbols *s)
{
	struct json_object *top = json_object_new_object(), *list = json_object_new_array();
	const char *out;
	int err = 0;

	add_number(top, "format", REPORT_FORMAT);
	for (size_t i = 0; i < r->rows; i++)
		json_object_array_add(list, row_object(&r->row[i], s));
	json_object_object_add(top, "offenders", list);
	add_number(top, "fine", r->fine);
	add_number(top, "left_out", r->left_out);
	add_number(top, "unmatched", r->unmatched);
	add_number(top, "lost", r->lost);
	add_number(top, "lines", r->lines);
	add_number(top, "damaged", r->damaged);
	add_number(top, "newer", r->newer);
	add_number(top, "foreign", r->foreign);
	out = json_object_to_json_string_ext(top, JSON_C_TO_STRING_PRETTY |
							  JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!out || puts(out) < 0)
		err = -ENOMEM;
	json_object_put(top);
	return err;
}
