/* SPDX-License-Identifier: MIT */
/* links: shim/lib/policy.c */
#include "unit.h"

#include <linux/magic.h>

#include "lib/policy.h"

#define RW (VMA_READ | VMA_WRITE)

static void classify__by_flags_and_path(void **state)
{
	static const struct {
		unsigned flags;
		uint64_t ino;
		const char *path;
		enum piece_kind kind;
	} row[] = {
		{ RW | VMA_SHARED, 12, "/data/file", PIECE_OFFENDER },
		{ VMA_WRITE | VMA_SHARED, 12, "/data/file", PIECE_OFFENDER },
		{ RW | VMA_EXEC | VMA_SHARED, 12, "/data/file", PIECE_OFFENDER },
		{ RW | VMA_SHARED, 12, "/data/file (deleted)", PIECE_OFFENDER },
		{ RW | VMA_SHARED, 12, "/dev/shm/file", PIECE_OFFENDER },
		{ RW | VMA_SHARED, 12, "/data/memfd:x", PIECE_OFFENDER },
		{ RW | VMA_SHARED, 12, "/data/SYSV00000000", PIECE_OFFENDER },
		{ RW | VMA_SHARED, 12, "", PIECE_OFFENDER },
		{ VMA_READ | VMA_SHARED, 12, "/data/file", PIECE_READ_ONLY },
		{ VMA_SHARED, 12, "/data/file", PIECE_READ_ONLY },
		{ VMA_READ | VMA_MAYWRITE | VMA_SHARED, 12, "/data/file", PIECE_READ_ONLY },
		{ RW, 12, "/data/file", PIECE_OTHER },
		{ RW, 0, "", PIECE_OTHER },
		{ RW, 0, "[heap]", PIECE_OTHER },
		{ RW | VMA_SHARED, 0, "", PIECE_OTHER },
		{ RW | VMA_SHARED, 1042, "/memfd:pinstage:1:2 (deleted)", PIECE_OTHER },
		{ RW | VMA_SHARED, 1042, "/dev/zero (deleted)", PIECE_OTHER },
		{ RW | VMA_SHARED, 1042, "/SYSV00000000 (deleted)", PIECE_OTHER },
		{ RW | VMA_SHARED, 1042, "/SYSV5100abcd (deleted)", PIECE_OTHER },
		/* Shared anonymous memory with a name (Linux 6.2), and in huge pages. */
		{ RW | VMA_SHARED, 1042, "[anon_shmem:ring]", PIECE_OTHER },
		{ RW | VMA_SHARED, 1042, "anon_inode:[io_uring]", PIECE_OTHER },
		{ RW | VMA_SHARED, 1042, "/anon_hugepage (deleted)", PIECE_OTHER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct vma v = { .flags = row[i].flags, .ino = row[i].ino };

		if (policy_classify(&v, row[i].path) != row[i].kind)
			fail_msg("row %zu: %s", i, row[i].path);
	}
}

static void mapping__what_cannot_be_exchanged(void **state)
{
	struct vma v = { .flags = RW | VMA_SHARED | VMA_MAYWRITE | VMA_LOCKED | VMA_DONTFORK };

	(void)state;
	assert_int_equal(policy_mapping(&v), REASON_NONE);
	v.flags = RW | VMA_SHARED | VMA_EXEC;
	assert_int_equal(policy_mapping(&v), REASON_EXECUTABLE);
	v.flags = RW | VMA_SHARED | VMA_UFFD;
	assert_int_equal(policy_mapping(&v), REASON_IN_USE);
}

static void fs__local_without_being_told(void **state)
{
	static const long local[] = { EXT4_SUPER_MAGIC, 0x58465342 /* xfs */, BTRFS_SUPER_MAGIC,
				      F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC };
	static const long other[] = { NFS_SUPER_MAGIC,
				      TMPFS_MAGIC,
				      RAMFS_MAGIC,
				      HUGETLBFS_MAGIC,
				      0x65735546,
				      0x00c36400,
				      0xff534d42,
				      PROC_SUPER_MAGIC,
				      0,
				      -1 };

	(void)state;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		assert_true(policy_fs_allowed(local[i], NULL));
		assert_true(policy_fs_allowed(local[i], ""));
		assert_true(policy_fs_allowed(local[i], "+nfs"));
	}
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		assert_false(policy_fs_allowed(other[i], NULL));
		assert_false(policy_fs_allowed(other[i], ""));
	}
}

