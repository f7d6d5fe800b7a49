/* SPDX-License-Identifier: MIT */
/* pinstage status: what the keeper has staged, as a table. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"
#include "command/conversation.h"
#include "common/cleanup.h"
#include "common/ledger.h"
#include "common/util.h"

static const char usage[] =
	"usage: pinstage status\n"
	"\n"
	"Shows what your keeper has staged, a line for each segment:\n"
	"\n"
	"  FILE     its name when it was staged\n"
	"  OFFSET   where in the file the segment begins, in bytes\n"
	"  LENGTH   its length, in bytes\n"
	"  USERS    processes that have it mapped\n"
	"  DIRTY    bytes that the last pass found changed and could not write\n"
	"  SYNCED   seconds since the last pass over the file that wrote all there was\n"
	"  STATE    filling, live, or sealed: nothing can change it any more\n"
	"  ERROR    of the last write, if it failed\n"
	"\n"
	"Exit status: 0, also if no keeper is running; 125 if the keeper cannot be asked.\n";

static const char *const titles[] = { "FILE",  "OFFSET", "LENGTH", "USERS",
				      "DIRTY", "SYNCED", "STATE",  "ERROR" };
#define COLUMNS	      ARRAY_SIZE(titles)
#define NUMBERS_FIRST 1
#define NUMBERS_LAST  5

struct table {
	struct msg *row;
	size_t rows, room;
};

static int add_row(const struct msg *m, void *arg)
{
	struct table *t = arg;
	struct msg *more;

	if (t->rows == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		more = reallocarray(t->row, t->room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		t->row = more;
	}
	t->row[t->rows++] = *m;
	return 0;
}

static int by_file_and_offset(const void *a, const void *b)
{
	const struct msg *x = a, *y = b;
	int c = inode_key_cmp(x->key, y->key);

	return c ? c : (x->off > y->off) - (x->off < y->off);
}

static const char *state_name(uint64_t state)
{
	static const char *const name[] = { [SEGMENT_FILLING] = "filling",
					    [SEGMENT_LIVE] = "live",
					    [SEGMENT_SEALED] = "sealed" };

	return state < ARRAY_SIZE(name) ? name[state] : "?";
}

/* A file's name may contain anything; a line stays a line. */
static void copy_printable(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 1 < size; from++)
		to[n++] = (unsigned char)*from < 0x20 || *from == 0x7f ? '?' : *from;
	to[n] = '\0';
}

struct line {
	char cell[COLUMNS][sizeof(((struct msg *)0)->text)];
};

static void make_line(struct line *l, const struct msg *m)
{
	const size_t size = sizeof(l->cell[0]);

	copy_printable(l->cell[0], size, m->text[0] ? m->text : "?");
	snprintf(l->cell[1], size, "%" PRIu64, m->off);
	snprintf(l->cell[2], size, "%" PRIu64, m->len);
	snprintf(l->cell[3], size, "%" PRIu64, m->arg[1]);
	snprintf(l->cell[4], size, "%" PRIu64, m->arg[0]);
	snprintf(l->cell[5], size, "%" PRIu64 ".%" PRIu64, m->arg[2] / 1000,
		 m->arg[2] % 1000 / 100);
	snprintf(l->cell[6], size, "%s", state_name(m->arg[3]));
	snprintf(l->cell[7], size, "%s", m->error ? strerror(-m->error) : "-");
}

static void print_line(const struct line *l, const int *width)
{
	for (size_t c = 0; c < COLUMNS; c++) {
		if (c + 1 == COLUMNS)
			printf("%s\n", l->cell[c]);
		else if (c >= NUMBERS_FIRST && c <= NUMBERS_LAST)
			printf("%*s  ", width[c], l->cell[c]);
		else
			printf("%-*s  ", width[c], l->cell[c]);
	}
}

static int print_table(const struct table *t)
{
	cleanup_free struct line *line = calloc(t->rows + 1, sizeof(*line));
	int width[COLUMNS] = { 0 };
	size_t i, c;

	if (!line)
		return -ENOMEM;
	for (c = 0; c < COLUMNS; c++)
		snprintf(line[0].cell[c], sizeof(line[0].cell[c]), "%s", titles[c]);
	for (i = 0; i < t->rows; i++)
		make_line(&line[i + 1], &t->row[i]);
	for (i = 0; i <= t->rows; i++)
		for (c = 0; c < COLUMNS; c++)
			width[c] = MAX(width[c], (int)strlen(line[i].cell[c]));
	for (i = 0; i <= t->rows; i++)
		print_line(&line[i], width);
	return 0;
}

int status_main(int argc, char **argv)
{
	cleanup_free struct msg *rows = NULL;
	struct table t = { 0 };
	cleanup_fd int sock = -1;
	enum reason why;
	int err = no_options(argc, argv, usage);

	if (err >= 0)
		return err;
	sock = conversation_open(&why);
	if (sock == -ENOENT) {
		puts("no keeper is running");
		return output_complete("status");
	}
	if (sock < 0) {
		conversation_complain("status", sock, why);
		return EXIT_OWN;
	}
	err = conversation_status(sock, add_row, &t);
	rows = t.row;
	if (!err && t.rows)
		qsort(t.row, t.rows, sizeof(*t.row), by_file_and_offset);
	if (!err)
		err = print_table(&t);
	if (err) {
		complain("status", "the keeper did not answer: %s", strerror(-err));
		return EXIT_OWN;
	}
	return output_complete("status");
}
