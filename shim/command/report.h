/* SPDX-License-Identifier: MIT */
/* pinstage report: from lines to what to do about them. */
#ifndef PINSTAGE_REPORT_H
#define PINSTAGE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum outcome { OUTCOME_STAGED, OUTCOME_LOGGED, OUTCOME_DENIED, OUTCOME_REFUSED, OUTCOMES };

/* A record, with what was said of it at the end. */
struct offence {
	enum outcome outcome;
	char *process; /* host, boot, number and time of start, in one */
	char *host, *exe, *call, *file, *fs, *flags, *reason, *remedy;
	char *stack, *mmap_stack, *modules;
	uint64_t site, n, bytes, first, last;
	unsigned access;
	int error;
	bool has_access;
};

/* Those that are one row. Strings are the first one's. */
struct row {
	const struct offence *one;
	uint64_t count, bytes, first, last;
	uint64_t outcome[OUTCOMES];
	size_t files, hosts, processes;
	unsigned access;
	const struct offence **all;
	size_t n;
};

struct report {
	struct offence *offence;
	size_t offences, room;
	struct row *row;
	size_t rows;
	const struct offence **all; /* in the order of rows */
	bool many_hosts;	    /* rows are of file systems, not of files */
	uint64_t lines, damaged, foreign, newer, unmatched;
	uint64_t fine, lost, left_out; /* of processes that came to their end */
	void *repeats, *totals;	       /* trees, of what is said at the end */
};

/* Takes in one line, of `len` bytes, which is written over. -ENOMEM. */
int report_take(struct report *r, char *text, size_t len);

/* When all lines are in: makes rows of what was last seen at `since` or later. */
int report_group(struct report *r, uint64_t since);

/* -EINVAL for a column that there is not. */
int report_sort(struct report *r, const char *by);
extern const char report_sort_columns[];

void report_free(struct report *r);

const char *outcome_name(enum outcome o);
uint64_t outcome_first(const struct row *row);

/* What can be done about a row, most useful first: names, and what they say. */
#define REMEDIES_MOST 10
struct remedy {
	const char *name; /* "stage" */
	char text[384];
};
size_t report_remedies(const struct row *row, struct remedy *ret);

/* The frames of a stack, innermost first. */
struct frame {
	char *module; /* path, or "" */
	char *id;     /* build-id, or "" */
	uint64_t address;
	char *function, *file; /* NULL: not known */
	int line;
	bool inlined;	  /* into the next frame, which has the same address */
	const char *note; /* why not, or NULL */
};
struct frame *frames_of(const char *stack, const char *modules, size_t *ret_n);
void frame_clear(struct frame *f);
void frames_free(struct frame *f, size_t n);

/* Fills in functions, files and lines, as far as they can be found, and puts in those frames
 * that were inlined into others. */
struct symbols;
struct symbols *symbols_open(void);
void symbols_close(struct symbols *s);
void symbols_resolve(struct symbols *s, struct frame **f, size_t *n);

int report_print_text(const struct report *r, struct symbols *s);
int report_print_json(const struct report *r, struct symbols *s);

/* 2026-11-24T23:57:51Z */
#define REPORT_TIME_SIZE 32
const char *report_time(char dst[REPORT_TIME_SIZE], uint64_t ns);

#endif
