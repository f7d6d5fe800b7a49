/* SPDX-License-Identifier: MIT */
/* file systems: ext4 */
/*
 * Staging waits for calls in flight, and for nothing else: a thread that only seems to be in
 * one is not waited for, and nobody waits for a thread that waits for the staging.
 */
#include "beside.h"
#include "nokeeper.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#define SIZE   (256 * KIB)
#define STAGED (128 * KIB)
#define SOON   5000 /* ms; a call that does not end is waited for longer */

enum { HELD = 3000 };

static struct io_uring ring;
static unsigned char *map;
static int fd, other, pipe_fd[2];
static struct held held;
static atomic_int step;
static sem_t semaphore, may_end; /* no thread before that, or it gets no signal */
static pthread_t writer, registering;
static struct beside_registering registration;
static uint64_t took;

static void begin(void (*handler)(int))
{
	const struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	unsigned char content[HELD];

	fill(content, HELD, 0, NEW);
	make_file("data", SIZE);
	make_file("other", SIZE);
	fd = open_file("data", O_RDWR);
	other = open_file("other", O_RDWR);
	map = map_fd(fd, SIZE, 0);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(sem_init(&semaphore, 0, 0), 0);
	assert_int_equal(sem_init(&may_end, 0, 2), 0);
	if (handler)
		assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	ring_init(&ring);
	hold(&held, content, HELD);
}

static void *work_register(void *arg)
{
	const uint64_t began = now_ms();

	beside_register(arg);
	took = now_ms() - began;
	sem_wait(&may_end);
	return NULL;
}

static void start_registering(void)
{
	registration = (struct beside_registering){ .ring = &ring, .addr = map, .len = STAGED };
	assert_int_equal(pthread_create(&registering, NULL, work_register, &registration), 0);
}

/* With somebody in a call that it has to wait for. */
static void start_waiting(void *(*work)(void *), void *arg)
{
	long pause = SYS_clock_nanosleep;

	assert_int_equal(pthread_create(&writer, NULL, work, arg), 0);
	wait_held(&held);
	start_registering();
	if (held.fd >= 0 && with_shim())
		assert_true(poll_until(thread_sleeps_in, &pause, 20000));
}

static void start_sleeping(void *(*work)(void *), long number)
{
	assert_int_equal(pthread_create(&writer, NULL, work, NULL), 0);
	assert_true(poll_until(thread_sleeps_in, &number, 20000));
}

static void must_register_soon(void)
{
	pthread_join(registering, NULL);
	assert_in_range(took, 0, SOON);
	must_stage(registration.ret);
}

static void *write_held(void *arg)
{
	assert_int_equal(pwrite(fd, held.at, HELD, 0), HELD);
	sem_wait(&may_end);
	return arg;
}

/* Signals come when the call returns, and find it noted still. */
static void handler_reads(int signal)
{
	char c;

	(void)signal;
	if (pread(other, &c, 1, 0) != 1)
		abort();
}

static void signal__handler_reads_a_file(void **state)
{
	(void)state;
	begin(handler_reads);
	start_waiting(write_held, NULL);
	pthread_kill(writer, SIGUSR1);
	let_go(&held);
	pthread_join(writer, NULL);
	must_register_soon();
	assert_content(map, HELD, 0, NEW);
}

/* As garbage collectors do: until all threads have stopped, none goes on. */
static void handler_stops(int signal)
{
	(void)signal;
	sem_post(&semaphore);
	while (step == 0)
		usleep(1000);
}

static void signal__world_stops(void **state)
{
	(void)state;
	begin(handler_stops);
	assert_int_equal(sem_init(&may_end, 0, 0), 0);
	start_waiting(write_held, NULL);
	pthread_kill(writer, SIGUSR1);
	pthread_kill(registering, SIGUSR1);
	let_go(&held);
	sem_wait(&semaphore);
	sem_wait(&semaphore);
	step = 1;
	sem_post(&may_end);
	sem_post(&may_end);
	pthread_join(writer, NULL);
	must_register_soon();
	assert_content(map, HELD, 0, NEW);
}

/* The address sanitizer does not see that cancellation left the library's functions, and takes
 * their stack for one in use. */
static void tell_sanitizer(void)
{
	void (*stack_is_left)(void);

	*(void **)&stack_is_left = dlsym(RTLD_DEFAULT, "__asan_handle_no_return");
	if (stack_is_left)
		stack_is_left();
}

static void unmap(void *at)
{
	tell_sanitizer();
	munmap(at, SIZE);
}

