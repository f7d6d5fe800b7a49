/* SPDX-License-Identifier: MIT */
/*
 * Two processes with a connection between them: the case, which maps and registers, and its
 * peer, a part of the same program, which writes to it, reads from it, and says what it found.
 * The peer's memory is anonymous.
 */
#ifndef PAIR_H
#define PAIR_H

#include <infiniband/verbs.h>

#include "testlib.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define ALL_ACCESS                                                                   \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
	 IBV_ACCESS_REMOTE_ATOMIC)

struct endpoint {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	int socket; /* to the other process */
};

extern struct endpoint me;

/* Opens the device, starts the peer and connects to it. Ends the case where there is no device.
 */
void pair_open(void);
/* Without the shim it is enough to see that registration fails. */
void device_open(void);
void pair_close(void);

/* What the peer does; each returns when it is done and went well. Content is fill()'s, of the
 * offset given. */
void peer_writes(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed);
void peer_reads(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed);
void peer_writes_iova(struct ibv_mr *mr, uint64_t iova, size_t len, uint64_t offset,
		      unsigned seed);
void peer_adds(struct ibv_mr *mr, size_t at, uint64_t add, unsigned times);
void peer_swaps(struct ibv_mr *mr, size_t at, uint64_t compare, uint64_t swap);
/* SEND by one side, RECV by the other. */
void peer_sends(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed);
void peer_receives(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed);

/* The part that is to be in the list of parts. */
void pair_peer(void **state);

#endif
