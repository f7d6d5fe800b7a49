// SPDX-License-Identifier: MIT
/* Preloaded beside the shim: calls of the C library made by number, as gperftools' tcmalloc
 * replaces some to see what is mapped. */
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);
}

int munmap(void *addr, size_t len)
{
	return (int)syscall(SYS_munmap, addr, len);
}

void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	return (void *)syscall(SYS_mremap, addr, old_len, new_len, flags, to);
}

int madvise(void *addr, size_t len, int advice)
{
	return (int)syscall(SYS_madvise, addr, len, advice);
}

int msync(void *addr, size_t len, int flags)
{
	return (int)syscall(SYS_msync, addr, len, flags);
}

int close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

int fsync(int fd)
{
	return (int)syscall(SYS_fsync, fd);
}
