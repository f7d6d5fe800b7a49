/* SPDX-License-Identifier: MIT */
/* What a call costs that concerns nobody: nanoseconds of the processor per call, one line each.
 * Run with the library preloaded and without, in turn, by tests/bench/run. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int zero, null;

static void do_read(void)
{
	char c;

	(void)!read(zero, &c, 1);
}

static void do_write(void)
{
	(void)!write(null, "x", 1);
}

static void do_close(void)
{
	close(-1);
}

static void do_syscall(void)
{
	syscall(SYS_getpid);
}

static void do_mmap(void)
{
	void *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*(volatile char *)p = 1;
	munmap(p, 65536);
}

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void)
{
	static const struct {
		const char *name;
		void (*call)(void);
		unsigned n;
	} test[] = { { "read", do_read, 100000 },
		     { "write", do_write, 100000 },
		     { "close", do_close, 100000 },
		     { "syscall", do_syscall, 100000 },
		     { "mmap+munmap", do_mmap, 10000 } };
	double begun;

	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (size_t i = 0; i < sizeof(test) / sizeof(test[0]); i++) {
		begun = cpu_ns();
		for (unsigned k = 0; k < test[i].n; k++)
			test[i].call();
		printf("%s %.2f\n", test[i].name, (cpu_ns() - begun) / test[i].n);
	}
	return 0;
}
