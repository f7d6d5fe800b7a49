/* SPDX-License-Identifier: MIT */
/*
 * Staging at mapping time (PINSTAGE_EAGER), so that processes which map one file meet in one
 * stage from the start. It happens before the mapping is made: at no time does any of them show
 * the file itself, and the kernel's word that nobody maps it holds for all of them.
 */
#ifndef PINSTAGE_EAGER_H
#define PINSTAGE_EAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/space.h"
#include "lib/trace.h"

/* Whether the file behind fd is one of those. Costs nothing unless the setting is there. */
bool eager_wanted(int fd);

/*
 * Stages what is not staged yet of [off, off+len) of f, as far as the file reaches, and joins
 * what is; join_leave() lets go of it if the mapping is not made. What cannot be had is said,
 * and stays the file's own. True: this process itself maps part of it already, so that it can
 * only be staged behind a curtain, by eager_late(). Lock held.
 */
bool eager_stage(struct file *f, int fd, uint64_t off, size_t len, const struct trace *trace);

/* The mapping at [start, end) was made meanwhile. Lock held. */
void eager_late(uintptr_t start, uintptr_t end, const struct trace *trace);

#endif
