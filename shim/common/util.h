/* SPDX-License-Identifier: MIT */
/* Small things that every part uses. */
#ifndef PINSTAGE_UTIL_H
#define PINSTAGE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)

#define MIN(a, b)                                  \
	({                                         \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define MAX(a, b)                                  \
	({                                         \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

static inline size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static inline uint64_t page_down(uint64_t x)
{
	return x & ~(uint64_t)(page_size() - 1);
}

static inline uint64_t page_up(uint64_t x)
{
	return page_down(x + page_size() - 1);
}

/* An inode as fstat(2) names it. Never compare with the numbers in /proc/PID/maps, which differ
 * on btrfs and overlayfs. */
struct inode_key {
	uint64_t dev;
	uint64_t ino;
};

static inline int inode_key_cmp(struct inode_key a, struct inode_key b)
{
	if (a.dev != b.dev)
		return a.dev < b.dev ? -1 : 1;
	if (a.ino != b.ino)
		return a.ino < b.ino ? -1 : 1;
	return 0;
}

/* Of the whole of it; nothing is zero, too. Of memory that changes it is true only if every
 * byte was zero when it was looked at: memcmp() may look twice where it found a difference, and
 * call equal what never was. */
static inline bool all_zero(const void *at, size_t n)
{
	static const unsigned char zeroes[256];
	const unsigned char *bytes = (const unsigned char *)at;
	unsigned char seen[sizeof(zeroes)];
	size_t len;

	for (size_t done = 0; done < n; done += len) {
		len = MIN(n - done, sizeof(seen));
		memcpy(seen, bytes + done, len);
		__asm__ volatile("" : "+m"(seen));
		if (memcmp(seen, zeroes, len) != 0)
			return false;
	}
	return true;
}

#endif
