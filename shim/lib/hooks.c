/* SPDX-License-Identifier: MIT */
/* The exported symbols. Nothing but the step from a name to on_<name>(). */
#include "lib/hooks.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

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
PINSTAGE_HOOKS(BY_HAND, BY_HAND, BY_HAND, ALIAS)

/* The fifth argument is read whether or not it was passed, as libc does. */
EXPORT void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	return on_mremap(addr, old_len, new_len, flags, to);
}

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
	return on_syscall(nr, a, b, c, d, e, f);
}
