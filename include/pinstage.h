/* SPDX-License-Identifier: MIT */
/*
 * pinstage for programs that know of it. Optional: nothing is linked, and without the library
 * preloaded every function here returns -ENOSYS (or 0 where said so).
 */
#ifndef PINSTAGE_H
#define PINSTAGE_H

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PINSTAGE_NATIVE 0 /* nothing of the range is staged */
#define PINSTAGE_STAGED 1 /* all of it is */
#define PINSTAGE_PARTLY 2

/*
 * What backs [addr, addr + len), len in bytes: PINSTAGE_NATIVE, _STAGED or _PARTLY; -EINVAL if
 * the range is empty or wraps, -ENOSYS without pinstage.
 */
static inline int pinstage_query(const void *addr, size_t len)
{
	int (*fn)(const void *, size_t) = (int (*)(const void *, size_t))(uintptr_t)dlsym(
		RTLD_DEFAULT, "pinstage_abi_query");

	return fn ? fn(addr, len) : -ENOSYS;
}

/*
 * Writes what was changed in [addr, addr + len), len in bytes, by stores or by a device, to its
 * file; with durable non-zero also to the device, as msync(2) with MS_SYNC does. 0, or the
 * negated error of the write-back (-ENOSPC, -EIO, ...), -EINVAL for a bad range, -ENOSYS
 * without pinstage.
 */
static inline int pinstage_sync(const void *addr, size_t len, int durable)
{
	int (*fn)(const void *, size_t, int) = (int (*)(const void *, size_t, int))(
		uintptr_t)dlsym(RTLD_DEFAULT, "pinstage_abi_sync");

	return fn ? fn(addr, len, durable) : -ENOSYS;
}

/*
 * Gives what is staged in [addr, addr + len), len in bytes, back to the file: its own mapping
 * stands there again, with everything that was changed. Segments are given back whole. 0;
 * -EBUSY while a device or another process uses the memory, or the negated error of the
 * write-back: then it stays staged; -EINVAL for a bad range, -ENOSYS without pinstage.
 */
static inline int pinstage_release(const void *addr, size_t len)
{
	int (*fn)(const void *, size_t) = (int (*)(const void *, size_t))(uintptr_t)dlsym(
		RTLD_DEFAULT, "pinstage_abi_release");

	return fn ? fn(addr, len) : -ENOSYS;
}

/* The version of the preloaded library, "1.2.3", or NULL without it. */
static inline const char *pinstage_version(void)
{
	const char *(*fn)(void) =
		(const char *(*)(void))(uintptr_t)dlsym(RTLD_DEFAULT, "pinstage_abi_version");

	return fn ? fn() : NULL;
}

#ifdef __cplusplus
}
#endif

#endif
