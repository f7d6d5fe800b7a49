/* SPDX-License-Identifier: MIT */
#include "lib/trace.h"

#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* A program has few places that map files; each takes 200 bytes. */
#define KEPT_MOST 512

static struct trace kept[KEPT_MOST + 1];
static unsigned kept_count;
static atomic_bool ready;
static __thread bool taking __attribute__((tls_model("initial-exec")));

/* backtrace() follows .eh_frame, which optimized code has and frame pointers are not needed
 * for. Its first call loads libgcc_s.so.1 and may allocate; later ones do neither. */
void trace_prepare(void)
{
	void *frame[4];

	ready = backtrace(frame, 4) > 0;
}

void trace_take(struct trace *t)
{
	const int saved = errno;
	int n;

	t->n = 0;
	if (!ready || taking)
		return;
	taking = true;
	n = backtrace((void **)t->frame, TRACE_FRAMES);
	taking = false;
	t->n = n > 0 ? (unsigned)n : 0;
	errno = saved;
}

uint64_t hash_bytes(uint64_t seed, const void *p, unsigned long n)
{
	const unsigned char *c = p;

	for (; n; n--)
		seed = (seed ^ *c++) * 0x100000001b3ULL;
	return seed;
}

uint64_t trace_hash(uint64_t seed, const struct trace *t)
{
	return hash_bytes(seed, t->frame, t->n * sizeof(t->frame[0]));
}

unsigned trace_keep(const struct trace *t)
{
	if (t->n == 0)
		return 0;
	for (unsigned i = 1; i <= kept_count; i++)
		if (kept[i].n == t->n &&
		    !memcmp(kept[i].frame, t->frame, t->n * sizeof(t->frame[0])))
			return i;
	if (kept_count == KEPT_MOST)
		return 0;
	kept[++kept_count] = *t;
	return kept_count;
}

const struct trace *trace_kept(unsigned number)
{
	return number <= kept_count ? &kept[number] : &kept[0];
}
