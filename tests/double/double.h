/* SPDX-License-Identifier: MIT */
/*
 * A device without hardware: a libibverbs.so.1 that pins memory through the kernel, so that its
 * real refusals show, and reaches it only through those pins.
 *
 *   MR that can be written   a fixed buffer of an io_uring
 *   MR that cannot           vmsplice() into a pipe: at most 1 MiB
 *   on-demand MR             no pin; the device uses the addresses
 *
 * With DOUBLE_KERNEL=6.1 in the environment it is that kernel's: uname() says so, and what an
 * io_uring may not pin is pinned all the same, as RDMA was before 6.5.
 */
#ifndef DOUBLE_H
#define DOUBLE_H

#include <infiniband/verbs.h>

/* What the device writes to an MR and finds in it, by offset. 0 or -errno. */
int double_write(struct ibv_mr *mr, size_t offset, const void *from, size_t len);
int double_read(struct ibv_mr *mr, size_t offset, void *to, size_t len);

/* The next `times` registrations that would succeed fail with this error. */
void double_fail(int err, unsigned times);

/* Called when a registration begins. */
void double_before(void (*call)(void));

/* Registrations tried so far, and the access flags and iova that the last one came with. */
unsigned double_registrations(void);
unsigned double_last_access(void);
uint64_t double_last_iova(void);

/* The older ABI, as programs built before 2006 have it. */
struct double_old_pd {
	void *context;
	uint32_t handle;
	struct ibv_pd *real_pd;
};

struct double_old_mr {
	void *context;
	struct double_old_pd *pd;
	uint32_t handle, lkey, rkey;
	struct ibv_mr *real_mr;
};

/* rdma-core's newest; the installed header may not have it. */
struct double_mr_attr {
	size_t length;
	int access;
	uint64_t comp_mask;
	uint64_t iova;
	void *addr;
	int fd;
};
#define DOUBLE_MASK_IOVA (1u << 0)
#define DOUBLE_MASK_ADDR (1u << 1)
#define DOUBLE_MASK_FD	 (1u << 2)

struct ibv_mr_init_attr;
struct ibv_mr *ibv_reg_mr_ex(struct ibv_pd *pd, struct ibv_mr_init_attr *attr);

#endif
