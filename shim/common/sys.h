/* SPDX-License-Identifier: MIT */
/* Functions that the library hooks, for code which the library shares with the other programs:
 * there each is libc's, here it is the original behind our own hook. */
#ifndef PINSTAGE_SYS_H
#define PINSTAGE_SYS_H

int sys_close(int fd);

#endif
