/* SPDX-License-Identifier: MIT */
/* syscall(): what has a hook by name has it by number, too, where it changes the address space
 * or descriptors of ours, and where success promises that data is on the disk. */
#include <pthread.h>
#include <sys/mman.h>

#include "common/util.h"
#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/space.h"

/* The original of mmap() may be another object's (gperftools' tcmalloc), which makes the
 * call by number: that one is for the kernel, or it would be ours again, without end. */
static __thread bool inside __attribute__((tls_model("initial-exec")));

/* By number no call is a cancellation point; some of the originals by name are, close() and
 * msync() among them. */
#define AS_BY_NAME(call)                                                 \
	({                                                               \
		int state_;                                              \
		long ret_;                                               \
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_); \
		inside = true;                                           \
		ret_ = (long)(call);                                     \
		inside = false;                                          \
		pthread_setcancelstate(state_, NULL);                    \
		ret_;                                                    \
	})

/* X(number, call, of on_syscall()'s arguments) */
#define HOOKED(X)                                                                              \
	X(SYS_io_uring_register, uring_by_syscall(a, b, c, d))                                 \
	X(SYS_mmap, on_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f))                  \
	X(SYS_munmap, on_munmap((void *)a, (size_t)b))                                         \
	X(SYS_mremap, on_mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e))           \
	X(SYS_remap_file_pages,                                                                \
	  on_remap_file_pages((void *)a, (size_t)b, (int)c, (size_t)d, (int)e))                \
	X(SYS_shmat, on_shmat((int)a, (const void *)b, (int)c))                                \
	X(SYS_mprotect, on_mprotect((void *)a, (size_t)b, (int)c))                             \
	X(SYS_pkey_mprotect, on_pkey_mprotect((void *)a, (size_t)b, (int)c, (int)d))           \
	X(SYS_madvise, on_madvise((void *)a, (size_t)b, (int)c))                               \
	X(SYS_process_madvise,                                                                 \
	  on_process_madvise((int)a, (const struct iovec *)b, (size_t)c, (int)d, (unsigned)e)) \
	X(SYS_mlock, on_mlock((const void *)a, (size_t)b))                                     \
	X(SYS_mlock2, on_mlock2((const void *)a, (size_t)b, (unsigned)c))                      \
	X(SYS_munlock, on_munlock((const void *)a, (size_t)b))                                 \
	X(SYS_msync, on_msync((void *)a, (size_t)b, (int)c))                                   \
	X(SYS_fsync, on_fsync((int)a))                                                         \
	X(SYS_fdatasync, on_fdatasync((int)a))                                                 \
	X(SYS_sync_file_range, on_sync_file_range((int)a, b, c, (unsigned)d))                  \
	X(SYS_syncfs, on_syncfs((int)a))                                                       \
	X(SYS_sync, (on_sync(), 0))                                                            \
	X(SYS_close, on_close((int)a))                                                         \
	X(SYS_close_range, on_close_range((unsigned)a, (unsigned)b, (int)c))                   \
	X(SYS_dup3, on_dup3((int)a, (int)b, (int)c))                                           \
	HOOKED_DUP2(X)
#ifdef SYS_dup2
#define HOOKED_DUP2(X) X(SYS_dup2, on_dup2((int)a, (int)b))
#else
#define HOOKED_DUP2(X)
#endif

/* And those after which a child comes back on another stack, which has no frame of ours. */
#define IS_HOOKED(number, call) [number] = true,
const bool syscall_hooked[SYSCALLS_MOST] = {
	HOOKED(IS_HOOKED)[SYS_clone] = true,
	[SYS_clone3] = true,
#ifdef SYS_vfork
	[SYS_vfork] = true,
#endif
};

#define CASE(number, call) \
	case number:       \
		return AS_BY_NAME(call);

static long by_number(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
		HOOKED(CASE)
	default:
		return real.syscall(nr, a, b, c, d, e, f);
	}
}

long on_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	if (unlikely(!enabled || inside || space_inside()))
		return real.syscall(nr, a, b, c, d, e, f);
	return by_number(nr, a, b, c, d, e, f);
}
