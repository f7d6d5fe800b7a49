// SPDX-License-Identifier: MIT
#include "run.h"

#include <string.h>

/* A failing list without [from, from + n) still fails: it becomes the list. */
static bool without(unsigned from, unsigned n)
{
	static unsigned saved[MAX_OPS];
	const unsigned nops = shared->nops;

	memcpy(saved, shared->list, sizeof(saved));
	memmove(shared->list + from, shared->list + from + n,
		(nops - from - n) * sizeof(*saved));
	shared->nops = nops - n;
	if (!run_once())
		return true;
	memcpy(shared->list, saved, sizeof(saved));
	shared->nops = nops;
	return false;
}

void shrink(unsigned seconds)
{
	const uint64_t until = now_ms() + seconds * 1000ull;
	unsigned i;

	/* Nothing after the operation that failed had a part in it. */
	if (shared->next && shared->next < shared->nops)
		shared->nops = shared->next;
	for (unsigned n = shared->nops / 2; n > 0; n = n == 1 ? 0 : (n + 1) / 2) {
		bool any = true;

		while (any) {
			any = false;
			for (i = 0; i + n <= shared->nops && now_ms() < until;) {
				if (without(i, n))
					any = true;
				else
					i += n;
			}
			any = any && n == 1 && now_ms() < until;
		}
	}
	/* For the log; where it depends on time, it may take more than once. */
	for (i = 0; i < 10 && run_once(); i++)
		continue;
}
