// SPDX-License-Identifier: MIT
/* A module of some program, linked to libibverbs as modules of Python or MPI are. */
#include "double.h"

#include <errno.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int plugin_register_and_write(void *addr, size_t len, const void *from);

/* 0, or the errno of the registration. */
int plugin_register_and_write(void *addr, size_t len, const void *from)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = ibv_open_device(list[0]);
	struct ibv_pd *pd = ibv_alloc_pd(context);
	struct ibv_mr *mr = ibv_reg_mr(pd, addr, len, IBV_ACCESS_LOCAL_WRITE);
	int ret = mr ? -double_write(mr, 0, from, len) : errno;

	if (mr)
		ibv_dereg_mr(mr);
	ibv_dealloc_pd(pd);
	ibv_close_device(context);
	ibv_free_device_list(list);
	return ret;
}
