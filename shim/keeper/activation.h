/* SPDX-License-Identifier: MIT */
/* The socket that a service manager made for us: sd_listen_fds(3), a protocol of two variables.
 */
#ifndef PINSTAGE_KEEPER_ACTIVATION_H
#define PINSTAGE_KEEPER_ACTIVATION_H

#define ACTIVATION_FD 3

/* ACTIVATION_FD if it is such a socket; -ENOENT: we were started otherwise; -EINVAL: it is not
 * of the kind that we need. */
int activation_listener(void);

#endif
