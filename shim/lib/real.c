/* SPDX-License-Identifier: MIT */
#include "lib/real.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#include "common/sys.h"
#include "common/util.h"

static __thread bool binding __attribute__((tls_model("initial-exec")));

static int plain_dup2(int fd, int to)
{
	if (fd != to)
		return (int)RAW(SYS_dup3, fd, to, 0);
	return RAW(SYS_fcntl, fd, F_GETFD) < 0 ? -1 : to;
}

static int plain_times(int dir, const char *path, const struct timeval times[2], int flags)
{
	struct timespec to[2];

	for (size_t i = 0; times && i < 2; i++)
		to[i] = (struct timespec){ times[i].tv_sec, times[i].tv_usec * 1000 };
	return (int)RAW(SYS_utimensat, dir, path, times ? to : NULL, flags);
}

static int plain_utime(const char *path, const struct utimbuf *times)
{
	const struct timeval to[2] = { { .tv_sec = times ? times->actime : 0 },
				       { .tv_sec = times ? times->modtime : 0 } };

	return plain_times(AT_FDCWD, path, times ? to : NULL, 0);
}

static void *raw_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	return (void *)RAW(SYS_mremap, addr, old_len, new_len, flags, to);
}

static int raw_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return (int)RAW(SYS_ioctl, fd, request, arg);
}

static int raw_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t perm;

	va_start(ap, flags);
	perm = va_arg(ap, mode_t);
	va_end(ap);
	return (int)RAW(SYS_openat, AT_FDCWD, path, flags, perm);
}

static int raw_openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t perm;

	va_start(ap, flags);
	perm = va_arg(ap, mode_t);
	va_end(ap);
	return (int)RAW(SYS_openat, dir, path, flags, perm);
}

static long raw_syscall(long nr, ...)
{
	va_list ap;
	long a[6];
	size_t i;

	va_start(ap, nr);
	for (i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	return RAW(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Nobody calls these originals: our execl() is made of execv(), and so on. */
#define NO_ORIGINAL(name)                                             \
	static int raw_##name(const char *path, const char *arg, ...) \
	{                                                             \
		(void)path;                                           \
		(void)arg;                                            \
		errno = ENOSYS;                                       \
		return -1;                                            \
	}
NO_ORIGINAL(execl)
NO_ORIGINAL(execlp)
NO_ORIGINAL(execle)
#define early_execl  raw_execl
#define early_execlp raw_execlp
#define early_execle raw_execle

#define RAW_FUNCTION(library, type, name, params, args, raw) \
	static type raw_##name params                        \
	{                                                    \
		return raw;                                  \
	}
#define NOTHING(...)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
PINSTAGE_HOOKS(RAW_FUNCTION, RAW_FUNCTION, NOTHING, NOTHING)
#pragma GCC diagnostic pop

/* A library that the program loaded with RTLD_LOCAL is not in our search order: ask for it by
 * name, without loading it into programs that have none. One that it loaded with RTLD_GLOBAL
 * is, for as long as it stays. So the handle is kept in either case: what a slot holds must not
 * be unloaded. */
static void *find_LIBURING(const char *name)
{
	static const char *const soname[] = { "liburing.so.2", "liburing-ffi.so.2",
					      "liburing.so.1" };
	void *lib, *sym = dlsym(RTLD_NEXT, name);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(soname); i++) {
		lib = dlopen(soname[i], RTLD_LAZY | RTLD_NOLOAD);
		if (lib && !sym)
			sym = dlsym(lib, name);
	}
	return sym;
}

static void *find_IBVERBS(const char *name, const char *version)
{
	void *lib = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_NOLOAD);
	void *sym = version ? dlvsym(RTLD_NEXT, name, version) : dlsym(RTLD_NEXT, name);

	if (!sym && lib)
		sym = version ? dlvsym(lib, name, version) : dlsym(lib, name);
	return sym;
}

static void *find_LIBC(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Until bound, a slot holds this: it binds and calls on, so that a bound call costs no test. */
#define EARLY_FUNCTION(library, type, name, params, args, raw)  \
	static type early_##name params                         \
	{                                                       \
		if (bind_##library((void **)&real.name, #name)) \
			return raw_##name args;                 \
		return real.name args;                          \
	}

static int bind_LIBC(void **slot, const char *name)
{
	(void)slot;
	(void)name;
	return real_bind();
}

static int fill_slot(void **slot, void *sym)
{
	if (!sym)
		return -ENOSYS;
	__atomic_store_n(slot, sym, __ATOMIC_RELEASE);
	return 0;
}

static int bind_LIBURING(void **slot, const char *name)
{
	return fill_slot(slot, find_LIBURING(name));
}

static int bind_IBVERBS(void **slot, const char *name)
{
	return fill_slot(slot, find_IBVERBS(name, NULL));
}

static int bind_IBVERBS_1_1(void **slot, const char *name)
{
	return fill_slot(slot, find_IBVERBS(name, "IBVERBS_1.1"));
}

PINSTAGE_HOOKS(EARLY_FUNCTION, EARLY_FUNCTION, NOTHING, NOTHING)

static void *early_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	return (real_bind() ? raw_mremap : real.mremap)(addr, old_len, new_len, flags, to);
}

static int early_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return (real_bind() ? raw_ioctl : real.ioctl)(fd, request, arg);
}

static int early_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t perm;

	va_start(ap, flags);
	perm = va_arg(ap, mode_t);
	va_end(ap);
	return (real_bind() ? raw_open : real.open)(path, flags, perm);
}

