/* SPDX-License-Identifier: MIT */
/* Whether something would end a program and its keeper in the same instant: the end of a PID
 * namespace that both are in, or of a control group (cgroup.kill, a service that is stopped).
 */
#ifndef PINSTAGE_KEEPER_FATE_H
#define PINSTAGE_KEEPER_FATE_H

#include <stdbool.h>
#include <sys/types.h>

/* Of the process `pid`, as we see it. What cannot be found out is taken for shared. */
bool fate_shared_with(pid_t pid);

/* The texts of two /proc/PID/cgroup: does whoever ends all of `theirs` end `ours`, too? The
 * root is nobody's to end. */
bool fate_same_group(const char *ours, const char *theirs);

#endif
