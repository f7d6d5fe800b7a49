/* SPDX-License-Identifier: MIT */
#include "command/program.h"

#include <errno.h>
#include <endian.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"

#define SCRIPTS_MOST 5 /* interpreters that are scripts themselves, as the kernel allows */
#define HEADERS_MOST 512

static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

int program_find(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH"), *end;
	int err, found = -ENOENT;

	if (!*name)
		return -ENOENT;
	if (strchr(name, '/'))
		return snprintf(path, size, "%s", name) >= (int)size ? -ENAMETOOLONG
								     : executable(name);
	if (!dirs)
		dirs = "/bin:/usr/bin";
	for (;; dirs = end + 1) {
		end = strchrnul(dirs, ':');
		/* An empty entry means the current directory. */
		if (snprintf(path, size, "%.*s%s%s", (int)(end - dirs), dirs,
			     end == dirs ? "" : "/", name) < (int)size) {
			err = executable(path);
			if (!err)
				return 0;
			if (err == -EACCES)
				found = -EACCES;
		}
		if (!*end)
			return found;
	}
}

/* The kernel ignores set-id bits and capabilities there. */
static bool no_new_privileges(int fd)
{
	struct statvfs sv;

	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
	       (fstatvfs(fd, &sv) == 0 && sv.f_flag & ST_NOSUID);
}

/* Whether the kernel sets AT_SECURE because of the file's capabilities: where there is anything
 * to gain by them. The real user 0 gains nothing. */
static bool gains_capabilities(int fd)
{
	struct vfs_ns_cap_data cap = { 0 };
	uint32_t permitted = 0;

	if (getuid() == 0 || fgetxattr(fd, "security.capability", &cap, sizeof(cap)) <= 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(cap.data); i++)
		permitted |= cap.data[i].permitted;
	return permitted || le32toh(cap.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE;
}

static const char *object_to_privileges(int fd)
{
	struct stat st;

	if (no_new_privileges(fd) || fstat(fd, &st) < 0)
		return NULL;
	if ((st.st_mode & S_ISUID && st.st_uid != getuid()) ||
	    ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
	     st.st_gid != getgid()))
		return "is a set-uid or set-gid program, in which the loader preloads nothing";
	if (gains_capabilities(fd))
		return "has file capabilities, for which the loader ignores what is to be preloaded";
	return NULL;
}

static bool own_kind(const ElfW(Ehdr) * theirs)
{
	ElfW(Ehdr) ours;
	cleanup_fd int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &ours, sizeof(ours), 0) != sizeof(ours))
		return true; /* cannot tell */
	return ours.e_ident[EI_CLASS] == theirs->e_ident[EI_CLASS] &&
	       ours.e_ident[EI_DATA] == theirs->e_ident[EI_DATA] &&
	       ours.e_machine == theirs->e_machine;
}

/* musl's loader knows LD_PRELOAD, but our library needs glibc. */
static const char *object_to_loader(int fd, const ElfW(Phdr) * ph)
{
	char name[256] = "";
	ssize_t n = pread(fd, name, sizeof(name) - 1, (off_t)ph->p_offset);

	if (n > 0 && strstr(name, "/ld-musl-"))
		return "is linked with another C library than glibc";
	return NULL;
}

static const char *object_to_elf(int fd)
{
	ElfW(Phdr) ph;
	ElfW(Ehdr) eh;

	memset(&eh, 0, sizeof(eh));
	if (pread(fd, &eh, sizeof(eh), 0) < EI_NIDENT + 4)
		return NULL;
	if (!own_kind(&eh))
		return "is built for another architecture than pinstage";
	if (eh.e_phentsize != sizeof(ph) || eh.e_phnum == 0 || eh.e_phnum > HEADERS_MOST)
		return NULL;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))) !=
		    sizeof(ph))
			return NULL;
		if (ph.p_type == PT_INTERP)
			return object_to_loader(fd, &ph);
	}
	return "is statically linked: there is no loader that could preload anything";
}

/* "#! interpreter argument": the interpreter's path. */
static bool interpreter(const char *head, char *path, size_t size)
{
	size_t n;

	if (strncmp(head, "#!", 2) != 0)
		return false;
	head += 2 + strspn(head + 2, " \t");
	n = strcspn(head, " \t\n");
	if (n == 0 || n >= size)
		return false;
	memcpy(path, head, n);
	path[n] = '\0';
	return true;
}

void program_judge(const char *path, struct verdict *ret)
{
	ret->objection = NULL;
	snprintf(ret->file, sizeof(ret->file), "%s", path);
	for (int i = 0; i <= SCRIPTS_MOST; i++) {
		cleanup_fd int fd =
			open(ret->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		char head[256] = "";

		if (fd < 0 || pread(fd, head, sizeof(head) - 1, 0) < 0)
			return;
		if (interpreter(head, ret->file, sizeof(ret->file)))
			continue; /* the script's own set-id bits mean nothing */
		if (!memcmp(head, ELFMAG, SELFMAG)) {
			ret->objection = object_to_privileges(fd);
			if (!ret->objection)
				ret->objection = object_to_elf(fd);
		}
		return;
	}
}
