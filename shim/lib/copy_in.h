/* SPDX-License-Identifier: MIT */
#ifndef PINSTAGE_COPY_IN_H
#define PINSTAGE_COPY_IN_H

#include <stdbool.h>
#include <stddef.h>

/* Copies from memory that may not be readable: false instead of a signal. */
bool pin_copy_in(void *dst, const void *src, size_t n);

#endif
