/* SPDX-License-Identifier: MIT */
/* A report for people: a table, and below it each row with its stacks and remedies. */
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/report.h"
#include "common/cleanup.h"
#include "common/util.h"

static bool colours;

static const char *paint(const char *code)
{
	return colours ? code : "";
}

#define BOLD  paint("\033[1m")
#define DIM   paint("\033[2m")
#define RED   paint("\033[31m")
#define PLAIN paint("\033[0m")

/* Names may hold anything; a terminal is told nothing by them. */
static void print_name(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			printf("\\x%02x", (unsigned char)*text);
		else
			putchar(*text);
	}
}

static const char *size_text(char dst[32], uint64_t bytes)
{
	static const char unit[] = "BKMGTPE";
	uint64_t whole = bytes, rest = 0;
	size_t i = 0;

	for (; whole >= 1024 && unit[i + 1]; i++) {
		rest = whole % 1024;
		whole /= 1024;
	}
	if (i && whole < 10 && rest)
		snprintf(dst, 32, "%llu.%llu%c", (unsigned long long)whole,
			 (unsigned long long)(rest * 10 / 1024), unit[i]);
	else
		snprintf(dst, 32, "%llu%c", (unsigned long long)whole, unit[i]);
	return dst;
}

static const char *outcomes_text(char dst[64], const struct row *row)
{
	*dst = '\0';
	for (int i = 0; i < OUTCOMES; i++)
		if (row->outcome[i])
			snprintf(dst + strlen(dst), 64 - strlen(dst), "%s%s", *dst ? "," : "",
				 outcome_name((enum outcome)i));
	return dst;
}

static const struct {
	const char *name;
	double width;
	int flags;
} columns[] = {
	{ "#", 1, SCOLS_FL_RIGHT },
	{ "COUNT", 5, SCOLS_FL_RIGHT },
	{ "BYTES", 5, SCOLS_FL_RIGHT },
	{ "LAST", 20, 0 },
	{ "OUTCOME", 7, 0 },
	{ "CALL", 10, 0 },
	{ "FS", 4, 0 },
	{ "PROGRAM", 0.2, SCOLS_FL_TRUNC },
	{ "FILE", 0.3, SCOLS_FL_TRUNC },
};

static int fill_line(const struct report *r, size_t i, struct libscols_line *line)
{
	const struct row *row = &r->row[i];
	char number[32], count[32], size[32], last[REPORT_TIME_SIZE], outcome[64], files[64];
	const char *cell[] = { number,	     count,	    size,
			       last,	     outcome,	    row->one->call,
			       row->one->fs, row->one->exe, row->one->file };
	int err = 0;

	snprintf(number, sizeof(number), "%zu", i + 1);
	snprintf(count, sizeof(count), "%llu", (unsigned long long)row->count);
	size_text(size, row->bytes);
	report_time(last, row->last);
	outcomes_text(outcome, row);
	if (row->files > 1) {
		snprintf(files, sizeof(files), "%zu files", row->files);
		cell[ARRAY_SIZE(cell) - 1] = files;
	}
	for (size_t c = 0; c < ARRAY_SIZE(cell) && !err; c++)
		err = scols_line_set_data(line, c, *cell[c] ? cell[c] : "?");
	if (!err && row->outcome[OUTCOME_REFUSED])
		err = scols_line_set_color(line, "red");
	return err;
}

static int print_table(const struct report *r)
{
	struct libscols_table *t = scols_new_table();
	struct libscols_line *line;
	int err = t ? 0 : -ENOMEM;

	if (t)
		scols_table_enable_colors(t, colours);
	for (size_t c = 0; c < ARRAY_SIZE(columns) && !err; c++)
		if (!scols_table_new_column(t, columns[c].name, columns[c].width,
					    columns[c].flags))
			err = -ENOMEM;
	for (size_t i = 0; i < r->rows && !err; i++) {
		line = scols_table_new_line(t, NULL);
		err = line ? fill_line(r, i, line) : -ENOMEM;
	}
	if (!err)
		err = scols_print_table(t);
	scols_unref_table(t);
	return err;
}

