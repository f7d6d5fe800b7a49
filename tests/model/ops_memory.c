// SPDX-License-Identifier: MIT
/* Loads and stores. */
#include "model.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

static void store(struct map *map, size_t at, size_t len)
{
	static unsigned char buf[MAX_SIZE];

	draw_content(buf, map->at + at, len);
	say(" map %u at %zu+%zu", (unsigned)(map - maps), map->at + at, len);
	memcpy(map->addr + at, buf, len);
	model_write(map->at + at, buf, len);
}

void op_store(void)
{
	struct map *map = usable_map(true);
	size_t at, len;

	if (!map)
		return;
	draw_range(usable_len(map, false), &at, &len);
	store(map, at, len);
}

/* What was there at the last sync, back to where it was. */
void op_store_again(void)
{
	struct map *map = usable_map(true);
	size_t at, len;

	if (!map)
		return;
	draw_range(usable_len(map, false), &at, &len);
	say(" map %u at %zu+%zu", (unsigned)(map - maps), map->at + at, len);
	memcpy(map->addr + at, shared->saved + map->at + at, len);
	model_write(map->at + at, shared->saved + map->at + at, len);
}

/* One byte, wherever the mapping reaches: what may be touched may, and nothing else. */
void op_probe(void)
{
	struct map *map = any_map();
	unsigned char byte = 0;
	size_t at;
	int want, got;
	bool writing;

	if (!map)
		return;
	at = below((unsigned)map->len);
	writing = one_in(2);
	if (!(map->prot & (writing ? PROT_WRITE : PROT_READ)))
		want = SIGSEGV;
	else
		want = map->at + at < page_end() ? 0 : SIGBUS;
	say(" %s map %u at %zu", writing ? "storing" : "loading", (unsigned)(map - maps),
	    map->at + at);
	if (writing && want == 0) {
		byte = shared->content[map->at + at];
		if (map->at + at < shared->size)
			model_write(map->at + at, &byte, 1);
	}
	got = writing ? try_store(map->addr + at, byte) : try_load(map->addr + at, &byte);
	/* What was cut off while it is pinned can still be touched; it holds zeroes. */
	if (want == SIGBUS && got == 0 && shared->set.shim)
		want = 0;
	if (got != want)
		wrong("touching the page at %zu raised %d, not %d (size %zu)",
		      (map->at + at) / PAGE * PAGE, got, want, shared->size);
	if (want == 0 && map->at + at < MAX_SIZE && byte != shared->content[map->at + at])
		wrong("the byte at %zu is %02x, not %02x", map->at + at, byte,
		      shared->content[map->at + at]);
}
