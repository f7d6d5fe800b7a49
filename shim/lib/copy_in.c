/* SPDX-License-Identifier: MIT */
#include "lib/copy_in.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/newer.h"
#include "common/util.h"
#include "lib/arch.h"

/* Not what the kernel says of bad memory. */
static bool forbidden(ssize_t ret)
{
	return ret < 0 && errno != EFAULT && errno != ENOMEM;
}

/* Whether all of it can be read, or written: what cannot be there is said, too. (Linux 5.14.)
 */
static bool is_there(const void *p, size_t n, int advice)
{
	const uintptr_t start = page_down((uintptr_t)p), end = page_up((uintptr_t)p + n);
	const long ret =
		arch_syscall(SYS_madvise, (long)start, (long)(end - start), advice, 0, 0, 0);

	if (ret < 0)
		errno = EFAULT;
	return ret == 0;
}

bool pin_copy_in(void *dst, const void *src, size_t n)
{
	struct iovec to = { dst, n }, from = { (void *)(uintptr_t)src, n };
	const ssize_t got = process_vm_readv(getpid(), &to, 1, &from, 1, 0);

	if (likely(!forbidden(got)))
		return got == (ssize_t)n;
	if (!is_there(src, n, MADV_POPULATE_READ))
		return false;
	memcpy(dst, src, n);
	return true;
}

bool pin_copy_out(void *dst, const void *src, size_t n)
{
	struct iovec from = { (void *)(uintptr_t)src, n }, to = { dst, n };
	const ssize_t put = process_vm_writev(getpid(), &from, 1, &to, 1, 0);

	if (likely(!forbidden(put)))
		return put == (ssize_t)n;
	if (!is_there(dst, n, MADV_POPULATE_WRITE))
		return false;
	memcpy(dst, src, n);
	return true;
}
