/* SPDX-License-Identifier: MIT */
/*
 * Where a user's keeper is found. The place follows from the user's ID alone, never from the
 * environment: /run/pinstage for root, /run/user/UID/pinstage where the system provides a
 * directory for the user's session, /tmp/pinstage-UID otherwise. The directory must belong to
 * the user and be closed to everybody else.
 */
#ifndef PINSTAGE_RENDEZVOUS_H
#define PINSTAGE_RENDEZVOUS_H

#include <sys/types.h>

#define RENDEZVOUS_SOCKET "keeper.sock"
#define RENDEZVOUS_LOCK	  "keeper.lock"
#define RENDEZVOUS_LOG	  "keeper.log"

/* Descriptors without which a keeper could accept nobody, or stage nothing: it does not begin
 * where the hard limit, which it has from who starts it, is lower. One with a single segment
 * has 18 at most. */
#define RENDEZVOUS_FILES 24

/* Opens the directory (O_PATH-like descriptor usable with *at calls), making it if `create`.
 * -ENOENT: not there; -EPERM: it is somebody else's or open to others; -errno. */
int rendezvous_open(uid_t uid, int create);

/* Connects to the keeper behind a directory from rendezvous_open() and checks that the other
 * end belongs to `uid` or to root. -ECONNREFUSED or -ENOENT: nobody listens. */
int rendezvous_connect(int dir, uid_t uid);

/* The same, and whoever listens may be nobody who accepts: -EAGAIN then. */
int rendezvous_connect_within(int dir, uid_t uid, int seconds);

/* Binds a listening socket there in place of what was. For the holder of the lock only. */
int rendezvous_listen(int dir);

#endif
