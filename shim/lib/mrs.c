/* SPDX-License-Identifier: MIT */
#include "lib/mrs.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "common/util.h"
#include "lib/real.h"

#define BUCKETS	  1024 /* a power of two */
#define PER_BLOCK 15

/* A row belongs to the MR that is in it. Two threads are never about the same MR, as it is for
 * libibverbs; they meet when they look for a free row. */
struct row {
	_Atomic(const void *) mr; /* NULL: free */
	atomic_uint access;
};

/* Blocks stay where they are for good: whoever walks a chain needs no lock. */
struct block {
	_Atomic(struct block *) next;
	struct row row[PER_BLOCK];
};

static _Atomic(struct block *) bucket[BUCKETS];
static _Atomic(uintptr_t) spare; /* of the page taken last, the blocks not used yet */

static _Atomic(struct block *) *bucket_of(const void *mr)
{
	const uint64_t hash = (uintptr_t)mr * UINT64_C(0x9e3779b97f4a7c15);

	return &bucket[hash >> 32 & (BUCKETS - 1)];
}

static struct block *new_block(void)
{
	const size_t page = page_size();
	uintptr_t at = atomic_load(&spare), next;
	void *p;

	while (at) {
		next = at + sizeof(struct block);
		if ((next & (page - 1)) + sizeof(struct block) > page || !(next & (page - 1)))
			next = 0;
		if (atomic_compare_exchange_weak(&spare, &at, next))
			return (struct block *)at;
	}
	p = real.mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* If another thread has taken one, too, the rest of the page is not missed. */
	(void)atomic_compare_exchange_strong(&spare, &at, (uintptr_t)p + sizeof(struct block));
	return p;
}

static struct row *row_of(const void *mr)
{
	for (struct block *b = atomic_load(bucket_of(mr)); b; b = atomic_load(&b->next))
		for (size_t i = 0; i < PER_BLOCK; i++)
			if (atomic_load(&b->row[i].mr) == mr)
				return &b->row[i];
	return NULL;
}

static struct row *take_row(const void *mr)
{
	_Atomic(struct block *) *head = bucket_of(mr);
	struct block *first = atomic_load(head), *b;
	const void *nobody;

	for (b = first; b; b = atomic_load(&b->next))
		for (size_t i = 0; i < PER_BLOCK; i++) {
			nobody = NULL;
			if (!atomic_load(&b->row[i].mr) &&
			    atomic_compare_exchange_strong(&b->row[i].mr, &nobody, mr))
				return &b->row[i];
		}
	b = new_block();
	if (!b)
		return NULL;
	atomic_store(&b->row[0].mr, mr);
	do
		atomic_store(&b->next, first);
	while (!atomic_compare_exchange_weak(head, &first, b));
	return &b->row[0];
}

void mrs_note(const void *mr, unsigned access)
{
	const int saved = errno;
	struct row *r = row_of(mr);

	if (!r)
		r = take_row(mr);
	if (r)
		atomic_store(&r->access, access);
	errno = saved;
}

bool mrs_access(const void *mr, unsigned *ret_access)
{
	const struct row *r = row_of(mr);

	if (r)
		*ret_access = atomic_load(&r->access);
	return r;
}

void mrs_forget(const void *mr)
{
	struct row *r = row_of(mr);

	if (r)
		atomic_store(&r->mr, NULL);
}
