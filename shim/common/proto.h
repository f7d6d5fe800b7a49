/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * What library, command and keeper say to each other: one fixed-size message each way over a
 * SOCK_SEQPACKET socket, descriptors beside it (SCM_RIGHTS). Every request has one answer of
 * the same type, except MSG_STATUS, which has one per segment and a last one with `last` set,
 * and MSG_COPIED, which has none.
 *
 *   HELLO    opens a conversation: interval (ms), budget (bytes), run (or 0)
 *   STAGE    + descriptor of the file, open for reading and writing: key, off, len, flags
 *            → id, the segment's memfd and its ledger. The segment is not in force yet.
 *   CLEAN    id, off, len: writes the file's dirty pages of a window around the segment
 *   COPIED   id, off, len: the memfd holds this part of what the file holds, from the beginning,
 *            and the process cannot reach its old pages: they can be evicted, and its bases
 *            recorded. A hint; to a keeper that TAKES_COPIED
 *   COMMIT   id, off, len, arg[0]: the memfd holds what the file holds, and nothing of the
 *            process can reach the old pages of the window. Evicts them, waiting arg[0] ms for
 *            those that somebody still holds, takes again what changed meanwhile, records the
 *            bases. → the segment is in force
 *   ABORT    id: forget a segment that is not in force
 *   JOIN     + any descriptor of the file: key, off, len, flags
 *            → the first segment in force there, whoever staged it: id, off, len, memfd and
 *            ledger. The client uses it from now on. -ENOENT: there is none; -EAGAIN: one is
 *            being filled, ask again
 *   SYNC     key, off, len (0: to the end), flags: carry changes to the file
 *            → -ENOENT if nothing of it is staged here: then ATTACH
 *   WROTE    key, off, len: the program has written this to the file, and we to the memory:
 *            what file and memory agree on is not known there
 *   RETIRE   id, key, off, len (of all of the segment): no mapping is left in the process: seal, carry the last changes, let go
 *            → where that is refused and the memory may be sealed, the one it goes on in
 *   RELEASE  id, key, off, len, flags: this process has no mapping of the segment any more → -EBUSY if it lives on,
 *            mapped by others or pinned
 *   ATTACH   key, off, len, flags + descriptor of the file, memfd, ledger: a segment that another
 *            keeper had, or that this process inherited → id, and where the memory is sealed
 *            and went on in another one, or has to, that. To a keeper that TAKES_ORIGIN, and where
 *            the memory is a copy of which no keeper knew, + the sealed memory that it was made of
 *   STATUS   arg[0]: how many segments to skip → a message for each of the next STATUS_PAGE
 *            ones, and a last one (`last` is set) with arg[1] set if there are more
 *   USERS    id, arg[0]: how many users to skip → the next USERS_PAGE ones
 *   SHOW     id → read-only descriptors of the memory and the ledger
 *   WAIT     run, arg[0] (ms): until nothing is held for that run any more → error, file
 */
/* clang-format on */
#ifndef PINSTAGE_PROTO_H
#define PINSTAGE_PROTO_H

#include <stddef.h>
#include <stdint.h>

#include "common/reason.h"
#include "common/util.h"

#define PROTO_MAGIC   0x70736731 /* "psg1" */
#define PROTO_VERSION 2
#define PROTO_FDS     3 /* of an answer */
#define PROTO_ASKS    4 /* of a request */

enum msg_type {
	MSG_HELLO = 1,
	MSG_STAGE,
	MSG_CLEAN,
	MSG_COMMIT,
	MSG_ABORT,
	MSG_SYNC,
	MSG_RETIRE,
	MSG_RELEASE,
	MSG_ATTACH,
	MSG_WROTE,
	MSG_JOIN,
	MSG_STATUS,
	MSG_WAIT,
	MSG_USERS,
	MSG_SHOW,
	MSG_COPIED,
	MSG_TYPE_MAX
};

#define STATUS_PAGE 64 /* what fits a socket whose other end reads late */
#define USERS_PAGE  63 /* process IDs, four bytes each, in msg.text */

/* Flags of HELLO: */
#define CLIENT_UNFILTERED 1U /* no filter is on the client's system calls (seccomp) */
/* Of the answer to HELLO, and of the last one to STATUS: */
#define FATE_SHARED	  1U /* whatever ends the program in one stroke may end the keeper, too */
/* Of the answer to HELLO: */
#define TAKES_COPIED	  2U
#define TAKES_ORIGIN	  4U
/* Of SYNC: */
#define SYNC_DURABLE	  1U /* on the device before the answer, not only in the file */
#define SYNC_OTHERS	  2U /* the client has nothing of it: nothing staged is no error */
/* Of STAGE and ATTACH: */
#define FILE_AS_IS	  2U /* this description of the file will do if none can be opened */
/* Of STAGE, with that one: */
#define STAGE_OR_LEAVE	  4U /* the client can open one: who holds nothing makes way */
/* Of JOIN: */
#define JOIN_BREAK	  1U /* what is being filled takes too long: it is broken off */
#define JOIN_VISIT	  2U /* to write there only, for as long as that takes */
/* Of ATTACH: */
#define ATTACH_TO_MAP	  1U /* the client maps it for writing: sealed memory will not do */
/* Of RELEASE: */
#define RELEASE_VISIT	  1U /* the client only wrote: nothing is synced before the answer */

struct msg {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	int32_t error;	 /* answers: 0 or -errno */
	uint32_t reason; /* answers: enum reason */
	uint32_t flags;
	uint32_t last;
	struct inode_key key;
	uint64_t id;
	uint64_t off, len; /* bytes */
	uint64_t run;
	uint64_t arg[4];
	char text[256]; /* a file's name, for people only */
};

/* HELLO: arg[0] = interval in ms, arg[1] = budget in bytes, arg[2] = client's process ID as it
 *        sees itself, arg[3] = a number that all conversations of one process share,
 *        len = how many descriptors it could allow a keeper.
 *        Answer: arg[0] = keeper's process ID, arg[1] = a random number of its own,
 *        flags = TAKES_COPIED, TAKES_ORIGIN, FATE_SHARED.
 * STATUS answers: arg[0] = dirty bytes at the last pass, arg[1] = users, arg[2] = milliseconds
 *        since the last successful pass, arg[3] = state. The last one: arg[0] = bytes staged,
 *        arg[2] = budget in bytes, arg[3] = pins refused, len = passes that failed, text = the
 *        keeper's version, flags = FATE_SHARED if that is so with any user.
 * USERS answer: the IDs, as the keeper sees them, of the processes that have segment `id`
 *        mapped, from the arg[0]th on; len = how many of them are in text. */

/* How far a window reaches beyond its segment to either side, at most. */
#define LARGEST_FOLIO (2UL << 20)

void msg_init(struct msg *m, enum msg_type type);

/* Sends one message with up to PROTO_ASKS descriptors; -errno. */
int msg_send(int sock, const struct msg *m, const int *fds, size_t n);

/* Receives one message; descriptors not asked for are closed, missing ones are -1. Returns 0,
 * -ECONNRESET at the end of the conversation, -EPROTO for what is not a message, -errno. */
int msg_recv(int sock, struct msg *m, int *fds, size_t n);

#endif
