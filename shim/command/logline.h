/* SPDX-License-Identifier: MIT */
/* A line of the log, taken apart. Anything may stand there: a full disk tears lines, other
 * programs write to the same file, and somebody may want to be believed. */
#ifndef PINSTAGE_LOGLINE_H
#define PINSTAGE_LOGLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGLINE_FIELDS 64

struct logline {
	struct {
		const char *key, *value; /* into the text, unescaped */
	} field[LOGLINE_FIELDS];
	size_t n;
};

enum logline_kind {
	LOGLINE_GOOD,
	LOGLINE_FOREIGN, /* somebody else's */
	LOGLINE_NEWER,	 /* of a version that we do not know */
	LOGLINE_DAMAGED,
};

/* Writes over the text of `len` bytes, which ends in a NUL behind them, without a newline. */
enum logline_kind logline_parse(char *text, size_t len, struct logline *ret);

/* Where in a damaged text another line may begin, which followed one that was cut off; NULL. */
char *logline_next(char *text);

/* NULL if there is no such key. */
const char *logline_get(const struct logline *l, const char *key);

/* Decimal, or 0x...; 0 if there is none. */
uint64_t logline_number(const struct logline *l, const char *key);

/* Nanoseconds since the epoch of a time as in the log, with or without its fraction, or its
 * time of day, or its Z; false if it is none. */
bool logline_time(const char *text, uint64_t *ret_ns);

#endif
