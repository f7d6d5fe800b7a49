// SPDX-License-Identifier: MIT
/*
 * Nothing lost, however the program ends: what it and its devices wrote is in the file, as a
 * process without the shim sees it. After an end that the library sees (return, exit, _exit,
 * quick_exit, every exec) that is so at once; after one that only the keeper sees, a moment
 * later.
 */
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "testlib.h"

#define SIZE (256 * KIB)

/* The first half comes from the device, the second from the program. */
static void write_both(struct io_uring *ring, unsigned char *map)
{
	fill(map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	device_writes(ring, map, SIZE / 2, 0);
}

static bool both_in_file(const char *name)
{
	return in_file(name, 0, SIZE / 2, DEVICE) && in_file(name, SIZE / 2, SIZE / 2, NEW);
}

static bool has_both(void *name)
{
	return both_in_file(name);
}

static char data_name[] = "data";

static struct io_uring ring;
static unsigned char *map;

static void stage_and_write(void)
{

	make_file("data", SIZE);
	map = map_file("data", SIZE);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, SIZE));
	write_both(&ring, map);
}

static void returns(void **state)
{
	(void)state;
	stage_and_write();
}

static void exits(void **state)
{
	(void)state;
	stage_and_write();
	exit(3);
}

static void exits_at_once(void **state)
{
	(void)state;
	stage_and_write();
	_exit(3);
}

static void exits_quickly(void **state)
{
	(void)state;
	stage_and_write();
	quick_exit(3);
}

static void aborts(void **state)
{
	(void)state;
	stage_and_write();
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void crashes(void **state)
{
	(void)state;
	stage_and_write();
	signal(SIGSEGV, SIG_DFL);
	*(volatile char *)mmap(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0) = 1;
}

static void waits_for_death(void **state)
{
	(void)state;
	stage_and_write();
	reached("staged");
	sleep_for_ever();
}

enum how { EXECVE, EXECV, EXECVP, EXECVPE, FEXECVE, EXECVEAT, EXECL, EXECLP, EXECLE };

/* The next program looks at the file at once, and its answer is our exit status. */
static void execute(enum how how)
{
	char path[4096], end[32], seed[32];
	char *argv[] = { (char *)(uintptr_t) "filecheck",
			 (char *)(uintptr_t)path_of("data"),
			 (char *)(uintptr_t) "0",
			 end,
			 (char *)(uintptr_t) "0",
			 seed,
			 NULL };
	char *envp[] = { NULL };

	stage_and_write();
	fill(map, SIZE, 0, NEWER);
	snprintf(path, sizeof(path), "%s/filecheck", getenv("TEST_TOOLS"));
	snprintf(end, sizeof(end), "%lu", SIZE);
	snprintf(seed, sizeof(seed), "%d", NEWER);
#define ARGUMENTS argv[0], argv[1], argv[2], argv[3], argv[4], argv[5], (char *)NULL
	switch (how) {
	case EXECVE:
		execve(path, argv, envp);
		break;
	case EXECV:
		execv(path, argv);
		break;
	case EXECVP:
		execvp(path, argv);
		break;
	case EXECVPE:
		execvpe(path, argv, envp);
		break;
	case FEXECVE:
		fexecve(open(path, O_RDONLY | O_CLOEXEC), argv, envp);
		break;
	case EXECVEAT:
		execveat(AT_FDCWD, path, argv, envp, 0);
		break;
	case EXECL:
		execl(path, ARGUMENTS);
		break;
	case EXECLP:
		execlp(path, ARGUMENTS);
		break;
	case EXECLE:
		execle(path, ARGUMENTS, envp);
		break;
	}
	_exit(111);
}

#define EXECUTES(name, how)                        \
	static void executes__##name(void **state) \
	{                                          \
		(void)state;                       \
		execute(how);                      \
	}                                          \
	static void exec__##name(void **state)     \
	{                                          \
		(void)state;                       \
		must_run("executes__" #name, 0);   \
	}
EXECUTES(execve, EXECVE)
EXECUTES(execv, EXECV)
EXECUTES(execvp, EXECVP)
EXECUTES(execvpe, EXECVPE)
EXECUTES(fexecve, FEXECVE)
EXECUTES(execveat, EXECVEAT)
EXECUTES(execl, EXECL)
EXECUTES(execlp, EXECLP)
EXECUTES(execle, EXECLE)

/* An exec that fails changes nothing. */
static void executes_nothing(void **state)
{
	(void)state;
	stage_and_write();
	assert_int_equal(execl("/nowhere/none", "none", (char *)NULL), -1);
	assert_int_equal(errno, ENOENT);
	fill(map, SIZE, 0, NEWER);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEWER);
}

static void exec__of_nothing(void **state)
{
	(void)state;
	must_run("executes_nothing", 0);
}

/* Past libc, and so past every hook. */
static void executes_unseen(void **state)
{
	char *argv[] = { (char *)(uintptr_t) "true", NULL };

	(void)state;
	stage_and_write();
	syscall(SYS_execve, "/bin/true", argv, argv + 1);
}

static void exec__unseen(void **state)
{
	(void)state;
	must_run("executes_unseen", 0);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at execve\n");
}

static void write_late(void)
{
	fill(map, SIZE, 0, NEWER);
}

/* An atexit handler, and so a destructor, may still write. */
static void writes_in_atexit(void **state)
{
	(void)state;
	atexit(write_late);
	stage_and_write();
}

static void writes_in_at_quick_exit(void **state)
{
	(void)state;
	assert_int_equal(at_quick_exit(write_late), 0);
	stage_and_write();
	quick_exit(3);
}

static void exit__by_return(void **state)
{
	(void)state;
	must_run("returns", 0);
	assert_true(both_in_file("data"));
}

static void exit__by_exit(void **state)
{
	(void)state;
	must_run("exits", 3);
	assert_true(both_in_file("data"));
}

static void exit__by__exit(void **state)
{
	(void)state;
	must_run("exits_at_once", 3);
	assert_true(both_in_file("data"));
}

static void exit__by_quick_exit(void **state)
{
	(void)state;
	must_run("exits_quickly", 3);
	assert_true(both_in_file("data"));
}

static void exit__atexit_handler_writes(void **state)
{
	(void)state;
	must_run("writes_in_atexit", 0);
	assert_in_file("data", 0, SIZE, NEWER);
}

static void exit__at_quick_exit_handler_writes(void **state)
{
	(void)state;
	must_run("writes_in_at_quick_exit", 3);
	assert_in_file("data", 0, SIZE, NEWER);
}

static void exit__by_abort(void **state)
{
	(void)state;
	must_run("aborts", -SIGABRT);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at abort\n");
}

static void exit__by_crash(void **state)
{
	(void)state;
	must_run("crashes", -SIGSEGV);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at a crash\n");
}

static void exit__by_sigkill(void **state)
{
	pid_t pid;

	(void)state;
	pid = start_part("waits_for_death");
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(wait_for(pid), EFAULT);
		return;
	}
	wait_reached("staged");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(wait_for(pid), -SIGKILL);
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at SIGKILL\n");
	assert_int_equal(file_size("data"), SIZE);
}

