/* SPDX-License-Identifier: MIT */
/* syscall(): what has a hook by name has it by number, too, where it changes the address space
 * or descriptors of ours. */
#include <sys/mman.h>

#include "common/util.h"
#include "lib/hooks.h"
#include "lib/init.h"

static long by_number(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
	case SYS_io_uring_register:
		return uring_by_syscall(a, b, c, d);
	case SYS_mmap:
		return (long)on_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
	case SYS_munmap:
		return on_munmap((void *)a, (size_t)b);
	case SYS_mremap:
		return (long)on_mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e);
	case SYS_remap_file_pages:
		return on_remap_file_pages((void *)a, (size_t)b, (int)c, (size_t)d, (int)e);
	case SYS_shmat:
		return (long)on_shmat((int)a, (const void *)b, (int)c);
	case SYS_mprotect:
		return on_mprotect((void *)a, (size_t)b, (int)c);
	case SYS_pkey_mprotect:
		return on_pkey_mprotect((void *)a, (size_t)b, (int)c, (int)d);
	case SYS_madvise:
		return on_madvise((void *)a, (size_t)b, (int)c);
	case SYS_process_madvise:
		return on_process_madvise((int)a, (const struct iovec *)b, (size_t)c, (int)d,
					  (unsigned)e);
	case SYS_mlock:
		return on_mlock((const void *)a, (size_t)b);
	case SYS_mlock2:
		return on_mlock2((const void *)a, (size_t)b, (unsigned)c);
	case SYS_munlock:
		return on_munlock((const void *)a, (size_t)b);
	case SYS_msync:
		return on_msync((void *)a, (size_t)b, (int)c);
	case SYS_close:
		return on_close((int)a);
	case SYS_close_range:
		return on_close_range((unsigned)a, (unsigned)b, (int)c);
	case SYS_dup3:
		return on_dup3((int)a, (int)b, (int)c);
#ifdef SYS_dup2
	case SYS_dup2:
		return on_dup2((int)a, (int)b);
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
