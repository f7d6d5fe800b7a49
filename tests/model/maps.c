// SPDX-License-Identifier: MIT
#include "model.h"

#include <string.h>
#include <sys/mman.h>

struct map maps[MAX_MAPS];
unsigned nmaps;

void maps_add(struct map map)
{
	if (nmaps == MAX_MAPS)
		wrong("the test itself: too many maps");
	maps[nmaps++] = map;
}

static void split_at(unsigned char *addr)
{
	for (unsigned i = 0; i < nmaps; i++) {
		struct map second = maps[i];

		if (addr <= maps[i].addr || addr >= maps[i].addr + maps[i].len)
			continue;
		maps[i].len = (size_t)(addr - maps[i].addr);
		second.addr = addr;
		second.len -= maps[i].len;
		second.at += maps[i].len;
		maps_add(second);
		return;
	}
}

void maps_split(unsigned char *addr, size_t len)
{
	split_at(addr);
	split_at(addr + len);
}

void maps_remove(unsigned char *addr, size_t len)
{
	maps_split(addr, len);
	for (unsigned i = 0; i < nmaps;) {
		if (maps[i].addr >= addr && maps[i].addr < addr + len)
			maps[i] = maps[--nmaps];
		else
			i++;
	}
}

struct map *map_at(const unsigned char *addr)
{
	for (unsigned i = 0; i < nmaps; i++) {
		if (addr >= maps[i].addr && addr < maps[i].addr + maps[i].len)
			return &maps[i];
	}
	return NULL;
}

bool any_locked(const unsigned char *addr, size_t len)
{
	for (unsigned i = 0; i < nmaps; i++) {
		if (maps[i].locked && maps[i].addr < addr + len &&
		    maps[i].addr + maps[i].len > addr)
			return true;
	}
	return false;
}

struct map *any_map(void)
{
	return nmaps ? &maps[below(nmaps)] : NULL;
}

size_t usable_len(const struct map *map, bool whole_page)
{
	size_t end = whole_page ? page_end() : shared->size;

	if (map->at >= end)
		return 0;
	return map->len < end - map->at ? map->len : end - map->at;
}

struct map *usable_map(bool for_writing)
{
	unsigned first = nmaps ? below(nmaps) : 0;
	struct map *map;

	for (unsigned i = 0; i < nmaps; i++) {
		map = &maps[(first + i) % nmaps];
		if ((map->prot & PROT_READ) && (!for_writing || (map->prot & PROT_WRITE)) &&
		    usable_len(map, false))
			return map;
	}
	return NULL;
}

bool draw_pages(unsigned char **ret_addr, size_t *ret_len)
{
	struct map *map = any_map(), *beyond;
	size_t first, n, pages;

	if (!map)
		return false;
	pages = map->len / PAGE;
	first = one_in(3) ? 0 : below((unsigned)pages);
	n = one_in(3) ? pages - first : 1 + below((unsigned)(pages - first));
	*ret_addr = map->addr + first * PAGE;
	*ret_len = n * PAGE;
	beyond = map_at(map->addr + map->len);
	if (first + n == pages && beyond && one_in(3))
		*ret_len += PAGE * (1 + below((unsigned)(beyond->len / PAGE)));
	return true;
}
