/* SPDX-License-Identifier: MIT */
/*
 * Threads that sleep on something in a range while its backing is exchanged, in either
 * direction: they are found by those who wake them afterwards.
 */
#include <dirent.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include <pinstage.h>

#include "testlib.h"

#define SIZE	       (64 * KIB)
#define NR_FUTEX_WAITV 449

/* Stands in the range. */
struct meeting {
	sem_t sem;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool signalled;
	_Atomic(uint32_t) bell[2];
};

static struct meeting *m;
static atomic_bool awake;

/* ---- what to sleep on, and what ends it ---- */

struct way {
	long number; /* of the system call in which it sleeps */
	void (*prepare)(void);
	void (*sleep)(void);
	void (*wake)(void);
};

static void sem_prepare(void)
{
	assert_int_equal(sem_init(&m->sem, 1, 0), 0);
}

static void sem_sleep(void)
{
	while (sem_wait(&m->sem) < 0)
		;
}

static void sem_ring(void)
{
	sem_post(&m->sem);
}

static void mutex_prepare(void)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	assert_int_equal(pthread_mutex_init(&m->mutex, &attr), 0);
	pthread_mutex_lock(&m->mutex);
}

static void mutex_sleep(void)
{
	pthread_mutex_lock(&m->mutex);
	pthread_mutex_unlock(&m->mutex);
}

static void mutex_ring(void)
{
	pthread_mutex_unlock(&m->mutex);
}

static void cond_prepare(void)
{
	pthread_condattr_t attr;

	mutex_prepare();
	pthread_mutex_unlock(&m->mutex);
	pthread_condattr_init(&attr);
	pthread_condattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	assert_int_equal(pthread_cond_init(&m->cond, &attr), 0);
	m->signalled = false;
}

static void cond_sleep(void)
{
	pthread_mutex_lock(&m->mutex);
	while (!m->signalled)
		pthread_cond_wait(&m->cond, &m->mutex);
	pthread_mutex_unlock(&m->mutex);
}

static void cond_ring(void)
{
	pthread_mutex_lock(&m->mutex);
	m->signalled = true;
	pthread_cond_signal(&m->cond);
	pthread_mutex_unlock(&m->mutex);
}

static void waitv_prepare(void)
{
	m->bell[0] = m->bell[1] = 0;
}

static void waitv_sleep(void)
{
	struct futex_waitv both[2] = {
		{ .uaddr = (uintptr_t)&m->bell[0], .flags = FUTEX_32 },
		{ .uaddr = (uintptr_t)&m->bell[1], .flags = FUTEX_32 },
	};

	while (m->bell[1] == 0)
		syscall(NR_FUTEX_WAITV, both, 2, 0, NULL, 0);
}

static void waitv_ring(void)
{
	m->bell[1] = 1;
	syscall(SYS_futex, &m->bell[1], FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* ---- one exchange in each direction ---- */

static const struct way *way;

static void *sleeper(void *arg)
{
	way->sleep();
	awake = true;
	return arg;
}

static bool is_asleep(void *arg)
{
	char path[300], text[64];
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *d;
	bool any = false;
	FILE *f;

	(void)arg;
	while (tasks && (d = readdir(tasks))) {
		if (d->d_name[0] == '.' || atoi(d->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", d->d_name);
		f = fopen(path, "re");
		if (f && fgets(text, sizeof(text), f))
			any |= strtol(text, NULL, 10) == way->number;
		if (f)
			fclose(f);
	}
	closedir(tasks);
	return any;
}

static bool is_awake(void *arg)
{
	(void)arg;
	return awake;
}

static bool is_given_back(void *map)
{
	return pinstage_release(map, SIZE) != -EBUSY;
}

static void begin(pthread_t *thread)
{
	way->prepare();
	awake = false;
	assert_int_equal(pthread_create(thread, NULL, sleeper, NULL), 0);
	assert_true(poll_until(is_asleep, NULL, 20000));
}

static void end(pthread_t thread)
{
	way->wake();
	assert_true(poll_until(is_awake, NULL, 20000));
	pthread_join(thread, NULL);
}

static void through_both_exchanges(const struct way *w)
{
	struct io_uring ring;
	pthread_t thread;
	unsigned char *map;
	int ret;

	way = w;
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	m = (void *)(map + SIZE / 2);
	ring_init(&ring);
	begin(&thread);
	ret = register_one(&ring, map, SIZE);
	end(thread);
	must_stage(ret);
	begin(&thread);
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	if (with_shim())
		assert_true(poll_until(is_given_back, map, 20000));
	end(thread);
	io_uring_queue_exit(&ring);
	assert_int_equal(munmap(map, SIZE), 0);
}

static void sem__waiter_is_found(void **state)
{
	(void)state;
	through_both_exchanges(&(struct way){ SYS_futex, sem_prepare, sem_sleep, sem_ring });
}

static void mutex__waiter_is_found(void **state)
{
	(void)state;
	through_both_exchanges(
		&(struct way){ SYS_futex, mutex_prepare, mutex_sleep, mutex_ring });
}

static void cond__waiter_is_found(void **state)
{
	(void)state;
	through_both_exchanges(&(struct way){ SYS_futex, cond_prepare, cond_sleep, cond_ring });
}

static void futex_waitv__waiter_is_found(void **state)
{
	(void)state;
	if (syscall(NR_FUTEX_WAITV, NULL, 0, 0, NULL, 0) < 0 && errno == ENOSYS)
		skip_test("cannot: this kernel has no futex_waitv");
	through_both_exchanges(
		&(struct way){ NR_FUTEX_WAITV, waitv_prepare, waitv_sleep, waitv_ring });
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(sem__waiter_is_found),
		TEST(mutex__waiter_is_found),
		TEST(cond__waiter_is_found),
		TEST(futex_waitv__waiter_is_found),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