static int early_openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t perm;

	va_start(ap, flags);
	perm = va_arg(ap, mode_t);
	va_end(ap);
	return (real_bind() ? raw_openat : real.openat)(dir, path, flags, perm);
}

static long early_syscall(long nr, ...)
{
	va_list ap;
	long a[6];
	size_t i;

	va_start(ap, nr);
	for (i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	return (real_bind() ? raw_syscall : real.syscall)(nr, a[0], a[1], a[2], a[3], a[4],
							  a[5]);
}

#define EARLY_SLOT(library, type, name, ...) .name = early_##name,
struct real_functions real = { PINSTAGE_HOOKS(EARLY_SLOT, EARLY_SLOT, EARLY_SLOT, NOTHING) };

static const char perhaps_not;
const char *real_single_threaded = &perhaps_not;

bool real_syscall_is_libcs;

/* In the same object as a function that nobody replaces. Not by dlopen(): the first one to bind
 * may be a runtime that has a lock of its own on that. */
static bool is_libcs(const void *function)
{
	Dl_info it, libc;

	return dladdr(function, &it) && dladdr((const void *)gnu_get_libc_version, &libc) &&
	       it.dli_fbase == libc.dli_fbase;
}

/* Two threads may do this at once: they store the same addresses. */
int real_bind(void)
{
	void *sym;

	if (binding)
		return -EAGAIN;
	binding = true;
#define IS_LIBC_LIBC	    1
#define IS_LIBC_LIBURING    0
#define IS_LIBC_IBVERBS	    0
#define IS_LIBC_IBVERBS_1_1 0
#define BIND(library, type, name, ...)                                                \
	if (IS_LIBC_##library) {                                                      \
		sym = find_LIBC(#name);                                               \
		__atomic_store_n((void **)&real.name, sym ? sym : (void *)raw_##name, \
				 __ATOMIC_RELEASE);                                   \
	}
	PINSTAGE_HOOKS(BIND, BIND, BIND, NOTHING)
	real_syscall_is_libcs = is_libcs((const void *)real.syscall);
	sym = dlsym(RTLD_DEFAULT, "__libc_single_threaded");
	if (sym)
		__atomic_store_n(&real_single_threaded, sym, __ATOMIC_RELEASE);
	binding = false;
	return 0;
}

/* For the code shared with the other programs. */
int sys_close(int fd)
{
	return real.close(fd);
}

ssize_t sys_read(int fd, void *buf, size_t n)
{
	return real.read(fd, buf, n);
}
