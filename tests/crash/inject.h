/* SPDX-License-Identifier: MIT */
/*
 * How a program that runs under tests/crash/inject.c talks with it: by a system call that does
 * not exist. Without inject it is ENOSYS.
 */
#ifndef INJECT_H
#define INJECT_H

#include <unistd.h>

#define INJECT_CALL 0x70696e73l

enum inject_op {
	INJECT_ARM,    /* (whose, n, variant): the n-th call from here on fails, or ends its
			  process */
	INJECT_DISARM, /* the call that failed, as below, or 0 if there were not so many */
	INJECT_ASK,    /* the call that has failed so far, or 0 */
	INJECT_GO_ON,  /* what was held takes place */
};

/* Variants 0 and 1 are errors of the call. */
#define INJECT_KILL 2
#define INJECT_HOLD 3 /* the call does not fail: it waits for GO_ON */

/* Whose calls: those of processes of this program, or those of the keeper. */
enum inject_whose { INJECT_PROGRAM, INJECT_KEEPER };

/* What DISARM and ASK return. */
#define INJECT_FIRED(call, err)	 ((long)(call) << 12 | (err) << 1 | 1)
#define INJECT_FIRED_CALL(fired) ((int)((fired) >> 12))
#define INJECT_FIRED_ERR(fired)	 ((int)((fired) >> 1 & 0x7ff))

static inline long inject_arm(enum inject_whose whose, unsigned n, unsigned variant)
{
	return syscall(INJECT_CALL, INJECT_ARM, whose, n, variant);
}

static inline long inject_disarm(void)
{
	return syscall(INJECT_CALL, INJECT_DISARM);
}

static inline long inject_ask(void)
{
	return syscall(INJECT_CALL, INJECT_ASK);
}

static inline long inject_go_on(void)
{
	return syscall(INJECT_CALL, INJECT_GO_ON);
}

#endif
