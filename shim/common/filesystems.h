/* SPDX-License-Identifier: MIT */
/* The file systems that are known: what statfs(2) calls them, what /proc/filesystems does (in
 * some cases there are two names), and whether they are local, so that no other host can map a
 * file. */
#ifndef PINSTAGE_FILESYSTEMS_H
#define PINSTAGE_FILESYSTEMS_H

#include <linux/magic.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#define CIFS_MAGIC     0xff534d42
#define SMB2_MAGIC     0xfe534d42
#define CEPH_MAGIC     0x00c36400
#define BCACHEFS_MAGIC 0xca451a4e

/* clang-format off */
#define FILESYSTEMS(X) \
	X(EXT4_SUPER_MAGIC, "ext4", true) \
	X(XFS_SUPER_MAGIC, "xfs", true) \
	X(BTRFS_SUPER_MAGIC, "btrfs", true) \
	X(F2FS_SUPER_MAGIC, "f2fs", true) \
	X(OVERLAYFS_SUPER_MAGIC, "overlay", true) \
	X(BCACHEFS_MAGIC, "bcachefs", false) \
	X(TMPFS_MAGIC, "tmpfs", false) \
	X(RAMFS_MAGIC, "ramfs", false) \
	X(HUGETLBFS_MAGIC, "hugetlbfs", false) \
	X(NFS_SUPER_MAGIC, "nfs", false) \
	X(NFS_SUPER_MAGIC, "nfs4", false) \
	X(CIFS_MAGIC, "cifs", false) \
	X(SMB2_MAGIC, "smb3", false) \
	X(CEPH_MAGIC, "ceph", false) \
	X(FUSE_SUPER_MAGIC, "fuse", false) \
	X(FUSE_SUPER_MAGIC, "fuseblk", false)
/* clang-format on */

#endif
