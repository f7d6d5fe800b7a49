// SPDX-License-Identifier: MIT
/*
 * inject PROGRAM ARGUMENTS...
 *
 * Runs a program, and whatever it starts, with system calls that fail where it says: inject.h.
 * The call does not take place. One counter for all threads, so that of one pass through a path
 * exactly one call fails, whoever makes it (strace counts by thread and by call). The status is
 * the program's; when it ends, everything that it started is killed.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <linux/ptrace.h>

#include "inject.h"

#if defined(__x86_64__)

static struct {
	bool armed;
	enum inject_whose whose;
	unsigned long left; /* calls until one fails */
	unsigned long variant;
	pid_t failing; /* is in the call that fails */
	pid_t held;    /* is about to make the one that waits */
	long fired;
} state;

/* Errors that the kernel has for a call where all of its arguments are right. */
static const struct {
	int call, err[2];
} errors[] = {
	{ SYS_openat, { EMFILE, ENOMEM } },
	{ SYS_open, { EMFILE, ENOMEM } },
	{ SYS_pipe2, { EMFILE, ENFILE } },
	{ SYS_dup, { EMFILE, EMFILE } },
	{ SYS_dup3, { EMFILE, EBUSY } },
	{ SYS_fcntl, { EMFILE, ENOMEM } },
	{ SYS_socket, { EMFILE, ENOBUFS } },
	{ SYS_socketpair, { EMFILE, ENOMEM } },
	{ SYS_accept4, { EMFILE, ECONNABORTED } },
	{ SYS_connect, { ECONNREFUSED, EAGAIN } },
	{ SYS_eventfd2, { EMFILE, ENOMEM } },
	{ SYS_epoll_create1, { EMFILE, ENOMEM } },
	{ SYS_timerfd_create, { EMFILE, ENOMEM } },
	{ SYS_signalfd4, { EMFILE, ENOMEM } },
	{ SYS_memfd_create, { EMFILE, ENOMEM } },
	{ SYS_userfaultfd, { EMFILE, ENOMEM } },
	{ SYS_clone, { EAGAIN, ENOMEM } },
	{ SYS_clone3, { EAGAIN, ENOMEM } },
	{ SYS_vfork, { EAGAIN, ENOMEM } },
	{ SYS_fork, { EAGAIN, ENOMEM } },
	{ SYS_execve, { ENOMEM, ENOENT } },
	{ SYS_sendmsg, { ENOBUFS, ENOMEM } },
	{ SYS_recvmsg, { ENOMEM, EINTR } },
	{ SYS_poll, { ENOMEM, EINTR } },
	{ SYS_ppoll, { ENOMEM, EINTR } },
	{ SYS_epoll_wait, { EINTR, EINTR } },
	{ SYS_epoll_pwait, { EINTR, EINTR } },
	{ SYS_epoll_ctl, { ENOMEM, ENOSPC } },
	{ SYS_read, { EIO, ENOMEM } },
	{ SYS_pread64, { EIO, ENOMEM } },
	{ SYS_write, { EIO, ENOSPC } },
	{ SYS_pwrite64, { EIO, ENOSPC } },
	{ SYS_pwritev2, { EIO, ENOSPC } },
	{ SYS_ftruncate, { ENOMEM, EIO } },
	{ SYS_fallocate, { ENOSPC, EINTR } },
	{ SYS_fdatasync, { EIO, ENOSPC } },
	{ SYS_fsync, { EIO, ENOSPC } },
	{ SYS_sync_file_range, { EIO, ENOSPC } },
	{ SYS_fstat, { EIO, ENOMEM } },
	{ SYS_newfstatat, { EIO, ENOMEM } },
	{ SYS_statx, { EIO, ENOMEM } },
	{ SYS_getdents64, { EIO, ENOMEM } },
	{ SYS_flock, { ENOLCK, EINTR } },
	{ SYS_prctl, { EINVAL, EPERM } },
	{ SYS_setrlimit, { EPERM, EPERM } },
	{ SYS_prlimit64, { EPERM, EPERM } },
	{ SYS_sched_setaffinity, { EPERM, EINVAL } },
};

/* Calls that the kernel does not fail, or only for wrong arguments, and those that give back.
 */
static const int infallible[] = {
	SYS_close,
	SYS_close_range,
	SYS_munmap,
	SYS_munlock,
	SYS_exit,
	SYS_exit_group,
	SYS_rt_sigreturn,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_sigaltstack,
	SYS_futex,
	SYS_set_robust_list,
	SYS_set_tid_address,
	SYS_rseq,
	SYS_arch_prctl,
	SYS_getpid,
	SYS_getppid,
	SYS_gettid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_setsid,
	SYS_umask,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_gettimeofday,
	SYS_restart_syscall,
	SYS_wait4,
	SYS_waitid,
	SYS_kill,
	SYS_tgkill,
	SYS_getrandom,
	SYS_shutdown,
	SYS_brk, /* its error is another one */
	INJECT_CALL,
};

