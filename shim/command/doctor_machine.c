/* SPDX-License-Identifier: MIT */
/* The machine: its kernel, its limits, and whether there is a keeper. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "command/conversation.h"
#include "command/doctor.h"
#include "command/format.h"
#include "common/cleanup.h"
#include "common/newer.h"
#include "common/vmas.h"
#include "lib/policy.h"

static void kernel(struct findings *f)
{
	struct utsname u;

	if (uname(&u) < 0)
		return;
	if (policy_kernel_refuses_mr(u.release))
		find(f, FINDING_OK, "kernel",
		     "Linux %s refuses pins of mapped files to io_uring and to RDMA|programs that "
		     "make them need pinstage, or a change",
		     u.release);
	else
		find(f, FINDING_NOTE, "kernel",
		     "Linux %s refuses pins of mapped files to io_uring, but allows them to RDMA, at "
		     "the risk of the data|from 6.5 on RDMA programs fail, too; find them now: "
		     "pinstage run --mode log",
		     u.release);
}

static void locked_memory(struct findings *f)
{
	struct rlimit r;
	char soft[32];

	if (getrlimit(RLIMIT_MEMLOCK, &r) < 0)
		return;
	if (r.rlim_cur == RLIM_INFINITY || geteuid() == 0) {
		find(f, FINDING_OK, "memlock", "RLIMIT_MEMLOCK does not limit pins here%s|",
		     r.rlim_cur == RLIM_INFINITY ? ""
						 : ", as long as the program runs as root");
		return;
	}
	format_bytes(r.rlim_cur, false, soft, sizeof(soft));
	find(f, FINDING_NOTE, "memlock",
	     "RLIMIT_MEMLOCK is %s|what a program registers counts against it, with pinstage as "
	     "without; beyond it ENOMEM: ulimit -l, or LimitMEMLOCK= in a unit",
	     soft);
}

static void io_uring(struct findings *f)
{
	FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	int disabled = 0;

	if (file) {
		if (fscanf(file, "%d", &disabled) != 1)
			disabled = 0;
		fclose(file);
	}
	if (disabled == 0)
		find(f, FINDING_OK, "io_uring", "io_uring is not disabled by sysctl|");
	else if (disabled == 1)
		find(f, FINDING_NOTE, "io_uring",
		     "kernel.io_uring_disabled is 1|only root, processes with CAP_SYS_ADMIN and the "
		     "group of kernel.io_uring_group can use it; others' programs fail before any pin");
	else
		find(f, FINDING_NOTE, "io_uring",
		     "kernel.io_uring_disabled is %d|no program can use it, so none pins with it",
		     disabled);
}

static bool uffd_works(int flags)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMAP };
	cleanup_fd int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | flags);

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
}

static void userfault(struct findings *f)
{
	if (uffd_works(0))
		find(f, FINDING_OK, "curtain", "userfaultfd works, for system calls, too|");
	else if (uffd_works(UFFD_USER_MODE_ONLY))
		find(f, FINDING_NOTE, "curtain",
		     "userfaultfd works without privilege only|while a range is staged, system calls "
		     "of other threads into it can fail with EFAULT for a moment; "
		     "vm.unprivileged_userfaultfd=1 avoids that");
	else
		find(f, FINDING_BAD, "curtain",
		     "userfaultfd does not work: %s|nothing can be staged: allow userfaultfd(2) in the "
		     "seccomp profile, or use a kernel that has it",
		     strerror(errno));
}

static void sealing(struct findings *f)
{
	cleanup_fd int fd = memfd_create("pinstage:doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && ftruncate(fd, (off_t)page_size()) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
		find(f, FINDING_OK, "memory", "memfds can be made and sealed|");
	else
		find(f, FINDING_BAD, "memory",
		     "memfds cannot be made and sealed: %s|nothing can be staged: allow "
		     "memfd_create(2)",
		     strerror(errno));
}

static void lookup(struct findings *f)
{
	const int err = vmas_can_ask();

	if (!err)
		find(f, FINDING_OK, "lookup", "PROCMAP_QUERY works|");
	else
		find(f, FINDING_NOTE, "lookup",
		     "PROCMAP_QUERY does not work: %s; it is there from Linux 6.11 on|a refused "
		     "registration reads all of /proc/self/maps instead, which takes longer the more "
		     "mappings a program has",
		     strerror(-err));
}

static size_t huge_page_size(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
	size_t size = 0;

	if (file) {
		if (fscanf(file, "%zu", &size) != 1)
			size = 0;
		fclose(file);
	}
	return size;
}

/* 0 if one page's worth of a memfd can be made huge, -errno if not. */
static int collapse(size_t size)
{
	cleanup_fd int fd = memfd_create("pinstage:doctor", MFD_CLOEXEC);
	char *room, *at;
	int err = 0;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	room = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return -errno;
	at = (char *)(((uintptr_t)room + size - 1) & ~(uintptr_t)(size - 1));
	if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		err = -errno;
	} else {
		memset(at, 1, size);
		if (madvise(at, size, MADV_COLLAPSE) < 0)
			err = -errno;
	}
	munmap(room, 2 * size);
	return err;
}

static void huge_pages(struct findings *f)
{
	const size_t size = huge_page_size();
	const int err = size ? collapse(size) : -EOPNOTSUPP;

	if (!err)
		find(f, FINDING_OK, "hugepages",
		     "MADV_COLLAPSE works on staged memory|pinstage itself does not use it; a program "
		     "that calls it on a staged range between two registrations makes the later ones "
		     "cheaper");
	else
		find(f, FINDING_NOTE, "hugepages",
		     "MADV_COLLAPSE does not work: %s|staged memory stays in small pages, and large "
		     "registrations take the longer for it; nothing else follows",
		     size ? strerror(-err) : "this kernel has no transparent huge pages");
}

static void reach_keeper(struct findings *f)
{
	enum reason why;
	uint64_t pid;
	int sock = conversation_open_for(geteuid(), &why, &pid);

	if (sock >= 0) {
		close(sock);
		find(f, FINDING_OK, "keeper", "your keeper runs and answers|");
	} else if (sock == -ENOENT) {
		find(f, FINDING_OK, "keeper",
		     "no keeper of yours is running|one is started when it is needed");
	} else {
		find(f, FINDING_BAD, "keeper", "%s (%s)|nothing can be staged: %s",
		     reason_text(why), strerror(-sock), reason_remedy(why));
	}
}

static void preload_file(struct findings *f)
{
	FILE *file = fopen("/etc/ld.so.preload", "re");
	char line[4096];
	bool any = false, ours = false;

	while (file && fgets(line, sizeof(line), file)) {
		any |= line[strspn(line, " \t\n")] != '\0';
		ours |= strstr(line, "libpinstage") != NULL;
	}
	if (file)
		fclose(file);
	if (ours)
		find(f, FINDING_BAD, "ld.so.preload",
		     "/etc/ld.so.preload names libpinstage.so|it is in every process of the machine, "
		     "init's and set-uid programs' included, and a broken update would stop the machine "
		     "from booting: take it out, and use pinstage run or LD_PRELOAD for the programs "
		     "that need it");
	else if (any)
		find(f, FINDING_NOTE, "ld.so.preload",
		     "/etc/ld.so.preload names other libraries|they are loaded after pinstage's; never "
		     "add pinstage there");
}

void doctor_machine(struct findings *f)
{
	kernel(f);
	io_uring(f);
	locked_memory(f);
	userfault(f);
	sealing(f);
	lookup(f);
	huge_pages(f);
	reach_keeper(f);
	preload_file(f);
}
