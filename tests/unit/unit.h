/* SPDX-License-Identifier: MIT */
/* What the unit tests share. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cmocka.h>

#define UNIT_MAIN(tests, setup, teardown)                                             \
	int main(void)                                                                \
	{                                                                             \
		return cmocka_run_group_tests_name(__FILE__, tests, setup, teardown); \
	}

/* How many descriptors are open: nothing may be left open, or closed that is not its own. */
static inline unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline bool fd_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* An open file that has no name any more. */
static inline int unnamed_file(void)
{
	const char *dir = getenv("TEST_DIR");
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/unit.XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* Random sequences can be repeated: TEST_SEED=N. */
static inline uint64_t *random_start(void)
{
	const char *given = getenv("TEST_SEED");
	static uint64_t state;

	state = given ? strtoull(given, NULL, 10)
		      : (uint64_t)time(NULL) * 1000003 ^ (uint64_t)getpid();
	print_message("# TEST_SEED=%llu\n", (unsigned long long)state);
	return &state;
}

/* splitmix64; a number below n. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) % n;
}

/* What a child's body says, which cannot assert: it returns 0 if all is well. */
static inline int in_child(int (*body)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		/* cmocka would go on with the next test, in the child. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGFPE, SIG_DFL);
		signal(SIGILL, SIG_DFL);
		_exit(body(arg));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
