/* SPDX-License-Identifier: MIT */
/*
 * Words that others wrote to the file, brought to the memory. What is about to be done is in
 * the ledger first: killed at any moment, who comes next does it again, with the same result.
 * A page of which very much is theirs takes several notes; base and memory agree between two.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "keeper/digest.h"
#include "keeper/outsiders.h"

/* A mapping for this moment only: one that lasts would be a writer in the eyes of F_SEAL_WRITE,
 * and the worker that has the stage is the only one to try that. */
static uint64_t *map_page(const struct segment *g, uint64_t p)
{
	const size_t page = page_size();
	void *mem = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd,
			 (off_t)(p * page));

	return mem == MAP_FAILED ? NULL : mem;
}

/* What fails to be exchanged was changed by a store or a device meanwhile, and stays. Clients
 * can write the ledger, too. */
static void take(struct segment *g, uint64_t p, uint64_t *mem)
{
	struct ledger_taking *t = &g->ledger->taking;
	const uint32_t n =
		MIN(__atomic_load_n(&t->words, __ATOMIC_ACQUIRE), (uint32_t)LEDGER_WORDS);
	uint64_t from;
	uint16_t at;

	for (uint32_t i = 0; i < n; i++) {
		at = __atomic_load_n(&t->at[i], __ATOMIC_RELAXED);
		from = t->word[i].from;
		if (at < page_size() / sizeof(*mem))
			(void)__atomic_compare_exchange_n(&mem[at], &from, t->word[i].to, false,
							  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	ledger_bases(g->ledger)[p] = t->base;
	__atomic_store_n(&t->words, 0, __ATOMIC_RELEASE);
}

/* From word `i` on, as many as there is room for; `old` becomes what the page is with them.
 * Where to go on. */
static size_t note(struct segment *g, uint64_t p, size_t i, unsigned char *old,
		   const unsigned char *new)
{
	struct ledger_taking *t = &g->ledger->taking;
	const size_t page = page_size();
	uint64_t from, to;
	uint32_t n = 0;

	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the one before is done with */
	for (; i < page / sizeof(to) && n < LEDGER_WORDS; i++) {
		memcpy(&from, old + i * sizeof(from), sizeof(from));
		memcpy(&to, new + i * sizeof(to), sizeof(to));
		if (from == to)
			continue;
		t->word[n] = (struct ledger_word){ from, to };
		t->at[n++] = (uint16_t)i;
		memcpy(old + i * sizeof(to), &to, sizeof(to));
	}
	t->page = p;
	t->base = digest_page(old, page, g->ledger->seed);
	__atomic_store_n(&t->words, n, __ATOMIC_RELEASE);
	return i;
}

void words_take(struct segment *g, uint64_t p, unsigned char *old, const unsigned char *new)
{
	const size_t page = page_size(), words = page / sizeof(uint64_t);
	uint64_t *mem = map_page(g, p);

	if (!mem)
		return;
	for (size_t i = 0; i < words;) {
		i = note(g, p, i, old, new);
		take(g, p, mem);
	}
	munmap(mem, page);
}

int words_go_on(struct segment *g)
{
	struct ledger_taking *t = &g->ledger->taking;
	const uint64_t p = __atomic_load_n(&t->page, __ATOMIC_RELAXED);
	uint64_t *mem;

	if (!t->words || p >= segment_pages(g))
		return 0;
	mem = map_page(g, p);
	if (!mem && errno == ENOMEM)
		return -ENOMEM;
	if (!mem) { /* by what a client did to it */
		t->words = 0;
		return 0;
	}
	take(g, p, mem);
	munmap(mem, page_size());
	return 0;
}
