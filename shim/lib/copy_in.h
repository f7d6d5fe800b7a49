/* SPDX-License-Identifier: MIT */
/* Copies from and to memory of the program that may be bad: false instead of a signal. Without
 * the calls for it (a seccomp filter may forbid them) it still is, unless another thread makes
 * it so in that very moment. */
#ifndef PINSTAGE_COPY_IN_H
#define PINSTAGE_COPY_IN_H

#include <stdbool.h>
#include <stddef.h>

bool pin_copy_in(void *dst, const void *src, size_t n);
bool pin_copy_out(void *dst, const void *src, size_t n);

#endif
