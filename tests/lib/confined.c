// SPDX-License-Identifier: MIT
/*
 * confined FILE SIZE STEP...
 *
 * A program that changes what it may do. Maps FILE and does what it is told, in turn:
 *
 *   register    the mapping as a fixed buffer; prints `registered` or `refused: ERROR`
 *   store       into all of it
 *   sync        msync(); prints `synced` or its error
 *   copy:F      5000 bytes to the file's offset 100 from the file F, with positions in the
 *               last bytes of the mapping; prints `copied`, or what is wrong
 *   exchange:F  all with the file F, as XFS can, and back by F's descriptor; prints `exchanged`
 *               or its error, twice
 *   setuid      becomes nobody, for good
 *   seteuid:U   becomes the user U, and may go back
 *   unseen:U    the same by a system call that is not libc's setresuid()
 *   fork        a child goes on with what follows; its parent waits, and ends as it did
 *   chroot      into the working directory
 *   chdir       to the root directory
 *   deny:NAME   from here on the system call NAME fails with EPERM (a seccomp filter)
 *   landlock:D  from here on the only files that it can open are those below the directory D
 *               (or several, with colons between them), and the system's; exit status 77, and a
 * reason, where the kernel has no Landlock wait        for a line, or the end, of its standard
 * input exec        becomes the program that follows, with what follows that
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#endif
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "testlib.h"

#define NOBODY 65534

static const struct {
	const char *name;
	long number;
} calls[] = {
	{ "clone", SYS_clone },
	{ "clone3", SYS_clone3 },
	{ "execve", SYS_execve },
	{ "fanotify_init", SYS_fanotify_init },
	{ "fdatasync", SYS_fdatasync },
	{ "io_uring_setup", SYS_io_uring_setup },
	{ "membarrier", SYS_membarrier },
	{ "memfd_create", SYS_memfd_create },
	{ "process_vm_readv", SYS_process_vm_readv },
	{ "process_vm_writev", SYS_process_vm_writev },
	{ "socket", SYS_socket },
	{ "sync_file_range", SYS_sync_file_range },
	{ "userfaultfd", SYS_userfaultfd },
};

static void must(int ret, const char *what)
{
	if (ret < 0) {
		perror(what);
		exit(2);
	}
}

static void deny(const char *name)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(calls) && strcmp(calls[i].name, name) != 0)
		i++;
	if (i == ARRAY_SIZE(calls)) {
		fprintf(stderr, "confined: what is %s?\n", name);
		exit(2);
	}
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0), "seccomp");
}

#if __has_include(<linux/landlock.h>)
static void allow(int rules, uint64_t access, const char *dir)
{
	struct landlock_path_beneath_attr beneath = { .allowed_access = access,
						      .parent_fd = open(dir, O_PATH) };

	if (beneath.parent_fd < 0)
		return; /* not every system has each of them */
	must((int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath,
			  0),
	     dir);
	close(beneath.parent_fd);
}

static void stay_below(char *dirs)
{
	static const char *const systems[] = { "/dev",	"/etc", "/lib", "/lib64",
					       "/proc", "/run", "/sys", "/usr" };
	const struct landlock_ruleset_attr attr = { .handled_access_fs =
							    LANDLOCK_ACCESS_FS_READ_FILE |
							    LANDLOCK_ACCESS_FS_WRITE_FILE };
	const int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (rules < 0) {
		puts("cannot: this kernel has no Landlock");
		exit(77);
	}
	for (size_t i = 0; i < ARRAY_SIZE(systems); i++)
		allow(rules, attr.handled_access_fs, systems[i]);
	for (dirs = strtok(dirs, ":"); dirs; dirs = strtok(NULL, ":"))
		allow(rules, attr.handled_access_fs, dirs);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must((int)syscall(SYS_landlock_restrict_self, rules, 0), "landlock_restrict_self");
	close(rules);
}
#else
static void stay_below(char *dirs)
{
	(void)dirs;
	puts("cannot: this kernel has no Landlock that is known here");
	exit(77);
}
#endif

static void say(const char *what)
{
	puts(what);
	fflush(stdout);
}

