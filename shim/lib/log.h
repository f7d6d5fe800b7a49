/* SPDX-License-Identifier: MIT */
/*
 * The one way in which the library says anything: a logfmt line per event, written by one
 * write(2) to where PINSTAGE_LOG points. Unset, refusals and errors go to standard error, and
 * nothing else is said. May be called from anywhere but a signal handler; keeps errno. Never
 * waits, and no signal comes of it: what cannot be written at once is lost, and counted.
 */
#ifndef PINSTAGE_LOG_H
#define PINSTAGE_LOG_H

#include <stdbool.h>
#include <stddef.h>

/* Of the set of keys, which docs/diagnostics.md describes. */
#define LOG_VERSION   1
#define LOG_LINE_MOST 4096 /* bytes, with the newline */

enum log_event_kind {
	EV_INFO,   /* event=info */
	EV_STAGE,  /* event=stage: a range was staged */
	EV_RETIRE, /* event=retire: a range went back to the file's own mapping */
	EV_PIN,	   /* event=pin: mode log met an offender and left it alone */
	EV_DENY,   /* event=deny: mode deny let the kernel's refusal stand */
	EV_REFUSE, /* event=refuse: an offender could not be staged; always said */
	EV_ERROR,  /* event=error: always said */
	EV_AGAIN,  /* event=again: at the end, how often a record would have been repeated */
	EV_COUNT,  /* event=count: at the end, totals */
};

/* False if the target cannot be opened: that is said on standard error. */
bool log_open(const char *target);
void log_fd_moved(int from, int to);
void log_event(enum log_event_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Whether a log was asked for: only then is it worth finding out more than has to be said. */
bool log_wanted(void);

/* Lines that could not be written so far. */
unsigned long log_lost(void);

/* `src` with everything that could forge or break a line escaped, for use inside file="...". */
const char *log_escape(char *dst, size_t size, const char *src);

/* A time in nanoseconds since the epoch as 2026-11-24T23:57:51.123456Z. */
#define LOG_TIME_SIZE 96
const char *log_time(char dst[LOG_TIME_SIZE], unsigned long long ns);
unsigned long long log_now(void);

#endif