static void *write_until_cancelled(void *second)
{
	pthread_cleanup_push(unmap, second);
	(void)!pwrite(fd, held.at, HELD, 0);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancelled__and_unmaps(void **state)
{
	(void)state;
	begin(NULL);
	start_waiting(write_until_cancelled, map_fd(fd, SIZE, 0));
	pthread_cancel(writer);
	let_go(&held);
	pthread_join(writer, NULL);
	must_register_soon();
}

static void wait_for_semaphore(void *arg)
{
	(void)arg;
	tell_sanitizer();
	step = 1;
	sem_wait(&semaphore);
}

static void *cancelled_at_entry(void *arg)
{
	pthread_cleanup_push(wait_for_semaphore, NULL);
	pthread_cancel(pthread_self());
	(void)!write(fd, "x", 1);
	pthread_cleanup_pop(0);
	return arg;
}

static void cancelled__and_waits(void **state)
{
	(void)state;
	begin(NULL);
	let_go(&held);
	assert_int_equal(pthread_create(&writer, NULL, cancelled_at_entry, NULL), 0);
	while (step == 0)
		sched_yield();
	start_registering();
	pthread_join(registering, NULL);
	sem_post(&semaphore);
	pthread_join(writer, NULL);
	assert_in_range(took, 0, SOON);
	must_stage(registration.ret);
}

static sigjmp_buf before_call;

static void handler_jumps(int signal)
{
	(void)signal;
	siglongjmp(before_call, 1);
}

/* The idiom of a call with a time limit. */
static void *write_and_jump(void *arg)
{
	static char more_than_fits[MIB];

	if (sigsetjmp(before_call, 1) == 0)
		(void)!write(pipe_fd[1], more_than_fits, sizeof(more_than_fits));
	step = 1;
	sem_wait(&semaphore);
	return arg;
}

static void jumped_out__number_is_the_files(void **state)
{
	(void)state;
	begin(handler_jumps);
	let_go(&held);
	start_sleeping(write_and_jump, SYS_write);
	pthread_kill(writer, SIGUSR1);
	while (step == 0)
		sched_yield();
	assert_int_equal(dup2(fd, pipe_fd[1]), pipe_fd[1]);
	start_registering();
	pthread_join(registering, NULL);
	sem_post(&semaphore);
	pthread_join(writer, NULL);
	assert_in_range(took, 0, SOON);
	must_stage(registration.ret);
}

static void *write_with_own_table(void *arg)
{
	int own;

	assert_int_equal(unshare(CLONE_FILES), 0);
	own = (int)syscall(SYS_openat, AT_FDCWD, path_of("data"), O_RDWR);
	assert_int_equal(pwrite(own, held.at, HELD, 0), HELD);
	return arg;
}

static void own_table__is_waited_for(void **state)
{
	(void)state;
	begin(NULL);
	start_waiting(write_with_own_table, NULL);
	let_go(&held);
	pthread_join(writer, NULL);
	must_register_soon();
	if (held.fd >= 0) /* or it may have come later, and has no descriptor of the memory */
		assert_content(map, HELD, 0, NEW);
}

/* Many that come and go take places, and leave them to others. */
static void *write_one(void *arg)
{
	const off_t at = (off_t)(uintptr_t)arg;

	assert_int_equal(pwrite(fd, "\x55", 1, SIZE - 1 - at), 1);
	return NULL;
}

static void threads__that_come_and_go(void **state)
{
	pthread_t thread[200];

	(void)state;
	begin(NULL);
	for (int round = 0; round < 10; round++) {
		for (uintptr_t i = 0; i < 200; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, write_one, (void *)i),
					 0);
		for (int i = 0; i < 200; i++)
			pthread_join(thread[i], NULL);
	}
	start_waiting(write_held, NULL);
	let_go(&held);
	pthread_join(writer, NULL);
	must_register_soon();
	assert_content(map, HELD, 0, NEW);
	for (int i = 0; i < 200; i++)
		assert_int_equal(map[SIZE - 1 - i], 0x55);
}

static void *write_later(void *arg)
{
	assert_int_equal(pwrite(fd, "later", 5, STAGED / 2), 5);
	step = 1;
	return arg;
}

/* While a staging waits for one call, those that come later wait for the staging, and those on
 * other files for nobody. */
static void later_calls__wait_for_their_own_file(void **state)
{
	long futex = SYS_futex;
	pthread_t later;
	char c = 'c';

	(void)state;
	begin(NULL);
	start_waiting(write_held, NULL);
	assert_int_equal(pthread_create(&later, NULL, write_later, NULL), 0);
	if (held.fd >= 0 && with_shim()) {
		assert_true(poll_until(thread_sleeps_in, &futex, 5000));
		assert_int_equal(step, 0);
	}
	assert_int_equal(pwrite(other, &c, 1, 0), 1);
	assert_int_equal(pread(other, &c, 1, 1), 1);
	if (held.fd >= 0 && with_shim())
		assert_int_equal(step, 0);
	let_go(&held);
	pthread_join(writer, NULL);
	pthread_join(later, NULL);
	must_register_soon();
	assert_content(map, HELD, 0, NEW);
	assert_memory_equal(map + STAGED / 2, "later", 5);
}

static void *let_go_when_waited_for(void *arg)
{
	long pause = SYS_clock_nanosleep;

	wait_held(&held);
	start_registering();
	if (held.fd >= 0 && with_shim())
		step = poll_until(thread_sleeps_in, &pause, 3000);
	let_go(&held);
	return arg;
}

static void main_thread(void **state)
{
	(void)state;
	begin(NULL);
	step = 1;
	assert_int_equal(pthread_create(&writer, NULL, let_go_when_waited_for, NULL), 0);
	assert_int_equal(pwrite(fd, held.at, HELD, 0), HELD);
	pthread_join(writer, NULL);
	assert_int_equal(step, 1);
	must_register_soon();
	assert_content(map, HELD, 0, NEW);
}

/* The first program of a user makes the board. */
static void main_thread__is_waited_for(void **state)
{
	(void)state;
	if (with_shim() && !go_where_no_keeper_is())
		skip_test("cannot: this kernel has no name spaces for us");
	for (int program = 0; program < 2; program++)
		assert_int_equal(run_part("main_thread"), 0);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(signal__handler_reads_a_file),
		TEST(signal__world_stops),
		TEST(cancelled__and_unmaps),
		TEST(cancelled__and_waits),
		TEST(jumped_out__number_is_the_files),
		TEST(own_table__is_waited_for),
		TEST(threads__that_come_and_go),
		TEST(later_calls__wait_for_their_own_file),
		TEST(main_thread__is_waited_for),
		{ 0 },
	};
	static const struct test parts[] = { TEST(main_thread), { 0 } };

	return test_main(argc, argv, cases, parts);
}
