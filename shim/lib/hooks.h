/* SPDX-License-Identifier: MIT */
/* on_<name>() for every row of the table: our logic, with the original's contract. */
#ifndef PINSTAGE_HOOKS_H
#define PINSTAGE_HOOKS_H

#include <stdbool.h>

#include "lib/real.h"

#define ON_DECLARE(library, type, name, params, ...) type on_##name params;
#define ON_NONE(...)
PINSTAGE_HOOKS(ON_DECLARE, ON_DECLARE, ON_NONE, ON_NONE)

/* The variadic ones, with their arguments taken apart. */
void *on_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *to);
int on_ioctl(int fd, unsigned long request, void *arg);
int on_open(const char *path, int flags, mode_t perm);
int on_openat(int dir, const char *path, int flags, mode_t perm);
long uring_by_syscall(long fd, long opcode, long arg, long n);

/* By number: those that are told apart there. */
#define SYSCALLS_MOST 1024
extern const bool syscall_hooked[SYSCALLS_MOST];
static inline bool syscall_has_hook(long nr)
{
	return (unsigned long)nr < SYSCALLS_MOST && syscall_hooked[nr];
}
long on_syscall(long nr, long a, long b, long c, long d, long e, long f);

#endif
