/* SPDX-License-Identifier: MIT */
#include "lib/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/filesystems.h"
#include "common/util.h"

static const struct {
	long type;
	const char *name;
	bool local;
} fs[] = {
#define FS_ROW(magic, name, local) { magic, name, local },
	FILESYSTEMS(FS_ROW)
};

enum piece_kind policy_classify(const struct vma *v, const char *path)
{
	if (!(v->flags & VMA_SHARED) || v->ino == 0)
		return PIECE_OTHER;
	/* memfds, SysV and anonymous shared memory (with a name, or in huge pages) and what
	 * lies behind anonymous inodes (a ring) have an inode, too, but no file system. */
	if (!strncmp(path, "/memfd:", 7) || !strncmp(path, "/dev/zero", 9) ||
	    !strncmp(path, "/SYSV", 5) || !strncmp(path, "/anon_hugepage", 14) ||
	    !strncmp(path, "[anon_shmem:", 12) || !strncmp(path, "anon_inode:", 11))
		return PIECE_OTHER;
	return v->flags & VMA_WRITE ? PIECE_OFFENDER : PIECE_READ_ONLY;
}

enum reason policy_mapping(const struct vma *v)
{
	if (v->flags & VMA_EXEC)
		return REASON_EXECUTABLE;
	if (v->flags & VMA_UFFD)
		return REASON_IN_USE;
	return REASON_NONE;
}

const char *policy_fs_name(long f_type)
{
	for (size_t i = 0; i < ARRAY_SIZE(fs); i++)
		if (fs[i].type == f_type)
			return fs[i].name;
	return "unknown";
}

bool policy_fs_known(long f_type)
{
	for (size_t i = 0; i < ARRAY_SIZE(fs); i++)
		if (fs[i].type == f_type)
			return true;
	return false;
}

bool policy_fs_in_memory(long f_type)
{
	return f_type == TMPFS_MAGIC || f_type == RAMFS_MAGIC || f_type == HUGETLBFS_MAGIC;
}

bool policy_kernel_refuses_mr(const char *release)
{
	unsigned long major, minor;
	char *end;

	major = strtoul(release, &end, 10);
	if (end == release || *end != '.')
		return true;
	minor = strtoul(end + 1, NULL, 10);
	return major > 6 || (major == 6 && minor >= 5);
}

static bool listed(const char *list, const char *name)
{
	const size_t n = strlen(name);
	const char *end;

	for (; *list; list = *end ? end + 1 : end) {
		end = strchrnul(list, ',');
		if (*list == '+')
			list++;
		if ((size_t)(end - list) == n && !strncmp(list, name, n))
			return true;
	}
	return false;
}

bool policy_fs_allowed(long f_type, const char *extra)
{
	for (size_t i = 0; i < ARRAY_SIZE(fs); i++)
		if (fs[i].type == f_type &&
		    (fs[i].local || (extra && listed(extra, fs[i].name))))
			return true;
	return false;
}

enum reason policy_unseen(int err)
{
	if (is_no_files(err))
		return REASON_NO_FILES;
	return err == -ENOENT || err == -EACCES ? REASON_NO_PROC : REASON_NO_MEMORY;
}
