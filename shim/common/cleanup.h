/* SPDX-License-Identifier: MIT */
/* Scope-bound clean-up for descriptors and heap memory (keeper, command and tests: the library
 * itself neither allocates from the heap nor closes through libc's name). */
#ifndef PINSTAGE_CLEANUP_H
#define PINSTAGE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fdp(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}

#define cleanup_fd   __attribute__((cleanup(cleanup_fdp)))
#define cleanup_free __attribute__((cleanup(cleanup_freep)))

static inline int steal_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

#endif
