/* SPDX-License-Identifier: MIT */
/* io_uring's pin sites: registering fixed buffers, through liburing or by number. Every such
 * pin is for writing, whatever is done with the buffer later. */
#include <errno.h>

#include "common/util.h"
#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/pin.h"

#ifndef IORING_REGISTER_USE_REGISTERED_RING
#define IORING_REGISTER_USE_REGISTERED_RING (1U << 31)
#endif

int on_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iov, unsigned n)
{
	struct pin_tries tries = pin_begin();
	int ret;

	do {
		ret = real.io_uring_register_buffers(ring, iov, n);
	} while (pin_again("io_uring_register_buffers", iov, n, ret, &tries));
	return ret;
}

int on_io_uring_register_buffers_tags(struct io_uring *ring, const struct iovec *iov,
				      const __u64 *tags, unsigned n)
{
	struct pin_tries tries = pin_begin();
	int ret;

	do {
		ret = real.io_uring_register_buffers_tags(ring, iov, tags, n);
	} while (pin_again("io_uring_register_buffers_tags", iov, n, ret, &tries));
	return ret;
}

int on_io_uring_register_buffers_sparse(struct io_uring *ring, unsigned n)
{
	return real.io_uring_register_buffers_sparse(ring, n); /* pins nothing */
}

int on_io_uring_unregister_buffers(struct io_uring *ring)
{
	return real.io_uring_unregister_buffers(
		ring); /* staged ranges stay for the next time */
}

/* An update does as many slots as it can and says how many: the one behind them is what stopped
 * it, and only asking again tells why. */
int on_io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned off,
					    const struct iovec *iov, const __u64 *tags,
					    unsigned n)
{
	static const char call[] = "io_uring_register_buffers_update_tag";
	struct pin_tries tries = pin_begin();
	unsigned done = 0;
	int ret;

	for (;;) {
		ret = real.io_uring_register_buffers_update_tag(
			ring, off + done, iov + done, tags ? tags + done : NULL, n - done);
		if (ret > 0) {
			done += (unsigned)ret;
			if (!tries.staged)
				sites_pin_is_fine();
			tries = pin_begin();
			if (done >= n)
				return (int)done;
			continue;
		}
		if (!pin_again(call, iov + done, n - done, ret, &tries))
			return done ? (int)done : ret;
	}
}

/* Registration by number. `native` makes the call and returns -errno. */
typedef int native_register(unsigned fd, unsigned opcode, const void *arg, unsigned n);

static int update_by_number(native_register *native, unsigned fd, unsigned opcode,
			    const void *arg, unsigned n, int ret)
{
	static const char call[] = "io_uring_register";
	struct io_uring_rsrc_update2 u;
	struct pin_tries tries = pin_begin();
	unsigned done = 0;

	if (n != sizeof(u) || !pin_copy_in(&u, arg, sizeof(u)))
		return ret;
	for (;;) {
		if (ret > 0) {
			done += (unsigned)ret;
			u.offset += (unsigned)ret;
			u.data += (unsigned)ret * sizeof(struct iovec);
			u.tags += u.tags ? (unsigned)ret * sizeof(__u64) : 0;
			u.nr -= MIN((unsigned)ret, u.nr);
			if (!tries.staged)
				sites_pin_is_fine();
			tries = pin_begin();
			if (u.nr == 0)
				return (int)done;
		} else if (!pin_again(call, (const struct iovec *)(uintptr_t)u.data, u.nr, ret,
				      &tries)) {
			return done ? (int)done : ret;
		}
		ret = native(fd, opcode, &u, n);
	}
}

static int register_by_number(native_register *native, unsigned fd, unsigned opcode,
			      const void *arg, unsigned n)
{
	struct pin_tries tries = pin_begin();
	struct io_uring_rsrc_register r;
	const struct iovec *iov = arg;
	unsigned count = n;
	int ret;

	do {
		ret = native(fd, opcode, arg, n);
	} while (unlikely(ret < 0) && pin_met_exchange(ret, &tries));
	if (likely(!enabled))
		return ret;
	switch (opcode & ~IORING_REGISTER_USE_REGISTERED_RING) {
	case IORING_REGISTER_BUFFERS_UPDATE:
		return ret == 0 ? ret : update_by_number(native, fd, opcode, arg, n, ret);
	case IORING_REGISTER_BUFFERS2:
		if (!pin_refused(ret) || n != sizeof(r) || !pin_copy_in(&r, arg, sizeof(r)))
			return ret;
		iov = (const struct iovec *)(uintptr_t)r.data;
		count = r.nr;
		break;
	case IORING_REGISTER_BUFFERS:
		break;
	default:
		return ret;
	}
	while (pin_again("io_uring_register", iov, count, ret, &tries))
		ret = native(fd, opcode, arg, n);
	return ret;
}

static int native_liburing(unsigned fd, unsigned opcode, const void *arg, unsigned n)
{
	return real.io_uring_register(fd, opcode, arg, n);
}

static int native_syscall(unsigned fd, unsigned opcode, const void *arg, unsigned n)
{
	long ret = real.syscall(SYS_io_uring_register, fd, opcode, arg, n);

	return ret < 0 ? -errno : (int)ret;
}

int on_io_uring_register(unsigned int fd, unsigned int opcode, const void *arg, unsigned int n)
{
	return register_by_number(native_liburing, fd, opcode, arg, n);
}

long uring_by_syscall(long fd, long opcode, long arg, long n)
{
	const int saved = errno;
	int ret = register_by_number(native_syscall, (unsigned)fd, (unsigned)opcode,
				     (const void *)arg, (unsigned)n);

	errno = ret < 0 ? -ret : saved;
	return ret < 0 ? -1 : ret;
}