/* Children that show the same memory die with their parent. */
static void waits_with_children(void **state)
{
	const size_t share = SIZE / 4;
	char name[] = "child 0";

	(void)state;
	setpgid(0, 0);
	stage_and_write();
	for (size_t i = 0; i < 4; i++, name[6]++) {
		if (fork() == 0) {
			fill(map + i * share, share, i * share, NEWER);
			reached(name);
			sleep_for_ever();
		}
		wait_reached(name);
	}
	reached("staged");
	sleep_for_ever();
}

static void exit__by_sigkill_of_the_group(void **state)
{
	pid_t pid;

	(void)state;
	pid = start_part("waits_with_children");
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(wait_for(pid), EFAULT);
		return;
	}
	wait_reached("staged");
	assert_int_equal(kill(-pid, SIGKILL), 0);
	assert_int_equal(wait_for(pid), -SIGKILL);
	assert_reaches_file("data", 0, SIZE, NEWER);
}

/* The main thread leaves first; the last one ends the process. */
static void *write_last(void *main_thread)
{
	pthread_join(*(pthread_t *)main_thread, NULL);
	fill(map, SIZE, 0, NEWER);
	return NULL;
}

static void last_thread_leaves(void **state)
{
	static pthread_t self;
	pthread_t thread;

	(void)state;
	stage_and_write();
	self = pthread_self();
	assert_int_equal(pthread_create(&thread, NULL, write_last, &self), 0);
	pthread_exit(NULL);
}

static void exit__by_the_last_thread(void **state)
{
	(void)state;
	must_run("last_thread_leaves", 0);
	assert_in_file("data", 0, SIZE, NEWER);
}

/* A thread stores word after word and counts them in a file of its own, until the process that
 * another thread ends is no more. */
static _Atomic(uint64_t) *count;

static void *store_words(void *arg)
{
	uint64_t *word = (void *)map;

	(void)arg;
	for (uint64_t i = 0; i < SIZE / sizeof(*word); i++) {
		__atomic_store_n(&word[i], i + 1, __ATOMIC_RELEASE);
		atomic_store(count, i + 1);
		if (i % 64 == 63)
			sched_yield();
	}
	sleep_for_ever();
}

static void exits_under_stores(void **state)
{
	pthread_t thread;

	(void)state;
	count = map_file("count", page_size());
	stage_and_write();
	assert_int_equal(pthread_create(&thread, NULL, store_words, NULL), 0);
	while (atomic_load(count) < 100)
		sched_yield();
	exit(3);
}

