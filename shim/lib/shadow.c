/* SPDX-License-Identifier: MIT */
#include "lib/shadow.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/real.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#define STACK (256UL * 1024)

struct shadow {
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static int shadow_main(void *p)
{
	struct shadow *s = p;

	s->result = s->fn(s->arg);
	arch_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	return 0;
}

void *shadow_stack_map(size_t size)
{
	void *stack = real.mmap(NULL, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	return stack == MAP_FAILED ? NULL : stack;
}

/* The frames on it never returned; what a sanitizer thinks of their addresses must not outlive
 * them. */
void shadow_stack_unmap(void *stack, size_t size)
{
	ASAN_UNPOISON_MEMORY_REGION(stack, size);
	real.munmap(stack, size);
}

static int run(int (*fn)(void *arg), void *arg, int flags)
{
	struct shadow s = { .fn = fn, .arg = arg, .result = -ECHILD };
	int pid, err = 0;
	char *stack;

	stack = shadow_stack_map(STACK);
	if (!stack)
		return -ENOMEM;
	/* No exit signal: that is what hides it from wait() and from SIGCHLD handlers. */
	pid = clone(shadow_main, stack + STACK, CLONE_VM | CLONE_VFORK | flags, &s);
	if (pid < 0)
		err = -errno;
	else
		while (waitpid(pid, NULL, __WCLONE) < 0 && errno == EINTR)
			;
	shadow_stack_unmap(stack, STACK);
	return err ? err : s.result;
}

int shadow_run(int (*fn)(void *arg), void *arg)
{
	return run(fn, arg, 0);
}

int shadow_run_with_files(int (*fn)(void *arg), void *arg)
{
	return run(fn, arg, CLONE_FILES);
}
