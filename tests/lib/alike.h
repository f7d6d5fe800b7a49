/* SPDX-License-Identifier: MIT */
/*
 * Two files of the same content, both mapped, one of them staged. The same calls are made on
 * both; what they return, errno, the mappings, what read() says and what a process without the
 * shim finds must be the same: what the kernel does to the plain one is the rule.
 */
#ifndef ALIKE_H
#define ALIKE_H

#include "testlib.h"

#define SIZE (256 * KIB)

struct alike {
	int fd[2]; /* staged, plain */
	unsigned char *map[2];
	struct io_uring ring;
};

extern struct alike t;
extern const char *const alike_name[2];

/* Opens both with O_RDWR | flags, stages one and changes some pages of both in memory. Returns
 * what registering said. `pinned`: the pin stays. */
int alike_begin(size_t size, int flags, bool pinned);
#define must_begin(size, flags, pinned) must_stage(alike_begin(size, flags, pinned))

/* Both are the same in every view; ends both. */
void alike_same(void);
void alike_end(void);

/* The expression with `fd`, `map`, `path` and `i` being those of the one and of the other. */
#define both(call)                                                                         \
	({                                                                                 \
		long both_ret_[2];                                                         \
		int both_err_[2];                                                          \
		for (int i = 0; i < 2; i++) {                                              \
			__attribute__((unused)) int fd = t.fd[i];                          \
			__attribute__((unused)) unsigned char *map = t.map[i];             \
			__attribute__((unused)) const char *path = path_of(alike_name[i]); \
			errno = 0;                                                         \
			both_ret_[i] = (long)(call);                                       \
			both_err_[i] = errno;                                              \
		}                                                                          \
		if (both_ret_[0] != both_ret_[1] || both_err_[0] != both_err_[1])          \
			fail_test("%s: %ld, errno %d; on the plain file %ld, errno %d\n",  \
				  #call, both_ret_[0], both_err_[0], both_ret_[1],         \
				  both_err_[1]);                                           \
		both_ret_[1];                                                              \
	})

#endif
