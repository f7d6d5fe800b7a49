/* SPDX-License-Identifier: MIT */
/*
 * Staging and retiring: the choreography of records, keeper and curtain. pin.h decides what is
 * staged, the hooks when something is retired or synced.
 */
#ifndef PINSTAGE_STAGE_H
#define PINSTAGE_STAGE_H

#include "common/proto.h"
#include "common/reason.h"
#include "common/vmas.h"
#include "lib/scratch.h"
#include "lib/space.h"
#include "lib/trace.h"

/* What a line in the log says of a request. */
struct pin_context {
	const char *call; /* "io_uring_register_buffers" */
	uintptr_t addr;	  /* of the range that led here */
	size_t len;
	size_t ranges, bytes; /* of all of the call */
	int err;	      /* what the kernel said */
	bool has_access;      /* RDMA: */
	unsigned access;
	uint64_t iova;
	const struct trace *trace; /* who called, or NULL */
};

/*
 * Stages [off, end) of the file behind mapping v, except what is staged already, at all
 * addresses where this process maps it. 0, or -errno with *ret_why and everything as it was.
 * Lock held.
 */
int stage_range(const struct vma *v, const char *path, uint64_t off, uint64_t end,
		const struct pin_context *ctx, struct scratch *scratch, enum reason *ret_why);

/* Parts of that, for eager.c. A keeper that listens and knows of everything that is staged; a
 * new segment, not in force, for [x->off, x->end) (x->s, to be freed by the caller, may be set
 * even on error); what else is asked about it. -errno with the reason. */
struct exchange;
struct custody;
int stage_keeper_ready(enum reason *ret_why);
int stage_open(struct exchange *x, struct custody *c);
int stage_ask(struct exchange *x, enum msg_type type);

/* The way back: carries the segment's changes to the file and puts the file's own mapping in
 * its place at all addresses. -EBUSY while somebody else uses or pins the memory. Lock held. */
int stage_retire(struct segment *s, enum reason *ret_why);

/* The program has just mapped f at [start, end): what is staged of it shows there, too.
 * -ENOMEM: it cannot, and the mapping must not stay. Lock held. */
int stage_show(struct file *f, uintptr_t start, uintptr_t end);

/* The first segment that stands in [start, end), or NULL. Lock held. */
struct segment *stage_at(uintptr_t start, uintptr_t end);

/* The mapping at addr, and its path. -errno. */
int stage_vma_at(uintptr_t addr, struct vma *ret, char *path, size_t size,
		 struct scratch *scratch);

/* The file that the segment stands for, as a line of the log has it; empty if nothing of it is
 * mapped. Lock held. */
const char *stage_name_of(const struct segment *s, char *dst, size_t size);

/* The protection of the mapping at addr, as for mprotect(2); -errno. */
int stage_prot_at(uintptr_t addr);

/* A message about all of s that the keeper has or had. By its number alone another keeper than
 * the one that gave it may take it for a segment of somebody else. */
void segment_message(struct msg *m, enum msg_type type, const struct segment *s);

/* Tries again to let go of what is staged of f and shows nowhere. Lock held. */
void stage_release_idle(struct file *f);

/* These segments have no address left in this process: tell the keeper, which syncs them before
 * it answers, and forget them. Those that somebody else uses or a device pins are kept with
 * their file. Lock held. */
void stage_release(struct segment *orphans);

#endif