/* 0: this call is not to be counted. */
static int error_for(int call)
{
	for (size_t i = 0; i < sizeof(infallible) / sizeof(infallible[0]); i++)
		if (infallible[i] == call)
			return 0;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].call == call)
			return errors[i].err[state.variant % 2];
	return ENOMEM;
}

static bool is_keeper(pid_t tid)
{
	const char *name;
	char link[64], exe[512];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", tid);
	n = readlink(link, exe, sizeof(exe) - 1);
	if (n < 0)
		return false;
	exe[n] = '\0';
	name = strrchr(exe, '/');
	return name && !strcmp(name, "/pinstage-keeper");
}

static void set_register(pid_t tid, size_t offset, long value)
{
	if (ptrace(PTRACE_POKEUSER, tid, offset, value) < 0 && errno != ESRCH)
		perror("inject: PTRACE_POKEUSER");
}

#define REGISTER(name) offsetof(struct user_regs_struct, name)

static void at_entry(pid_t tid, const struct ptrace_syscall_info *info)
{
	const int call = (int)info->entry.nr;

	if (!state.armed || !error_for(call) ||
	    is_keeper(tid) != (state.whose == INJECT_KEEPER))
		return;
	if (--state.left)
		return;
	state.armed = false;
	state.fired = INJECT_FIRED(call, error_for(call));
	if (state.variant == INJECT_HOLD) {
		state.held = tid;
		return;
	}
	state.failing = tid;
	set_register(tid, REGISTER(orig_rax), -1);
	if (state.variant == INJECT_KILL)
		kill(tid, SIGKILL);
}

static long obey(const struct ptrace_syscall_info *info)
{
	const __u64 *arg = info->entry.args;

	switch (arg[0]) {
	case INJECT_ARM:
		state.whose = (enum inject_whose)arg[1];
		state.left = arg[2];
		state.variant = arg[3];
		state.fired = 0;
		state.armed = state.left > 0;
		return 0;
	case INJECT_DISARM:
		state.armed = false;
		return state.fired;
	case INJECT_ASK:
		return state.fired;
	case INJECT_GO_ON:
		ptrace(PTRACE_SYSCALL, state.held, 0, 0);
		state.held = 0;
		return 0;
	}
	return -EINVAL;
}

/* A tracee has either entered a call or is about to leave it. */
static void at_syscall(pid_t tid)
{
	struct ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) < 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == INJECT_CALL) {
		/* Of no call at all the kernel leaves the result alone. */
		set_register(tid, REGISTER(rax), obey(&info));
		set_register(tid, REGISTER(orig_rax), -1);
	} else if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		at_entry(tid, &info);
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && tid == state.failing) {
		state.failing = 0;
		set_register(tid, REGISTER(rax), -INJECT_FIRED_ERR(state.fired));
	}
}

static void go_on(pid_t tid, int status)
{
	const int signal = WSTOPSIG(status), event = status >> 16;

	if (signal == (SIGTRAP | 0x80))
		at_syscall(tid);
	if (tid == state.held)
		return;
	if (event == PTRACE_EVENT_STOP && signal != SIGTRAP)
		ptrace(PTRACE_LISTEN, tid, 0, 0); /* stopped as a group */
	else if (event || signal == (SIGTRAP | 0x80))
		ptrace(PTRACE_SYSCALL, tid, 0, 0);
	else
		ptrace(PTRACE_SYSCALL, tid, 0, signal);
}

static pid_t start(char **argv)
{
	const unsigned long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
				      PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
				      PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	int go[2];
	pid_t pid;
	char byte;

	if (pipe(go) < 0 || (pid = fork()) < 0) {
		perror("inject");
		exit(2);
	}
	if (pid == 0) {
		close(go[1]);
		(void)!read(go[0], &byte, 1);
		close(go[0]);
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, options) < 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0) {
		perror("inject: ptrace");
		exit(2);
	}
	close(go[0]);
	close(go[1]);
	return pid;
}

int main(int argc, char **argv)
{
	pid_t program, tid;
	int status;

	if (argc < 2)
		return 2;
	program = start(argv + 1);
	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (tid > 0 && WIFSTOPPED(status))
			go_on(tid, status);
		else if (tid == program && WIFEXITED(status))
			return WEXITSTATUS(status);
		else if (tid == program && WIFSIGNALED(status))
			return 128 + WTERMSIG(status);
	}
	return 2;
}

#else

int main(void)
{
	puts("SKIP: only for x86-64: calls are made to fail through its registers");
	return 77;
}

#endif
