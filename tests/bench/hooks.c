/* SPDX-License-Identifier: MIT */
/*
 * What a call costs that concerns nobody: nanoseconds of the processor per call. For each line
 * of standard input a batch of each: one line each, and an empty one. tests/bench/run has two
 * processes of it, one with the library preloaded and one without, measure in turn.
 *
 *   hooks [FILE]
 *
 * FILE: reads and writes this one, and a socket, instead.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int zero, null, file, sock[2];

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

static void do_file_read(void)
{
	char c;

	(void)!pread(file, &c, 1, 0);
}

static void do_file_write(void)
{
	(void)!pwrite(file, "x", 1, 0);
}

static void do_socket(void)
{
	char c;

	(void)!write(sock[0], "x", 1);
	(void)!read(sock[1], &c, 1);
}

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct test {
	const char *name;
	void (*call)(void);
	unsigned n;
};

/* What another process left in the caches is gone before the time is taken. */
static void run(const struct test *test, size_t n)
{
	double begun;

	for (size_t i = 0; i < n; i++) {
		for (unsigned k = 0; k < test[i].n / 8; k++)
			test[i].call();
		begun = cpu_ns();
		for (unsigned k = 0; k < test[i].n; k++)
			test[i].call();
		printf("%s %.2f\n", test[i].name, (cpu_ns() - begun) / test[i].n);
	}
	putchar('\n');
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct test nobody[] = { { "read", do_read, 2000 },
					      { "write", do_write, 2000 },
					      { "close", do_close, 2000 },
					      { "syscall", do_syscall, 2000 },
					      { "mmap+munmap", do_mmap, 200 } };
	static const struct test other[] = { { "pread", do_file_read, 2000 },
					     { "pwrite", do_file_write, 1000 },
					     { "socket", do_socket, 1000 } };
	char line[16];

	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (argc > 1) {
		file = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (file < 0 || pwrite(file, "x", 1, 0) != 1 ||
		    socketpair(AF_UNIX, SOCK_STREAM, 0, sock) < 0)
			return 2;
	}
	while (fgets(line, sizeof(line), stdin))
		if (argc > 1)
			run(other, sizeof(other) / sizeof(other[0]));
		else
			run(nobody, sizeof(nobody) / sizeof(nobody[0]));
	return 0;
}
