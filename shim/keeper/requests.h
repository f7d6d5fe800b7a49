/* SPDX-License-Identifier: MIT */
/* What requests.c, which takes a request apart, has done by others. All by the worker that has
 * the stage, without the lock unless it says so; 0 or -errno, with the reason in the message.
 */
#ifndef PINSTAGE_KEEPER_REQUESTS_H
#define PINSTAGE_KEEPER_REQUESTS_H

#include "keeper/keeper.h"

static inline int refuse(struct msg *m, enum reason why, int err)
{
	m->reason = why;
	return err;
}

/* admit.c */
int within_file(const struct stage *s, uint64_t off, uint64_t len);
int do_stage(struct stage *s, struct job *j, struct segment **ret);
int do_attach(struct stage *s, struct job *j, int *ret_memfd);
void stage_opened(struct stage *s, int fd); /* fd is then the stage's */
int never_to_be_written(struct segment *g); /* what was superseded */
void segment_admit(struct segment *g, uint64_t id, uint64_t run,
		   uint64_t interval_ms); /* lock held */

/* share.c */
int do_join(struct stage *s, struct job *j, struct segment **ret);
bool used_by_others(const struct segment *g, const struct client *c);
void hand_over_runs(struct stage *s); /* lock held */

/* passes.c: writes what changed; the error goes into the ledgers and the stage */
int sync_stage(struct stage *s, uint64_t off, uint64_t len, bool durable);
/* And before somebody maps what is staged: what others wrote is brought to it. */
void stage_catch_up(struct stage *s, const struct segment *g);

/* ending.c */
void segment_let_go(struct segment *g); /* frees it, and wakes who waits for that */
int segment_reopen(struct segment *g);	/* one that is sealed */
int do_retire(struct segment *g, struct job *j, int *ret_fd);
int do_release(struct stage *s, struct job *j, struct segment *g);
void let_go(struct stage *s); /* the last word on segments that nobody shows any more */

#endif
