/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_SPAWN_H
#define PINSTAGE_SPAWN_H

/* Starts a keeper as a daemon that is nobody's child of ours and waits until it listens or has
 * found that another one does. 0, or -errno: -ENOENT if its program is missing. */
int spawn_keeper(void);

#endif
