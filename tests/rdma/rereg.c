/* SPDX-License-Identifier: MIT */
/*
 * Preloaded behind the shim, to give Soft-RoCE what its driver in rdma-core lacks:
 * ibv_rereg_mr() that moves an MR to other memory. As in drivers that have it the new memory is
 * pinned by the kernel, whose answer counts; the MR keeps its address and gets new keys.
 */
#include <errno.h>

#include <infiniband/verbs.h>

__attribute__((visibility("default"))) int ibv_rereg_mr(struct ibv_mr *mr, int flags,
							struct ibv_pd *pd, void *addr,
							size_t length, int access)
{
	const int both = IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS;
	struct ibv_mr *new, old = *mr;

	if (flags != both) {
		errno = EOPNOTSUPP;
		return IBV_REREG_MR_ERR_INPUT;
	}
	new = ibv_reg_mr(pd ? pd : mr->pd, addr, length, access);
	if (!new)
		return IBV_REREG_MR_ERR_CMD;
	*mr = *new;
	*new = old;
	return ibv_dereg_mr(new) ? IBV_REREG_MR_ERR_CMD : 0;
}