/* struct xfs_exchange_range, which comes with newer headers of XFS. */
struct exchange_range {
	int32_t file1;
	uint32_t pad;
	uint64_t offset1, offset2, length, flags;
};

static void exchange_one(int fd, int with, size_t size)
{
	const struct exchange_range range = { .file1 = with, .length = size };
	const int ret = ioctl(fd, _IOW('X', 129, struct exchange_range), &range);

	say(ret < 0 ? strerror(errno) : "exchanged");
}

static void exchange(int fd, size_t size, const char *name)
{
	const int with = open(name, O_RDWR);

	must(with, name);
	exchange_one(fd, with, size);
	exchange_one(with, fd, size);
	close(with);
}

static const char *copy(int fd, unsigned char *map, size_t size, const char *name)
{
	static unsigned char data[5000];
	off_t *from = (off_t *)(map + size) - 2, *to = from + 1;
	const int in = open(name, O_RDWR | O_CREAT, 0600);
	ssize_t n;

	must(in, name);
	fill(data, sizeof(data), 100, NEW);
	must((int)pwrite(in, data, sizeof(data), 0), name);
	*from = 0;
	*to = 100;
	n = copy_file_range(in, from, fd, to, sizeof(data), 0);
	close(in);
	if (n < 0)
		return strerror(errno);
	if (n != sizeof(data) || *from != n || *to != 100 + n)
		return "too little, or not as told";
	return memcmp(map + 100, data, sizeof(data)) ? "not in memory" : "copied";
}

static void go_on_in_child(void)
{
	const pid_t pid = fork();

	must(pid, "fork");
	if (pid)
		exit(wait_for(pid));
}

int main(int argc, char **argv)
{
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	struct io_uring ring;
	unsigned char *map;
	int fd, ret;

	if (argc < 4)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || map == MAP_FAILED || io_uring_queue_init(4, &ring, 0) < 0)
		return 2;
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "register") == 0) {
			ret = register_one(&ring, map, size);
			if (ret < 0)
				printf("refused: ");
			say(ret < 0 ? strerror(-ret) : "registered");
		} else if (strcmp(argv[i], "store") == 0) {
			fill(map, size, 0, DEVICE);
		} else if (strcmp(argv[i], "sync") == 0) {
			say(msync(map, size, MS_SYNC) < 0 ? strerror(errno) : "synced");
		} else if (strncmp(argv[i], "copy:", 5) == 0) {
			say(copy(fd, map, size, argv[i] + 5));
		} else if (strncmp(argv[i], "exchange:", 9) == 0) {
			exchange(fd, size, argv[i] + 9);
		} else if (strcmp(argv[i], "setuid") == 0) {
			must(setgid(NOBODY), "setgid");
			must(setuid(NOBODY), "setuid");
		} else if (strncmp(argv[i], "seteuid:", 8) == 0) {
			must(seteuid((uid_t)atoi(argv[i] + 8)), "seteuid");
		} else if (strncmp(argv[i], "unseen:", 7) == 0) {
			must((int)syscall(SYS_setresuid, -1, atoi(argv[i] + 7), -1),
			     "setresuid");
		} else if (strcmp(argv[i], "fork") == 0) {
			go_on_in_child();
		} else if (strcmp(argv[i], "chroot") == 0) {
			must(chroot("."), "chroot");
		} else if (strcmp(argv[i], "chdir") == 0) {
			must(chdir("/"), "chdir");
		} else if (strncmp(argv[i], "deny:", 5) == 0) {
			deny(argv[i] + 5);
		} else if (strncmp(argv[i], "landlock:", 9) == 0) {
			stay_below(argv[i] + 9);
		} else if (strcmp(argv[i], "wait") == 0) {
			while ((ret = getchar()) != EOF && ret != '\n')
				;
		} else if (strcmp(argv[i], "exec") == 0 && i + 1 < argc) {
			must(execv(argv[i + 1], argv + i + 1), argv[i + 1]);
		} else {
			fprintf(stderr, "confined: what is %s?\n", argv[i]);
			return 2;
		}
	}
	return 0;
}
