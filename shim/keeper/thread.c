/* SPDX-License-Identifier: MIT */
#include "keeper/thread.h"

#include <stddef.h>

/* The C library takes the size that is usual from RLIMIT_STACK as the program that started us
 * had it, before we can raise that. Thread-local buffers, more than a MiB of them, are taken
 * from it first: with a small one next to nothing was left. */
#define STACK_BYTES (4UL << 20)

int thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return err;
	err = pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (!err && !ret_thread)
		err = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (!err)
		err = pthread_create(ret_thread ? ret_thread : &thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return err;
}
