/* SPDX-License-Identifier: MIT */
/* Compiled with -mavx2 where there is such a flag (Makefile); nothing else is. */
#include "keeper/digest.h"

#ifdef __AVX2__
#define XXH_INLINE_ALL
#include <xxhash.h>

struct ledger_base digest_page_avx2(const void *page, size_t size, uint64_t seed)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(page, size, seed);

	return (struct ledger_base){ h.low64, h.high64 };
}
#endif
