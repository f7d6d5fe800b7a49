/* SPDX-License-Identifier: MIT */
#include "lib/sites.h"

#include <string.h>

atomic_bool sites_counting;
_Atomic(unsigned long) sites_fine;
static struct site site[SITES_MOST];
static _Atomic(uint64_t) left_out;
static atomic_uint taken;

enum site_note sites_note(uint64_t key, uint64_t bytes, uint64_t now, unsigned most)
{
	struct site *s;
	uint64_t was;

	key = key ? key : 1;
	for (unsigned i = 0; i < SITES_MOST; i++) {
		s = &site[(key + i) % SITES_MOST];
		was = s->key;
		if (was == 0 && taken >= most)
			break;
		if (was == 0 && atomic_compare_exchange_strong(&s->key, &was, key)) {
			atomic_fetch_add(&taken, 1);
			s->first = now;
		} else if (was != key) {
			continue;
		}
		s->last = now;
		atomic_fetch_add(&s->bytes, bytes);
		return atomic_fetch_add(&s->n, 1) == 0 ? SITE_FIRST : SITE_AGAIN;
	}
	atomic_fetch_add(&left_out, 1);
	return SITE_LEFT_OUT;
}

const struct site *sites_next(unsigned *i)
{
	while (*i < SITES_MOST)
		if (site[(*i)++].key)
			return &site[*i - 1];
	return 0;
}

uint64_t sites_left_out(void)
{
	return left_out;
}

void sites_forget(void)
{
	memset((void *)site, 0, sizeof(site));
	left_out = 0;
	taken = 0;
	sites_fine = 0;
}
