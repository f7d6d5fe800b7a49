// SPDX-License-Identifier: MIT
/* A module of some program, linked to liburing. */
#include <liburing.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int ring_register(void *addr, size_t len);

int ring_register(void *addr, size_t len)
{
	const struct iovec range = { addr, len };
	struct io_uring ring;
	int ret = io_uring_queue_init(2, &ring, 0);

	if (ret < 0)
		return ret;
	ret = io_uring_register_buffers(&ring, &range, 1);
	io_uring_queue_exit(&ring);
	return ret;
}
