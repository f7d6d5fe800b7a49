/* SPDX-License-Identifier: MIT */
/* pinstage status for people: a heading and a table for each keeper. */
#include <errno.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/format.h"
#include "command/status.h"
#include "common/cleanup.h"

enum { FILE_NAME, STAGED, DIRTY, SYNCED, USERS, ERROR, COLUMNS };

static const struct {
	const char *title;
	double width;
	int flags;
} column[COLUMNS] = {
	[FILE_NAME] = { "FILE", 0.5, SCOLS_FL_WRAP },
	[STAGED] = { "STAGED", 6, SCOLS_FL_RIGHT },
	[DIRTY] = { "DIRTY", 5, SCOLS_FL_RIGHT },
	[SYNCED] = { "SYNCED", 6, SCOLS_FL_RIGHT },
	[USERS] = { "USERS", 0.3, SCOLS_FL_WRAP },
	[ERROR] = { "ERROR", 0.2, SCOLS_FL_WRAP },
};

static struct libscols_table *new_table(void)
{
	struct libscols_table *t = scols_new_table();

	if (!t)
		return NULL;
	scols_table_enable_colors(t, format_colours());
	for (int i = 0; i < COLUMNS; i++) {
		if (!scols_table_new_column(t, column[i].title, column[i].width,
					    column[i].flags)) {
			scols_unref_table(t);
			return NULL;
		}
	}
	return t;
}

static int add_line(struct libscols_table *t, const struct view_file *f, bool exact)
{
	struct libscols_line *l = scols_table_new_line(t, NULL);
	char text[512];
	int err;

	if (!l)
		return -ENOMEM;
	err = scols_line_set_data(l, FILE_NAME, f->name[0] ? f->name : "?");
	format_bytes(f->staged, exact, text, sizeof(text));
	err = err ? err : scols_line_set_data(l, STAGED, text);
	format_bytes(f->dirty, exact, text, sizeof(text));
	err = err ? err : scols_line_set_data(l, DIRTY, text);
	format_age(f->age_ms, text, sizeof(text));
	err = err ? err : scols_line_set_data(l, SYNCED, text);
	users_text(f->pid, f->pids, text, sizeof(text));
	err = err ? err : scols_line_set_data(l, USERS, text);
	err = err ? err : scols_line_set_data(l, ERROR, f->error ? strerror(-f->error) : "-");
	if (f->error)
		scols_line_set_color(l, "red");
	return err;
}

static int print_files(const struct view_keeper *k, bool exact)
{
	struct libscols_table *t = new_table();
	int err = t ? 0 : -ENOMEM;

	for (size_t i = 0; i < k->files && !err; i++)
		err = add_line(t, &k->file[i], exact);
	if (!err)
		err = scols_print_table(t);
	scols_unref_table(t);
	return err;
}

static void print_heading(const struct view_keeper *k, bool exact)
{
	char user[64], staged[32], budget[32];

	format_user(k->uid, user, sizeof(user));
	if (k->error) {
		printf("keeper of %s: cannot be asked\n", user);
		return;
	}
	format_bytes(k->staged, exact, staged, sizeof(staged));
	format_bytes(k->budget, exact, budget, sizeof(budget));
	printf("keeper %" PRIu64 " of %s: %zu file%s, %s of %s staged, %" PRIu64
	       " refused, %" PRIu64 " failed passes%s\n",
	       k->pid, user, k->files, k->files == 1 ? "" : "s", staged, budget, k->refusals,
	       k->failures, k->fate_shared ? ", fate=shared" : "");
}

int status_text(const struct view *v, bool exact, const char *none)
{
	int err = 0;

	if (v->keepers == 0)
		puts(none);
	for (size_t i = 0; i < v->keepers && !err; i++) {
		if (i)
			putchar('\n');
		print_heading(&v->keeper[i], exact);
		if (v->keeper[i].files)
			err = print_files(&v->keeper[i], exact);
	}
	return err;
}
