/* SPDX-License-Identifier: MIT */
/*
 * What the hooks need to know of libibverbs. Its header is used where it is installed, so that
 * the compiler compares the prototypes; the library comes out the same without it (for trying
 * that: -DPINSTAGE_OWN_VERBS_H).
 */
#ifndef PINSTAGE_VERBS_H
#define PINSTAGE_VERBS_H

#include <stddef.h>
#include <stdint.h>

#if !defined(PINSTAGE_OWN_VERBS_H) && __has_include(<infiniband/verbs.h>)
#include <infiniband/verbs.h>
/* Macros that choose between two functions; we define both of each. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova
#else
struct ibv_context;

struct ibv_pd {
	struct ibv_context *context;
	uint32_t handle;
};

struct ibv_mr {
	struct ibv_context *context;
	struct ibv_pd *pd;
	void *addr;
	size_t length;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
};

enum {
	IBV_ACCESS_LOCAL_WRITE = 1 << 0,
	IBV_ACCESS_REMOTE_WRITE = 1 << 1,
	IBV_ACCESS_REMOTE_ATOMIC = 1 << 3,
	IBV_ACCESS_MW_BIND = 1 << 4,
	IBV_ACCESS_ON_DEMAND = 1 << 6,
};

enum {
	IBV_REREG_MR_CHANGE_TRANSLATION = 1 << 0,
	IBV_REREG_MR_CHANGE_ACCESS = 1 << 2,
};
enum {
	IBV_REREG_MR_ERR_INPUT = -1,	   /* the MR is what it was */
	IBV_REREG_MR_ERR_DO_FORK_OLD = -3, /* the MR was changed */
	IBV_REREG_MR_ERR_CMD = -4,	   /* this and below: it must not be used any more */
};

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access);
struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access);
struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access);
int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		 int access);
int ibv_dereg_mr(struct ibv_mr *mr);
int ibv_close_device(struct ibv_context *context);
#endif

/* Newer than many an installed header. Later versions only add to the end of its argument. */
struct ibv_mr_init_attr;
struct ibv_mr *ibv_reg_mr_ex(struct ibv_pd *pd, struct ibv_mr_init_attr *attr);

struct verbs_mr_attr {
	size_t length;
	int access;
	uint64_t comp_mask;
	uint64_t iova;
	void *addr;
};
#define VERBS_MR_ATTR_IOVA (1U << 0) /* without it: the address */
#define VERBS_MR_ATTR_ADDR (1U << 1)
#define VERBS_MR_ATTR_FD   (1U << 2) /* a dma-buf: no memory of the process */

#endif
