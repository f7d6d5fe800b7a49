/* SPDX-License-Identifier: MIT */
/*
 * The ledger of one segment: a memfd that keeper and clients share, so that it outlives the
 * keeper. One page of header, then a digest per page of the segment, then a flag byte per page.
 * Only a keeper writes it.
 */
#ifndef PINSTAGE_LEDGER_H
#define PINSTAGE_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "common/util.h"

#define LEDGER_MAGIC   0x7073676c65646731ULL
#define LEDGER_VERSION 2

enum segment_state { SEGMENT_FILLING, SEGMENT_LIVE, SEGMENT_SEALED };

/* XXH3-128 of the content on which segment and file last agreed. */
struct ledger_base {
	uint64_t lo, hi;
};

#define LEDGER_WORDS 128

/* Words of a page that others wrote to the file and that memory is about to get. Who goes on
 * after a keeper that died over it cannot otherwise tell theirs from what memory had. Zero in
 * the ledger of a keeper that knows nothing of this. */
struct ledger_taking {
	uint32_t words; /* 0: nothing is under way */
	uint32_t unused;
	uint64_t page;		 /* of the segment */
	struct ledger_base base; /* of the page with them */
	struct ledger_word {
		uint64_t from, to;
	} word[LEDGER_WORDS];
	uint16_t at[LEDGER_WORDS]; /* of the page */
};

struct ledger_header {
	uint64_t magic;
	uint32_t version;
	uint32_t page;	/* bytes per page of the segment */
	uint64_t pages; /* of the segment */
	uint64_t seed;	/* of the digests: random, so that nobody can aim at a collision */
	struct inode_key key;
	uint64_t off, len; /* bytes of the file */
	uint32_t state;	   /* enum segment_state */
	int32_t error;	   /* of the last write-back that failed and was not made good, or 0 */
	uint32_t flushing; /* fdatasync() is asked; its answer may be lost with who asked */
	uint32_t unused;
	uint64_t memory; /* inode number of the one that the bases are of: of several, the last
			  */
	struct ledger_taking taking;
};

/* The header is a page, whoever made it. */
_Static_assert(sizeof(struct ledger_header) <= 4096, "");

/* What both memfds are called: device and inode number of the file. */
#define MEMFD_NAME "pinstage:%lu:%lu"

#define LEDGER_UNKNOWN 0x01 /* the base says nothing: write the page */
#define LEDGER_COMPARE 0x04 /* the base says nothing: look at the file, write if it differs */
#define LEDGER_PENDING 0x02 /* written, but no fdatasync() has succeeded since */

static inline size_t ledger_size(uint64_t pages)
{
	return page_up(sizeof(struct ledger_header)) +
	       page_up(pages * (sizeof(struct ledger_base) + sizeof(uint8_t)));
}

static inline struct ledger_base *ledger_bases(struct ledger_header *l)
{
	return (struct ledger_base *)(void *)((char *)l + page_up(sizeof(*l)));
}

/* How many pages there are is never asked of the ledger itself: clients can write it, too. */
static inline uint8_t *ledger_flags(struct ledger_header *l, uint64_t pages)
{
	return (uint8_t *)(ledger_bases(l) + pages);
}

#endif