static void fs__names(void **state)
{
	(void)state;
	assert_string_equal(policy_fs_name(EXT4_SUPER_MAGIC), "ext4");
	assert_string_equal(policy_fs_name(OVERLAYFS_SUPER_MAGIC), "overlay");
	assert_string_equal(policy_fs_name(NFS_SUPER_MAGIC), "nfs");
	assert_string_equal(policy_fs_name(0), "unknown");
	assert_string_equal(policy_fs_name(-1), "unknown");
	assert_true(policy_fs_known(NFS_SUPER_MAGIC));
	assert_false(policy_fs_known(PROC_SUPER_MAGIC));
	assert_false(policy_fs_known(0));
}

static void fs__added_by_whole_names_only(void **state)
{
	static const char *const yes[] = {
		"nfs",	  "+nfs",      "+nfs,+fuse", "+fuse,+nfs", "fuse,nfs",	 ",nfs", "nfs,",
		"+,+nfs", ",,,nfs,,,", "+nfsx,+nfs", "+xnfs,nfs",  "+nf,nfs,+x", "+nfs4"
	};
	static const char *const no[] = {
		"",	 "+",	",",	 "+nf",	 "nfs3", "+xnfs",
		"n,f,s", "NFS", "++nfs", "nfs ", " nfs", "+nfs;fuse"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (!policy_fs_allowed(NFS_SUPER_MAGIC, yes[i]))
			fail_msg("'%s' does not add nfs", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (policy_fs_allowed(NFS_SUPER_MAGIC, no[i]))
			fail_msg("'%s' adds nfs", no[i]);
}

static void fs__unknown_cannot_be_added(void **state)
{
	(void)state;
	assert_false(policy_fs_allowed(PROC_SUPER_MAGIC, "+unknown,+proc"));
	assert_false(policy_fs_allowed(TMPFS_MAGIC, "+nfs"));
	assert_true(policy_fs_allowed(TMPFS_MAGIC, "+tmpfs"));
}

static void fs__in_memory(void **state)
{
	(void)state;
	assert_true(policy_fs_in_memory(TMPFS_MAGIC));
	assert_true(policy_fs_in_memory(RAMFS_MAGIC));
	assert_true(policy_fs_in_memory(HUGETLBFS_MAGIC));
	assert_false(policy_fs_in_memory(EXT4_SUPER_MAGIC));
	assert_false(policy_fs_in_memory(OVERLAYFS_SUPER_MAGIC));
	assert_false(policy_fs_in_memory(0));
}

static void kernel__refuses_mrs_from_6_5_on(void **state)
{
	static const char *const yes[] = {
		"6.5.0",	"6.5",	 "6.5-rc1", "6.10.1",
		"6.12.5+deb13", "7.0.0", "10.1",    "6.5.0-13-generic",
		"6.18.44-x",	"",	 "unknown", "6",
	};
	static const char *const no[] = { "6.4.99", "6.1.0-37-amd64",
					  "6.0",    "5.15.0-91-generic",
					  "5.99.1", "4.18.0-553.el8",
					  "3.10.0" };

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (!policy_kernel_refuses_mr(yes[i]))
			fail_msg("'%s' is taken for an old one", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (policy_kernel_refuses_mr(no[i]))
			fail_msg("'%s' is taken for a new one", no[i]);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(classify__by_flags_and_path),
	cmocka_unit_test(mapping__what_cannot_be_exchanged),
	cmocka_unit_test(fs__local_without_being_told),
	cmocka_unit_test(fs__names),
	cmocka_unit_test(fs__added_by_whole_names_only),
	cmocka_unit_test(fs__unknown_cannot_be_added),
	cmocka_unit_test(fs__in_memory),
	cmocka_unit_test(kernel__refuses_mrs_from_6_5_on),
};

UNIT_MAIN(tests, NULL, NULL)
