/* SPDX-License-Identifier: MIT */
/* Sync points: carrying staged changes to the file before a call returns. */
#ifndef PINSTAGE_LIB_SYNC_H
#define PINSTAGE_LIB_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/util.h"

/* What of [addr, addr+len) is staged goes to its file; `durable`: to the device, too. 0 or the
 * first error, -errno. Lock not held. */
int sync_addresses(uintptr_t addr, size_t len, bool durable);

/* What a program is told for such an error: what a failed write-back can give it, and EIO for
 * what is between us and the keeper. */
int sync_errno(int err);

/* What of [start, end) is staged, and stays staged elsewhere when these addresses go, goes to
 * its file; the rest follows when it is released. Lock held. */
void sync_before_unmap(uintptr_t start, uintptr_t end);

/* The same for a range of a file; end 0: to its end. Does nothing for files with nothing
 * staged. With the lock held, or without. */
int sync_file(struct inode_key key, uint64_t off, uint64_t end, bool durable);

/* The program has written [off, off+len) of a staged file, and so have we to the memory. Lock
 * held. */
void sync_wrote(struct inode_key key, uint64_t off, uint64_t len);

/* Everything that this process has staged, also where only a device has it any more; with `dev`
 * at least what is of that device's file system. Lock not held. */
int sync_files(const dev_t *dev);

/* Whether a descriptor is one of a file with staged segments, ours or others'. Costs an
 * fstat(); ask only when anything_staged(). */
bool sync_fd_staged(int fd, struct inode_key *ret_key);

/* Whether a call on fd that changes the file may be made on the file alone: false if it is
 * staged, ours or others'. If so the call has begun (lib/inflight.h). Costs no less. *ret_key
 * is what sync_fd_listed() takes. */
bool sync_fd_enter(int fd, struct inode_key *ret_key);

/* Whether a descriptor is one of a file that others have staged; ours may count, too. Without
 * the lock, and for calls that have begun: `key` is what sync_fd_enter() said, or that it was
 * not asked, which costs an fstat(). Keeps errno. */
bool sync_fd_listed(int fd, struct inode_key key);

#define SYNC_NOT_ASKED ((struct inode_key){ 0 })
#define SYNC_NO_FILE   ((struct inode_key){ .dev = (dev_t)-1 }) /* no regular one */

/* The same as sync_fd_staged() for what open() with these flags would find at a name. Keeps
 * errno. */
bool sync_path_staged(int dir, const char *path, int open_flags, struct inode_key *ret_key);

#endif