static void print_frames(struct symbols *s, const char *title, const char *stack,
			 const char *modules)
{
	struct frame *f;
	size_t n;

	f = frames_of(stack, modules, &n);
	if (f)
		symbols_resolve(s, &f, &n);
	printf("  %s\n", title);
	if (n == 0)
		printf("    not known\n");
	for (size_t i = 0; i < n; i++) {
		printf("    %2zu  ", i);
		if (f[i].function)
			printf("%s", BOLD);
		print_name(f[i].function ? f[i].function : "?");
		if (f[i].function)
			printf("%s", PLAIN);
		if (f[i].file) {
			printf("  at ");
			print_name(f[i].file);
			printf(":%d", f[i].line);
		} else {
			printf("  in ");
			print_name(*f[i].module ? f[i].module : "?");
			printf("+%#llx", (unsigned long long)f[i].address);
			if (f[i].note)
				printf("  %s(%s)%s", DIM, f[i].note, PLAIN);
		}
		if (f[i].inlined)
			printf("  %s(inlined)%s", DIM, PLAIN);
		putchar('\n');
	}
	frames_free(f, n);
}

static void print_wrapped(const char *text, int first, int indent)
{
	const int width = 96;
	int at = first, len;

	while (*text) {
		len = (int)strcspn(text, " ");
		if (at + 1 + len > width) {
			printf("\n%*s", indent, "");
			at = indent;
		} else if (at > first) {
			putchar(' ');
			at++;
		}
		printf("%.*s", len, text);
		at += len;
		text += len + (text[len] == ' ');
	}
	putchar('\n');
}

static void print_remedies(const struct row *row)
{
	struct remedy remedy[REMEDIES_MOST];
	size_t n = report_remedies(row, remedy);

	printf("  what to do\n");
	for (size_t i = 0; i < n; i++) {
		printf("    - ");
		print_wrapped(remedy[i].text, 6, 6);
	}
}

static void print_row(const struct report *r, size_t i, struct symbols *s)
{
	char first[REPORT_TIME_SIZE], last[REPORT_TIME_SIZE], size[32], outcome[64];
	const struct row *row = &r->row[i];
	const struct offence *o = row->one;

	printf("\n%s%zu  %s  ", BOLD, i + 1, o->call);
	print_name(*o->exe ? o->exe : "?");
	printf("%s\n  file     ", PLAIN);
	print_name(*o->file ? o->file : "?");
	if (row->files > 1)
		printf(" and %zu more", row->files - 1);
	printf(" on %s\n", *o->fs ? o->fs : "?");
	printf("  count    %llu, %s, by %zu process%s", (unsigned long long)row->count,
	       size_text(size, row->bytes), row->processes, row->processes == 1 ? "" : "es");
	if (row->hosts > 1)
		printf(" on %zu hosts", row->hosts);
	printf("\n  time     %s", report_time(first, row->first));
	if (row->last != row->first)
		printf(" to %s", report_time(last, row->last));
	printf("\n  outcome  %s%s%s", row->outcome[OUTCOME_REFUSED] ? RED : "",
	       outcomes_text(outcome, row), row->outcome[OUTCOME_REFUSED] ? PLAIN : "");
	if (o->error)
		printf("; the kernel said %s",
		       strerrorname_np(o->error) ? strerrorname_np(o->error) : "?");
	putchar('\n');
	print_frames(s, "called by", o->stack, o->modules);
	print_frames(s, "mapped by", o->mmap_stack, o->modules);
	print_remedies(row);
}

static void print_end(const struct report *r)
{
	const struct {
		uint64_t n;
		const char *many, *one;
	} said[] = {
		{ r->fine, "pins that the kernel granted, by programs that came to their end",
		  "pin that the kernel granted, by a program that came to its end" },
		{ r->left_out, "offenders of kinds that were too many to be recorded",
		  "offender of a kind that was one too many to be recorded" },
		{ r->unmatched,
		  "records whose repeats are counted here are in none of these logs",
		  "record whose repeats are counted here is in none of these logs" },
		{ r->lost, "lines could not be written", "line could not be written" },
		{ r->damaged, "lines are damaged", "line is damaged" },
		{ r->newer, "lines are of a newer version", "line is of a newer version" },
		{ r->foreign, "lines are not from pinstage", "line is not from pinstage" },
	};
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
		if (!said[i].n)
			continue;
		printf("%s%llu %s\n", any ? "" : "\n", (unsigned long long)said[i].n,
		       said[i].n == 1 ? said[i].one : said[i].many);
		any = true;
	}
}

int report_print_text(const struct report *r, struct symbols *s)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	int err = 0;

	colours = isatty(STDOUT_FILENO) && !(no_color && *no_color) &&
		  !(term && !strcmp(term, "dumb"));
	if (r->rows == 0)
		puts("no offenders");
	else
		err = print_table(r);
	for (size_t i = 0; i < r->rows && !err; i++)
		print_row(r, i, s);
	print_end(r);
	return err;
}
