/* SPDX-License-Identifier: MIT */
/* What the keepers have staged, as it is now: asked once, then plain data. */
#ifndef PINSTAGE_VIEW_H
#define PINSTAGE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proto.h"

struct view_segment {
	uint64_t id, off, len; /* bytes */
	uint64_t dirty;	       /* bytes that the last pass could not write */
	uint64_t state;	       /* enum segment_state */
	pid_t *pid;	       /* of its users, as the keeper sees them; 0: not at all */
	size_t pids;
};

struct view_file {
	struct inode_key key;
	char name[sizeof(((struct msg *)0)->text)]; /* when it was staged, or "" */
	int error;				    /* of the last pass: 0 or -errno */
	uint64_t age_ms; /* since the last pass that wrote all there was */
	uint64_t staged, dirty;
	struct view_segment *segment; /* by offset */
	size_t segments;
	pid_t *pid; /* of all users */
	size_t pids;
};

struct view_keeper {
	uid_t uid;
	int sock;	 /* the conversation, or -1 */
	int error;	 /* why it could not be asked: 0 or -errno */
	enum reason why; /* likewise */
	uint64_t pid;	 /* as it sees itself */
	char version[32];
	uint64_t staged, budget, refusals, failures;
	bool fate_shared;	/* something may end it and a program in one stroke */
	struct view_file *file; /* by name */
	size_t files;
};

struct view {
	struct view_keeper *keeper; /* those that are running, by user */
	size_t keepers;
};

/* Asks the caller's keeper, and for root with `all` everybody's. A keeper that cannot be asked
 * is in it, with its error; one that is not running is not. -errno. */
int view_take(struct view *v, bool all);
void view_free(struct view *v);

const char *view_state(uint64_t state);
uint64_t view_dirty(const struct view_keeper *k);

/* Upper bound for the age of any change that is not in its file yet. */
uint64_t view_age_ms(const struct view_keeper *k);

/* Only files of a file system, or only one, and keepers that have such; see mount.h. */
struct mount;
void view_keep_only(struct view *v, const struct mount *m);

/* A process's name, for people: "?" if it cannot be had. */
void process_name(pid_t pid, char *name, size_t size);

/* "4711 (fio), 4712 (fio)" into text; at most a few, then how many more. */
void users_text(const pid_t *pid, size_t pids, char *text, size_t size);

#endif
