/* SPDX-License-Identifier: MIT */
/* Decides, and does nothing: plain functions over plain data. */
#ifndef PINSTAGE_POLICY_H
#define PINSTAGE_POLICY_H

#include <stdbool.h>

#include "common/options.h"
#include "common/reason.h"
#include "common/vmas.h"

enum piece_kind {
	PIECE_HOLE,	 /* nothing is mapped */
	PIECE_OTHER,	 /* anonymous, private, tmpfs, ...: none of our business */
	PIECE_READ_ONLY, /* shared file mapping that cannot be written */
	PIECE_OFFENDER,	 /* writable, shared, file-backed */
};

enum piece_kind policy_classify(const struct vma *v, const char *path);

/* REASON_NONE if such a mapping can be exchanged at all. */
enum reason policy_mapping(const struct vma *v);

/* Why the kernel does not say what is mapped: `err` of asking it. */
enum reason policy_unseen(int err);

/* Whether files of a file system (statfs's f_type) may be staged: local disks, and what
 * PINSTAGE_FS adds ("+nfs,+fuse"). */
bool policy_fs_allowed(long f_type, const char *extra);

const char *policy_fs_name(long f_type);

/* Whether it has a name, which PINSTAGE_FS can add. */
bool policy_fs_known(long f_type);

/* tmpfs and its like: pinning them harms nobody, and no kernel refuses it. */
bool policy_fs_in_memory(long f_type);

/* Whether a kernel of this release refuses RDMA pins for writing on file mappings, as those
 * from 6.5 on do. Unknown releases are taken for new ones. */
bool policy_kernel_refuses_mr(const char *release);

#endif
