/* SPDX-License-Identifier: MIT */
/*
 * A call that is held half way while its file gets registered: by a thread of this process,
 * then the registration waits for it, or by a child, then it does not know.
 */
#ifndef BESIDE_H
#define BESIDE_H

#include "held.h"

#include <pthread.h>

struct beside_result {
	ssize_t ret; /* of the call, */
	int err;     /* and errno */
};

struct beside {
	bool child;
	void (*body)(struct beside *b);
	int told[2], tells[2]; /* pipes, to and from the body */
	bool held;	       /* it stood there before the registration */
	struct beside_result result;
};

/* Of the body, once: with the call where it shall be, or where nothing holds it here. */
__attribute__((unused)) static void beside_stand(const struct beside *b, bool held)
{
	if (write(b->tells[1], &held, 1) != 1 || read(b->told[0], &held, 1) != 1)
		abort();
}

static void *beside_run(void *arg)
{
	struct beside *b = arg;

	b->body(b);
	if (write(b->tells[1], &b->result, sizeof(b->result)) != (ssize_t)sizeof(b->result))
		abort();
	return NULL;
}

struct beside_registering {
	struct io_uring *ring;
	void *addr;
	size_t len;
	int ret;
};

static void *beside_register(void *arg)
{
	struct beside_registering *r = arg;

	r->ret = register_one(r->ring, r->addr, r->len);
	return NULL;
}

/* Returns what the registration said. */
__attribute__((unused)) static int register_beside(struct beside *b, struct io_uring *ring,
						   void *addr, size_t len)
{
	struct beside_registering r = { .ring = ring, .addr = addr, .len = len };
	long pause = SYS_clock_nanosleep;
	pthread_t body, registering;
	pid_t pid = 0;

	assert_int_equal(pipe(b->told), 0);
	assert_int_equal(pipe(b->tells), 0);
	if (b->child)
		pid = fork();
	else
		assert_int_equal(pthread_create(&body, NULL, beside_run, b), 0);
	assert_true(pid >= 0);
	if (b->child && pid == 0) {
		munmap(addr, len); /* whoever maps it could not be left out */
		beside_run(b);
		_exit(0);
	}
	assert_int_equal(read(b->tells[0], &b->held, 1), 1);
	if (b->child) {
		beside_register(&r);
	} else {
		assert_int_equal(pthread_create(&registering, NULL, beside_register, &r), 0);
		if (b->held && with_shim() && kernel_refuses())
			assert_true(poll_until(thread_sleeps_in, &pause, 20000));
	}
	assert_int_equal(write(b->told[1], &b->held, 1), 1);
	if (!b->child)
		pthread_join(registering, NULL);
	assert_int_equal(read(b->tells[0], &b->result, sizeof(b->result)), sizeof(b->result));
	if (b->child)
		assert_int_equal(wait_for(pid), 0);
	else
		pthread_join(body, NULL);
	for (int i = 0; i < 2; i++) {
		close(b->told[i]);
		close(b->tells[i]);
	}
	return r.ret;
}

#endif
