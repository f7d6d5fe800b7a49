/* SPDX-License-Identifier: MIT */
/* syscall(): what has a hook by name has it by number, too, where it changes the address space
 * or descriptors of ours, and where success promises that data is on the disk. */
#include <pthread.h>
#include <sys/mman.h>

#include "common/util.h"
#include "lib/hooks.h"
#include "lib/init.h"

/* By number no call is a cancellation point; some of the originals by name are, close() and
 * msync() among them. */
#define UNCANCELLED(call)                                                \
	({                                                               \
		int state_;                                              \
		long ret_;                                               \
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_); \
		ret_ = (long)(call);                                     \
		pthread_setcancelstate(state_, NULL);                    \
		ret_;                                                    \
	})

static long by_number(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
	case SYS_io_uring_register:
		return UNCANCELLED(uring_by_syscall(a, b, c, d));
	case SYS_mmap:
		return UNCANCELLED(on_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f));
	case SYS_munmap:
		return UNCANCELLED(on_munmap((void *)a, (size_t)b));
	case SYS_mremap:
		return UNCANCELLED(
			on_mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e));
	case SYS_remap_file_pages:
		return UNCANCELLED(
			on_remap_file_pages((void *)a, (size_t)b, (int)c, (size_t)d, (int)e));
	case SYS_shmat:
		return UNCANCELLED(on_shmat((int)a, (const void *)b, (int)c));
	case SYS_mprotect:
		return UNCANCELLED(on_mprotect((void *)a, (size_t)b, (int)c));
	case SYS_pkey_mprotect:
		return UNCANCELLED(on_pkey_mprotect((void *)a, (size_t)b, (int)c, (int)d));
	case SYS_madvise:
		return UNCANCELLED(on_madvise((void *)a, (size_t)b, (int)c));
	case SYS_process_madvise:
		return UNCANCELLED(on_process_madvise((int)a, (const struct iovec *)b,
						      (size_t)c, (int)d, (unsigned)e));
	case SYS_mlock:
		return UNCANCELLED(on_mlock((const void *)a, (size_t)b));
	case SYS_mlock2:
		return UNCANCELLED(on_mlock2((const void *)a, (size_t)b, (unsigned)c));
	case SYS_munlock:
		return UNCANCELLED(on_munlock((const void *)a, (size_t)b));
	case SYS_msync:
		return UNCANCELLED(on_msync((void *)a, (size_t)b, (int)c));
	case SYS_fsync:
		return UNCANCELLED(on_fsync((int)a));
	case SYS_fdatasync:
		return UNCANCELLED(on_fdatasync((int)a));
	case SYS_sync_file_range:
		return UNCANCELLED(on_sync_file_range((int)a, b, c, (unsigned)d));
	case SYS_syncfs:
		return UNCANCELLED(on_syncfs((int)a));
	case SYS_sync:
		on_sync();
		return 0;
	case SYS_close:
		return UNCANCELLED(on_close((int)a));
	case SYS_close_range:
		return UNCANCELLED(on_close_range((unsigned)a, (unsigned)b, (int)c));
	case SYS_dup3:
		return UNCANCELLED(on_dup3((int)a, (int)b, (int)c));
#ifdef SYS_dup2
	case SYS_dup2:
		return UNCANCELLED(on_dup2((int)a, (int)b));
#endif
	default:
		return real.syscall(nr, a, b, c, d, e, f);
	}
}

long on_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	if (unlikely(!enabled))
		return real.syscall(nr, a, b, c, d, e, f);
	return by_number(nr, a, b, c, d, e, f);
}
