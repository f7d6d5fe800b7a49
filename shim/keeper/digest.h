/* SPDX-License-Identifier: MIT */
/* The digest of a page: XXH3-128, by the widest instructions that this processor has. */
#ifndef PINSTAGE_DIGEST_H
#define PINSTAGE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/ledger.h"

struct ledger_base digest_page(const void *page, size_t size, uint64_t seed);

/* digest_avx2.c: the same, on processors that have AVX2. */
struct ledger_base digest_page_avx2(const void *page, size_t size, uint64_t seed);

#endif