static bool has_all_words(void *arg)
{
	uint64_t *word = malloc(SIZE), n;
	int fd = open_file("data", O_RDONLY);
	bool all = true;

	(void)arg;
	n = atomic_load(count);
	assert_int_equal(pread(fd, word, SIZE, 0), SIZE);
	for (uint64_t i = 0; i < n && all; i++)
		all = word[i] == i + 1;
	close(fd);
	free(word);
	return all;
}

static void exit__under_stores(void **state)
{
	(void)state;
	make_sparse("count", page_size());
	count = map_file("count", page_size());
	must_run("exits_under_stores", 3);
	assert_true(atomic_load(count) >= 100);
	if (!poll_until(has_all_words, NULL, 20000))
		fail_test("stores before the end are lost\n");
}

/* A child shares the ring, but no mapping: what it has the kernel read into the registered
 * pages comes when the program is gone. */
static void leaves_a_reader(void **state)
{
	int alive[2], source;
	char byte;

	(void)state;
	stage_and_write();
	source = make_source(SIZE, OTHER);
	assert_int_equal(pipe(alive), 0);
	if (fork() == 0) {
		close(alive[1]);
		assert_int_equal(munmap(map, SIZE), 0);
		reached("staged");
		assert_int_equal(read(alive[0], &byte, 1), 0);
		reached("alone");
		wait_reached("go");
		read_fixed(&ring, source, map, SIZE / 2, 0, 0);
		_exit(0);
	}
	sleep_for_ever();
}

static void exit__before_the_device_is_done(void **state)
{
	pid_t pid;

	(void)state;
	pid = start_part("leaves_a_reader");
	if (kernel_refuses() && !with_shim()) {
		assert_int_equal(wait_for(pid), EFAULT);
		return;
	}
	wait_reached("staged");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(wait_for(pid), -SIGKILL);
	wait_reached("alone");
	if (!poll_until(has_both, data_name, 20000))
		fail_test("lost at SIGKILL\n");
	reached("go");
	assert_reaches_file("data", 0, SIZE / 2, OTHER);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
}

/* Children that share the memory for a moment end without taking anything along. */
static void spawns(void **state)
{
	char *argv[] = { (char *)(uintptr_t) "true", NULL };
	pid_t pid;

	(void)state;
	stage_and_write();
	assert_int_equal(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, argv + 1), 0);
	assert_int_equal(wait_for(pid), 0);
	pid = vfork();
	if (pid == 0)
		_exit(7);
	assert_int_equal(wait_for(pid), 7);
	pid = vfork();
	if (pid == 0) {
		execv("/bin/true", argv);
		_exit(1);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_content(map, SIZE / 2, 0, DEVICE);
	fill(map, SIZE, 0, NEWER);
}

static void exit__after_spawning(void **state)
{
	(void)state;
	must_run("spawns", 0);
	assert_in_file("data", 0, SIZE, NEWER);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(exit__by_return),
		TEST(exit__by_exit),
		TEST(exit__by__exit),
		TEST(exit__by_quick_exit),
		TEST(exit__atexit_handler_writes),
		TEST(exit__at_quick_exit_handler_writes),
		TEST(exit__by_abort),
		TEST(exit__by_crash),
		TEST(exit__by_sigkill),
		TEST(exit__by_sigkill_of_the_group),
		TEST(exit__by_the_last_thread),
		TEST(exit__under_stores),
		TEST(exit__before_the_device_is_done),
		TEST(exit__after_spawning),
		TEST(exec__execve),
		TEST(exec__execv),
		TEST(exec__execvp),
		TEST(exec__execvpe),
		TEST(exec__fexecve),
		TEST(exec__execveat),
		TEST(exec__execl),
		TEST(exec__execlp),
		TEST(exec__execle),
		TEST(exec__of_nothing),
		TEST(exec__unseen),
		{ 0 },
	};
	static const struct test parts[] = {
		TEST(returns),
		TEST(exits),
		TEST(exits_at_once),
		TEST(exits_quickly),
		TEST(aborts),
		TEST(crashes),
		TEST(waits_for_death),
		TEST(writes_in_atexit),
		TEST(writes_in_at_quick_exit),
		TEST(waits_with_children),
		TEST(last_thread_leaves),
		TEST(exits_under_stores),
		TEST(leaves_a_reader),
		TEST(spawns),
		TEST(executes__execve),
		TEST(executes__execv),
		TEST(executes__execvp),
		TEST(executes__execvpe),
		TEST(executes__fexecve),
		TEST(executes__execveat),
		TEST(executes__execl),
		TEST(executes__execlp),
		TEST(executes__execle),
		TEST(executes_nothing),
		TEST(executes_unseen),
		{ 0 },
	};

	return test_main(argc, argv, cases, parts);
}
