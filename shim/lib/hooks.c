/* SPDX-License-Identifier: MIT */
/* The exported symbols. Nothing but the step from a name to on_<name>(). */
#include "lib/hooks.h"

#include <alloca.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "common/util.h"

#define EXPORT __attribute__((visibility("default")))

#define TRAMPOLINE(library, type, name, params, args, raw) \
	EXPORT type name params                            \
	{                                                  \
		return on_##name args;                     \
	}
#define TRAMPOLINE_NORETURN(library, type, name, params, args, raw) \
	EXPORT type name params                                     \
	{                                                           \
		on_##name args;                                     \
		__builtin_unreachable();                            \
	}
#define ALIAS(name64, name) EXPORT extern __typeof__(name) name64 __attribute__((alias(#name)));
#define BY_HAND(...)

PINSTAGE_HOOKS(TRAMPOLINE, TRAMPOLINE_NORETURN, BY_HAND, BY_HAND)

/* The last argument is read whether or not it was passed, as libc does. */
EXPORT void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	return on_mremap(addr, old_len, new_len, flags, to);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return on_ioctl(fd, request, arg);
}

EXPORT int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t perm;

	va_start(ap, flags);
	perm = va_arg(ap, mode_t);
	va_end(ap);
	return on_open(path, flags, perm);
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t perm;

	va_start(ap, flags);
	perm = va_arg(ap, mode_t);
	va_end(ap);
	return on_openat(dir, path, flags, perm);
}

/* What concerns nobody is done as libc does it, whose function is no more than this: a return
 * more after the system call costs more than all the rest (docs/performance.md). */
EXPORT long syscall(long nr, ...)
{
	va_list ap;
	long a, b, c, d, e, f;

	va_start(ap, nr);
	a = va_arg(ap, long);
	b = va_arg(ap, long);
	c = va_arg(ap, long);
	d = va_arg(ap, long);
	e = va_arg(ap, long);
	f = va_arg(ap, long);
	va_end(ap);
	if (likely(real_syscall_is_libcs && !syscall_has_hook(nr)))
		return RAW(nr, a, b, c, d, e, f);
	return on_syscall(nr, a, b, c, d, e, f);
}

/* How many pointers the argument vector has that begins with `first`; the last one is NULL. */
static size_t vector_length(const char *first, va_list ap)
{
	size_t n = 1;

	for (const char *arg = first; arg; arg = va_arg(ap, const char *))
		n++;
	return n;
}

static void collect(char **vector, size_t n, const char *first, va_list ap)
{
	vector[0] = (char *)(uintptr_t)first;
	for (size_t i = 1; i < n; i++)
		vector[i] = va_arg(ap, char *);
}

/* On the caller's stack, as libc has it: execl() may be called where no memory can be had.
 * `more` pointers behind the vector come along. */
#define COLLECT(vector, n, first, ap, more)                         \
	do {                                                        \
		va_start(ap, first);                                \
		(n) = vector_length(first, ap);                     \
		va_end(ap);                                         \
		(vector) = alloca(((n) + (more)) * sizeof(char *)); \
		va_start(ap, first);                                \
		collect(vector, (n) + (more), first, ap);           \
		va_end(ap);                                         \
	} while (0)

EXPORT int execl(const char *path, const char *arg, ...)
{
	char **argv;
	va_list ap;
	size_t n;

	COLLECT(argv, n, arg, ap, 0);
	return on_execv(path, argv);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	char **argv;
	va_list ap;
	size_t n;

	COLLECT(argv, n, arg, ap, 0);
	return on_execvp(file, argv);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	char **argv;
	va_list ap;
	size_t n;

	COLLECT(argv, n, arg, ap, 1);
	return on_execve(path, argv, (char *const *)(void *)argv[n]);
}

PINSTAGE_HOOKS(BY_HAND, BY_HAND, BY_HAND, ALIAS)
