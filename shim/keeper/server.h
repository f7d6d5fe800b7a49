/* SPDX-License-Identifier: MIT */
/* The parts of the main thread; lock held. */
#ifndef PINSTAGE_KEEPER_SERVER_H
#define PINSTAGE_KEEPER_SERVER_H

#include "keeper/keeper.h"

/* clients.c: whether a HELLO says that its sender could have a better keeper */
bool should_leave(const struct msg *m);

/* clients.c: the first message of a conversation; 0 or -errno for the answer */
int hello(struct conversation *c, struct msg *m);

/* dispatch.c: one message and what came with it; descriptors that it keeps become -1 */
void dispatch(struct conversation *c, struct msg *m, int *fds);

/* dispatch.c: answers those who wait for the end of a run, if it has come or their time is up
 */
void check_waiters(void);

/* status.c: what is staged, and which processes have a segment mapped */
void answer_status(struct conversation *c, uint64_t skip);
void answer_users(struct conversation *c, struct msg *m);

/* show.c: the content of a segment, for who has to put it elsewhere */
void answer_show(struct conversation *c, struct msg *m);

/* farewell.c: what SIGTERM and SIGINT mean. Done: somebody told us to end, and there is nothing
 * left that we hold. Pending: it has yet to say what there is. */
void farewell_prepare(void);
bool farewell_done(void);
bool farewell_pending(void);

#endif
