/* SPDX-License-Identifier: MIT */
/* The one table of settings. The library reads them from the environment (never in set-id
 * programs), `pinstage run` sets them from its options; the man page is made from it. */
#ifndef PINSTAGE_OPTIONS_H
#define PINSTAGE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mode { MODE_STAGE, MODE_LOG, MODE_DENY, MODE_OFF };

/* clang-format off */
/*   X(variable suffix, C member, type, default as text, option of `pinstage run`, argument, help) */
#define PINSTAGE_OPTIONS(X) \
	X(MODE, mode, MODE, "stage", "mode", "MODE", \
		"What to do about an offender: stage it, only log it, deny it as Linux 6.5 and later do, " \
		"or off: change nothing at all.") \
	X(LOG, log, TEXT, NULL, "log", "FILE", \
		"Where events go: stderr, or a file, which is appended to; if it cannot be opened (a socket, a " \
		"named pipe without a reader), nothing is staged. Unset: refusals and errors only, on standard " \
		"error.") \
	X(LOG_ARGS, log_args, FLAG, "no", "log-args", "yes|no", \
		"Whether the log has all of a program's command line, which may hold secrets, or its first " \
		"word only.") \
	X(SYNC_INTERVAL, sync_interval_ms, SECONDS, "5", "sync-interval", "SECONDS", \
		"Time between two background passes over a staged file; longer where a pass takes long (pinstage-keeper(8)).") \
	X(MAX_BYTES, max_bytes, BYTES, "0", "max-bytes", "BYTES", \
		"Budget for staged memory; suffixes K, M, G, T. 0: a quarter of the memory available, " \
		"and of the control group's limit.") \
	X(EAGER, eager, TEXT, NULL, "eager", "GLOB", \
		"Stage files whose path matches one of these globs (separated by colons) when they are " \
		"mapped, not when they are registered. For files that several processes map. Globs are " \
		"free text: one that matches nothing does nothing.") \
	X(ONLY, only, TEXT, NULL, "only", "GLOB", \
		"Act only in programs whose executable matches one of these globs (separated by colons).") \
	X(EXCLUDE, exclude, TEXT, NULL, "exclude", "GLOB", \
		"Do nothing in programs whose executable matches one of these globs.") \
	X(FS, fs, FILESYSTEMS, NULL, "fs", "+NAME,...", \
		"Further file systems to stage on, of bcachefs, nfs, nfs4, cifs, smb3, ceph, fuse and " \
		"fuseblk; an unknown name is an error. Only for files that no other host maps at the same " \
		"time.")
/* clang-format on */

#define OPTION_C_MODE	     enum mode
#define OPTION_C_TEXT	     const char *
#define OPTION_C_FILESYSTEMS const char *
#define OPTION_C_SECONDS     uint64_t
#define OPTION_C_BYTES	     uint64_t
#define OPTION_C_FLAG	     bool

struct options {
#define OPTION_MEMBER(suffix, member, type, ...) OPTION_C_##type member;
	PINSTAGE_OPTIONS(OPTION_MEMBER)
#undef OPTION_MEMBER
};

enum option_type {
	OPTION_MODE,
	OPTION_TEXT,
	OPTION_FILESYSTEMS,
	OPTION_SECONDS,
	OPTION_BYTES,
	OPTION_FLAG
};

struct option_row {
	const char *variable; /* PINSTAGE_... */
	enum option_type type;
	const char *def; /* default as text, NULL for none */
	const char *option, *arg, *help;
	size_t offset; /* in struct options */
};

extern const struct option_row option_table[];
extern const size_t option_count;

/* Reads text into *ret, which is an OPTION_C_... of that type. Returns as option_set() does. */
int option_parse(enum option_type type, const char *text, void *ret, const char **ret_expected);

/* Sets one option from text. 0 or -EINVAL, with what is allowed in *ret_expected. Text options
 * keep the pointer. */
int option_set(struct options *o, const struct option_row *row, const char *text,
	       const char **ret_expected);

void options_default(struct options *o);

/* Does `path`, or its last component, match one of the colon-separated globs? */
bool globs_match(const char *globs, const char *path);

#endif
