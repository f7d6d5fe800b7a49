/* SPDX-License-Identifier: MIT */
/* pinstage doctor: what does this machine do, and what this program? */
#include "command/doctor.h"

#include <errno.h>
#include <getopt.h>
#include <json.h>
#include <libsmartcols.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "command/format.h"
#include "command/program.h"
#include "common/cleanup.h"
#include "common/util.h"

static const char usage[] =
	"usage: pinstage doctor [--json] [PATH | -- PROGRAM]\n"
	"\n"
	"Says what this machine does with pins of file-backed memory, whether pinstage can help, and\n"
	"what stands in its way; whether files at PATH are concerned, which it tries on a file without\n"
	"a name there; or whether PROGRAM can be helped. It changes nothing.\n"
	"\n"
	"  --json   findings as JSON\n"
	"\n"
	"Exit status: 0 if nothing stands in the way, 1 if something does, 125 if the command was\n"
	"called wrongly.\n";

static const char *const level_name[] = {
	[FINDING_OK] = "ok", [FINDING_NOTE] = "note", [FINDING_BAD] = "bad"
};

void find(struct findings *f, enum level level, const char *topic, const char *fmt, ...)
{
	struct finding *more = reallocarray(f->finding, f->n + 1, sizeof(*more));
	char *text = NULL, *bar;
	va_list ap;

	if (!more)
		return;
	f->finding = more;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!text)
		return;
	bar = strrchr(text, '|');
	if (bar)
		*bar++ = '\0';
	more[f->n++] = (struct finding){ level, topic, text, bar ? bar : text + strlen(text) };
}

static int print_json(const struct findings *f)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array(), *one;
	char safe[FORMAT_NAME_MOST(2 * PATH_MAX)];
	const char *out;

	json_object_object_add(o, "format", json_object_new_int(1));
	for (size_t i = 0; i < f->n; i++) {
		one = json_object_new_object();
		json_object_object_add(one, "level",
				       json_object_new_string(level_name[f->finding[i].level]));
		json_object_object_add(one, "topic",
				       json_object_new_string(f->finding[i].topic));
		format_name(f->finding[i].what, safe, sizeof(safe));
		json_object_object_add(one, "finding", json_object_new_string(safe));
		json_object_object_add(one, "follows",
				       json_object_new_string(f->finding[i].so));
		json_object_array_add(list, one);
	}
	json_object_object_add(o, "findings", list);
	out = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
							JSON_C_TO_STRING_NOSLASHESCAPE);
	if (out)
		puts(out);
	json_object_put(o);
	return out ? 0 : -ENOMEM;
}

/* A finding, and below it what follows from it. */
static int add_lines(struct libscols_table *t, const struct finding *found)
{
	static const char *const colour[] = {
		[FINDING_OK] = "green", [FINDING_NOTE] = "yellow", [FINDING_BAD] = "red"
	};
	struct libscols_line *l = scols_table_new_line(t, NULL);
	char safe[FORMAT_NAME_MOST(2 * PATH_MAX)];
	int err;

	if (!l)
		return -ENOMEM;
	format_name(found->what, safe, sizeof(safe));
	err = scols_line_set_data(l, 0, level_name[found->level]);
	if (!err)
		err = scols_cell_set_color(scols_line_get_cell(l, 0), colour[found->level]);
	if (!err)
		err = scols_line_set_data(l, 1, found->topic);
	if (!err)
		err = scols_line_set_data(l, 2, safe);
	if (err || !found->so[0])
		return err;
	l = scols_table_new_line(t, NULL);
	return l ? scols_line_set_data(l, 2, found->so) : -ENOMEM;
}

static int print_text(const struct findings *f)
{
	struct libscols_table *t = scols_new_table();
	int err = -ENOMEM;

	if (t && scols_table_new_column(t, "", 4, 0) && scols_table_new_column(t, "", 10, 0) &&
	    scols_table_new_column(t, "", 0.8, SCOLS_FL_WRAP)) {
		scols_table_enable_noheadings(t, 1);
		scols_table_enable_colors(t, format_colours());
		err = 0;
	}
	for (size_t i = 0; i < f->n && !err; i++)
		err = add_lines(t, &f->finding[i]);
	if (!err)
		err = scols_print_table(t);
	scols_unref_table(t);
	return err;
}

/* Through scripts to what is executed in the end. Returns -1, or what to exit with. */
static int look_at_program(struct findings *f, const char *name)
{
	char path[PATH_MAX];
	struct verdict v;
	int err = program_find(name, path, sizeof(path));

	if (err) {
		complain("doctor", "%s: %s", name,
			 err == -ENOENT ? "not found" : strerror(-err));
		return EXIT_OWN;
	}
	program_judge(path, &v);
	if (strcmp(v.file, path) != 0)
		find(f, FINDING_NOTE, "program", "%s is a script for %s|that is looked at",
		     path, v.file);
	if (v.objection)
		find(f, FINDING_BAD, "preload",
		     "%s %s|pinstage cannot help: change the program, see docs/deploy.md",
		     v.file, v.objection);
	else
		find(f, FINDING_OK, "preload", "the loader honours LD_PRELOAD for %s|", v.file);
	doctor_program(f, v.file);
	return -1;
}

/* Returns -1, or what to exit with. */
static int look(struct findings *f, int argc, char **argv)
{
	const bool program = optind > 1 && !strcmp(argv[optind - 1], "--");

	if (program && optind < argc)
		return look_at_program(f, argv[optind]);
	if (program) {
		complain("doctor", "no program given; see pinstage doctor --help");
		return EXIT_OWN;
	}
	if (argc - optind > 1) {
		complain("doctor", "unknown argument '%s'; a program comes after '--'",
			 argv[optind + 1]);
		return EXIT_OWN;
	}
	if (optind < argc && access(argv[optind], F_OK) < 0) {
		complain("doctor", "%s: %s", argv[optind], strerror(errno));
		return EXIT_OWN;
	}
	doctor_machine(f);
	doctor_rdma(f);
	doctor_path(f, optind < argc ? argv[optind] : ".");
	return -1;
}

static int tell(const struct findings *f, bool json)
{
	int err = json ? print_json(f) : print_text(f), status = 0;

	for (size_t i = 0; i < f->n; i++)
		if (f->finding[i].level == FINDING_BAD)
			status = 1;
	if (err) {
		complain("doctor", "%s", strerror(-err));
		status = EXIT_OWN;
	}
	err = output_complete("doctor");
	return err ? err : status;
}

int doctor_main(int argc, char **argv)
{
	static const struct option opts[] = { { "json", no_argument, NULL, 'j' },
					      { "help", no_argument, NULL, 'h' },
					      { "version", no_argument, NULL, 'V' },
					      { 0 } };
	struct findings f = { 0 };
	bool json = false;
	int c, status;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:", opts, NULL)) >= 0) {
		if (c == 'h')
			return print_and_check(usage);
		if (c == 'V')
			return print_version();
		if (c != 'j')
			return wrong_option(argv, c);
		json = true;
	}
	status = look(&f, argc, argv);
	if (status < 0)
		status = tell(&f, json);
	for (size_t i = 0; i < f.n; i++)
		free(f.finding[i].what);
	free(f.finding);
	return status;
}
