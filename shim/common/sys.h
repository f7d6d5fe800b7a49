/* SPDX-License-Identifier: MIT */
/* Functions that the library hooks, for code which the library shares with the other programs:
 * there each is libc's, here it is the original behind our own hook. */
#ifndef PINSTAGE_SYS_H
#define PINSTAGE_SYS_H

#include <sys/types.h>

int sys_close(int fd);
ssize_t sys_read(int fd, void *buf, size_t n);

#endif
