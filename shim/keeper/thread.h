/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_KEEPER_THREAD_H
#define PINSTAGE_KEEPER_THREAD_H

#include <pthread.h>

/* Every thread of the keeper is started by this. ret_thread NULL: nobody joins it. An errno, as
 * of pthread_create(). */
int thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg);

#endif
