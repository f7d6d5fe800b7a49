/* SPDX-License-Identifier: MIT */
/* The parts of the main thread; lock held. */
#ifndef PINSTAGE_KEEPER_SERVER_H
#define PINSTAGE_KEEPER_SERVER_H

#include "keeper/keeper.h"

/* leave.c: whether a HELLO says that its sender could have a better keeper. We end then, which
 * is the answer; or it is answered later, if what we hold lasts. */
bool leave_for(struct conversation *c, const struct msg *m);
void leave_waits_not(struct conversation *c);
/* Which of the two, as far as that can be told: when it can, in ms, or UINT64_MAX. */
uint64_t leave_or_stay(void);

/* clients.c: answers the first message of a conversation */
void hello(struct conversation *c, struct msg *m);

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
