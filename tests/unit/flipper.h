/* SPDX-License-Identifier: MIT */
/* A thread that changes a byte all the time: 0, 1, 0. */
#ifndef FLIPPER_H
#define FLIPPER_H

#include <pthread.h>
#include <stdatomic.h>

#include "unit.h"

struct flipper {
	volatile unsigned char *byte;
	atomic_bool stop;
	pthread_t thread;
};

static inline void *flipper_run(void *arg)
{
	struct flipper *f = arg;

	while (!atomic_load(&f->stop)) {
		*f->byte = 1;
		*f->byte = 0;
	}
	return NULL;
}

static inline void flipper_start(struct flipper *f)
{
	assert_int_equal(pthread_create(&f->thread, NULL, flipper_run, f), 0);
}

static inline void flipper_stop(struct flipper *f)
{
	atomic_store(&f->stop, true);
	assert_int_equal(pthread_join(f->thread, NULL), 0);
}

#endif
