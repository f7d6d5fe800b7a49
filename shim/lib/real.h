/* SPDX-License-Identifier: MIT */
/* The originals of the hooked functions. Inside the library every call of a hooked function
 * goes through here: its plain name would come back to our own hook. */
#ifndef PINSTAGE_REAL_H
#define PINSTAGE_REAL_H

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <utime.h>

#include "lib/arch.h"
#include "lib/table.h"
#include "lib/verbs.h"

/* What _FORTIFY_SOURCE makes of some calls; declared in no header. */
ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t off, size_t room);
int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);

struct real_functions {
#define REAL_SLOT(library, type, name, params, ...) type(*name) params;
#define REAL_NONE(alias, name)
	PINSTAGE_HOOKS(REAL_SLOT, REAL_SLOT, REAL_SLOT, REAL_NONE)
#undef REAL_SLOT
#undef REAL_NONE
};

extern struct real_functions real;

/* real.syscall() is libc's, and no other preloaded object's. */
extern bool real_syscall_is_libcs;

/* libc's note of whether the process has but one thread (<sys/single_threaded.h>, glibc 2.32);
 * where there is none, it may have more. */
extern const char *real_single_threaded;

/* Binds libc's originals. Called by the constructor, or by the first hook if one runs before
 * it. Returns false, with nothing done, when called from within itself (an allocator that maps
 * memory while dlsym() runs). */
int real_bind(void);

static inline long raw_result(long ret)
{
	if ((unsigned long)ret >= (unsigned long)-4095) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

/* The plain system call with libc's convention of errno. */
#define RAW(nr, ...) RAW_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define RAW_(nr, a, b, c, d, e, f, ...)                                                    \
	raw_result(arch_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), \
				(long)(f)))

#endif
