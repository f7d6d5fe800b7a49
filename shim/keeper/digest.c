/* SPDX-License-Identifier: MIT */
#include "keeper/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct ledger_base digest_page(const void *page, size_t size, uint64_t seed)
{
	XXH128_hash_t h;

#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return digest_page_avx2(page, size, seed);
#endif
	h = XXH3_128bits_withSeed(page, size, seed);
	return (struct ledger_base){ h.low64, h.high64 };
}
