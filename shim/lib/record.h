/* SPDX-License-Identifier: MIT */
/*
 * The record of an offender: what the log says of a pin that the kernel refuses, and of what
 * was done about it. A record is written once for each call site, file and outcome; how often
 * there would have been another one is said at the end.
 */
#ifndef PINSTAGE_RECORD_H
#define PINSTAGE_RECORD_H

#include <stdbool.h>

#include "common/reason.h"
#include "common/vmas.h"
#include "lib/log.h"
#include "lib/scratch.h"
#include "lib/stage.h"

struct record {
	enum log_event_kind kind;
	const struct pin_context *ctx;
	const char *path;    /* of the file, NULL if none is known */
	const struct vma *v; /* the mapping, or NULL */
	uint64_t off, len;   /* in the file, of what was staged; len 0: see ctx */
	size_t places;	     /* with EV_STAGE */
	enum reason why;
	int cause; /* -errno of what stood in the way, or 0 */
};

/* Once, when the log is open. */
void record_start(bool arguments);
void record_after_fork(void);

/* Without `scratch` one of its own is taken; where none is to be had, or no log is wanted, the
 * record says only what it must. Keeps errno. */
void record_say(const struct record *r, struct scratch *scratch);

/* The process ends, or another program takes its place: says how often. */
void record_end(void);

#endif
