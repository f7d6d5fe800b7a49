/* SPDX-License-Identifier: MIT */
/* The command's side of a conversation with the keeper. */
#ifndef PINSTAGE_CONVERSATION_H
#define PINSTAGE_CONVERSATION_H

#include <sys/types.h>

#include "common/proto.h"

/* Talks to the running keeper: its socket. -ENOENT: there is none; another -errno, and
 * *ret_why. */
int conversation_open(enum reason *ret_why);

/* That of another user; *ret_pid is the keeper's process ID, as it sees itself. */
int conversation_open_for(uid_t uid, enum reason *ret_why, uint64_t *ret_pid);

/* The same as the first, and starts the keeper if there is none. */
int conversation_open_or_start(const char *keeper, enum reason *ret_why);

/* Sends m and receives the first answer to it into m. Waits timeout_ms, or -1 for ever. Returns
 * -errno of the conversation itself, -ETIMEDOUT; what the keeper says is in m->error. */
int conversation_ask(int sock, struct msg *m, int timeout_ms);

/* The same, with the descriptors that came along: PROTO_FDS of them, -1 for none. */
int conversation_ask_for(int sock, struct msg *m, int timeout_ms, int *fds);

/* Goes on waiting for the answer after -ETIMEDOUT. */
int conversation_answer(int sock, struct msg *m, int timeout_ms);

#define ANSWER_MS 20000 /* for what the keeper answers at once */

uint64_t now_ms(void);

/* Calls each() for all that the keeper has staged; *ret_last is what it says of itself. -errno;
 * -ETIMEDOUT also if it does not come to an end: root asks everybody's.
 */
int conversation_status(int sock, int (*each)(const struct msg *m, void *arg), void *arg,
			struct msg *ret_last);

/* One line about why there is no conversation. */
void conversation_complain(const char *who, int err, enum reason why);

#endif
