/* SPDX-License-Identifier: MIT */
/* The library's side of the conversation with the keeper. */
#ifndef PINSTAGE_LIB_KEEPER_H
#define PINSTAGE_LIB_KEEPER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/proto.h"

/* Makes sure that a conversation is open, starting a keeper if there is none. */
int keeper_connect(enum reason *ret_why);

/*
 * Sends *m with `n` descriptors and waits for the answer, which replaces *m; up to PROTO_FDS
 * descriptors that came with it are in got[] (may be NULL if none are expected). Requests of
 * several threads go side by side. Returns the answer's error or -errno, with *ret_why set.
 *
 * If the keeper is gone, another is started and told of all that is staged, and what can be
 * asked twice is asked again. Not behind a curtain: keeper_ask() there.
 */
int keeper_call(struct msg *m, const int *fds, size_t n, int *got, enum reason *ret_why);

/*
 * The same, but the request is sent by send(sock, m, arg), which may run in a shadow child.
 */
int keeper_call_via(struct msg *m, int (*send)(int sock, struct msg *m, void *arg), void *arg,
		    int *got, enum reason *ret_why);

/* As keeper_call(), on a conversation that is open already; -ENOTCONN without. Allocates
 * nothing and takes no lock of anybody else. */
int keeper_ask(struct msg *m, int *got, enum reason *ret_why);

/* Says something that has no answer, and on which nothing depends; on an open conversation. */
void keeper_tell(const struct msg *m);

/* What the keeper met last said of itself in its answer to HELLO. */
bool keeper_takes_copied(void);
bool keeper_takes_origin(void);

/* Each keeper is another instance. Whoever has told the one met last of everything that is
 * staged says so (recover.h); until then nothing is asked of it that takes its knowledge for
 * granted. */
uint64_t keeper_met(void);
void keeper_told(uint64_t instance);
bool keeper_is_told(void);

/* Whether the keeper may end with us, in one stroke. */
bool keeper_fate_shared(void);

/* In a forked child: the parent's conversations are not ours. */
void keeper_after_fork(void);

/* dup2() onto one of our sockets: waits until nobody talks over it, and keeps it so. NULL if
 * fd is none. With the space's lock held, which nobody waits for in a conversation. */
struct conversation *keeper_fd_hold(int fd);
void keeper_fd_moved(int from, int to);
void keeper_fd_let_go(struct conversation *c); /* or NULL */

#endif
