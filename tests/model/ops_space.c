// SPDX-License-Identifier: MIT
/* The address space. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include <pinstage.h>

/* Records that an operation can add at most. */
#define ROOM 4

static void map_file(unsigned char *where, size_t pages_there)
{
	const bool readonly = one_in(5), writable_file = !readonly || one_in(2);
	const bool populate = one_in(8);
	struct map map = { .prot = readonly ? PROT_READ : PROT_READ | PROT_WRITE };
	struct file *file = file_for(true, writable_file);
	size_t end = page_end() / PAGE, first;
	void *addr;

	map.may_write = (file->flags & O_ACCMODE) == O_RDWR;
	if (one_in(3))
		first = 0;
	else
		first = below((unsigned)(end && !one_in(8) ? end : MAX_PAGES));
	if (pages_there)
		map.len = pages_there * PAGE;
	else if (one_in(2) && end > first)
		map.len = (end - first) * PAGE;
	else
		map.len = PAGE * (1 + below(24));
	map.at = first * PAGE;
	if (map.at + map.len > MAX_SIZE + 4 * PAGE)
		map.len = MAX_SIZE + 4 * PAGE - map.at;
	say(" %zu+%zu prot %d%s", map.at, map.len, map.prot, where ? " over another" : "");
	addr = mmap(where, map.len, map.prot,
		    MAP_SHARED | (where ? MAP_FIXED : 0) | (populate ? MAP_POPULATE : 0),
		    file->fd, (off_t)map.at);
	if (addr == MAP_FAILED)
		wrong("mmap: errno %d", errno);
	if (where)
		maps_remove(addr, map.len);
	if (map.prot & PROT_WRITE)
		model_allocated(map.at, populate ? map.len : 0);
	map.addr = addr;
	maps_add(map);
}

/* A sync point of what is, or was, mapped there. */
static void must_be_written(unsigned char *addr, size_t len, const char *after)
{
	for (unsigned i = 0; i < nmaps; i++) {
		unsigned char *from = maps[i].addr > addr ? maps[i].addr : addr;
		unsigned char *end = maps[i].addr + maps[i].len;
		size_t at;

		if (end > addr + len)
			end = addr + len;
		if (from >= end)
			continue;
		at = maps[i].at + (size_t)(from - maps[i].addr);
		compare_raw(at, (size_t)(end - from), after);
		memcpy(shared->saved + (at < MAX_SIZE ? at : 0),
		       shared->content + (at < MAX_SIZE ? at : 0),
		       at + (size_t)(end - from) <= MAX_SIZE ? (size_t)(end - from) : 0);
	}
}

static void unmap(unsigned char *addr, size_t len)
{
	say(" %p+%zu", (void *)addr, len);
	if (munmap(addr, len) < 0)
		wrong("munmap: errno %d", errno);
	must_be_written(addr, len, "munmap");
	maps_remove(addr, len);
}

static void make_room(void)
{
	while (nmaps > MAX_MAPS - ROOM) {
		say(" [unmap");
		unmap(maps[0].addr, maps[0].len);
		say("]");
	}
}

void op_mmap(void)
{
	make_room();
	map_file(NULL, 0);
}

void op_mmap_over(void)
{
	unsigned char *addr;
	size_t len;

	make_room();
	if (draw_pages(&addr, &len))
		map_file(addr, len / PAGE);
}

void op_munmap(void)
{
	unsigned char *addr;
	size_t len;

	make_room();
	if (nmaps < 3 && !one_in(4))
		return;
	if (draw_pages(&addr, &len))
		unmap(addr, len);
}

static void *reserve(size_t len)
{
	void *addr = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		wrong("cannot reserve: errno %d", errno);
	return addr;
}

/* MREMAP_DONTUNMAP unlocks all of the kernel's area around what it moves, and whatever is
 * staged divides areas. */
static void unlock_all(void)
{
	for (unsigned i = 0; i < nmaps; i++) {
		if (maps[i].locked && munlock(maps[i].addr, maps[i].len) < 0)
			wrong("munlock: errno %d", errno);
		maps[i].locked = false;
	}
}

void op_mremap(void)
{
	size_t len, old_len, new_len;
	unsigned char *addr, *to;
	struct map *map, moved;
	unsigned how;
	int flags;

	make_room();
	map = any_map();
	if (!map)
		return;
	len = map->len / PAGE;
	addr = map->addr + (one_in(2) ? 0 : below((unsigned)len) * PAGE);
	old_len = (size_t)(map->addr + map->len - addr);
	if (one_in(3))
		old_len = PAGE * (1 + below((unsigned)(old_len / PAGE)));
	new_len = one_in(3) ? old_len : PAGE * (1 + below((unsigned)(old_len / PAGE + 6)));
	how = below(4);
	if (how == 2)
		unlock_all();
	moved = *map;
	moved.at += (size_t)(addr - map->addr);
	moved.len = new_len;
	switch (how) {
	case 0:
		flags = 0;
		break;
	case 1:
		flags = MREMAP_MAYMOVE | MREMAP_FIXED;
		break;
	case 2:
		flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
		new_len = moved.len = old_len;
		break;
	default:
		flags = MREMAP_MAYMOVE;
	}
	say(" %zu+%zu to +%zu flags %d", moved.at, old_len, new_len, flags);
	to = flags & MREMAP_FIXED ? mremap(addr, old_len, new_len, flags, reserve(new_len))
				  : mremap(addr, old_len, new_len, flags);
	if (to == MAP_FAILED) {
		if (flags || errno != ENOMEM)
			wrong("mremap: errno %d", errno);
		say(" (no room)");
		return;
	}
	if (!(flags & MREMAP_DONTUNMAP))
		maps_remove(addr, old_len);
	moved.addr = to;
	maps_add(moved);
}

/* A second mapping without a descriptor. */
void op_mremap_again(void)
{
	struct map *map, second;
	unsigned char *to;
	size_t skip;

	make_room();
	map = any_map();
	if (!map)
		return;
	second = *map;
	skip = below((unsigned)(map->len / PAGE)) * PAGE;
	second.at += skip;
	second.len = PAGE * (1 + below((unsigned)((map->len - skip) / PAGE)));
	say(" %zu+%zu", second.at, second.len);
	to = mremap(map->addr + skip, 0, second.len, MREMAP_MAYMOVE);
	if (to == MAP_FAILED)
		wrong("mremap: errno %d", errno);
	second.addr = to;
	maps_add(second);
}

void op_mprotect(void)
{
	static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ,
				     PROT_NONE };
	int prot = prots[below(4)];
	unsigned char *addr;
	bool allowed = true;
	size_t len;

	/* What is not accessible while another program stages it shows the file afterwards. */
	if (several() && prot == PROT_NONE)
		prot = PROT_READ;
	make_room();
	if (!draw_pages(&addr, &len))
		return;
	maps_split(addr, len);
	for (unsigned i = 0; i < nmaps; i++) {
		if (maps[i].addr >= addr && maps[i].addr < addr + len)
			allowed = allowed && (maps[i].may_write || !(prot & PROT_WRITE));
	}
	if (!allowed)
		prot &= ~PROT_WRITE;
	say(" %p+%zu to %d", (void *)addr, len, prot);
	if (mprotect(addr, len, prot) < 0)
		wrong("mprotect: errno %d", errno);
	for (unsigned i = 0; i < nmaps; i++) {
		if (maps[i].addr >= addr && maps[i].addr < addr + len)
			maps[i].prot = prot;
	}
}

void op_madvise(void)
{
	static const int advices[] = { MADV_NORMAL,   MADV_RANDOM,	  MADV_SEQUENTIAL,
				       MADV_WILLNEED, MADV_DONTNEED,	  MADV_DONTNEED,
				       MADV_HUGEPAGE, MADV_NOHUGEPAGE,	  MADV_COLD,
				       MADV_PAGEOUT,  MADV_POPULATE_READ, MADV_DONTDUMP,
				       MADV_DODUMP,   MADV_DONTFORK,	  MADV_DOFORK };
	const int advice = advices[below(sizeof(advices) / sizeof(advices[0]))];
	unsigned char *addr;
	size_t len;

	make_room();
	if (!draw_pages(&addr, &len) ||
	    (advice == MADV_DONTFORK && !(shared->set.features & F_DONTFORK)))
		return;
	say(" %p+%zu advice %d", (void *)addr, len, advice);
	if (madvise(addr, len, advice) < 0) {
		if (advice <= MADV_DOFORK && !(errno == EINVAL && any_locked(addr, len)))
			wrong("madvise: errno %d", errno);
		return;
	}
	/* Natively, too, that is an area of its own now. */
	maps_split(addr, len);
	if (advice != MADV_DONTFORK && advice != MADV_DOFORK)
		return;
	for (unsigned i = 0; i < nmaps; i++) {
		if (maps[i].addr >= addr && maps[i].addr < addr + len)
			maps[i].not_inherited = advice == MADV_DONTFORK;
	}
}

void op_madvise_remove(void)
{
	struct map *map = usable_map(true);
	size_t at, len;

	if (!map)
		return;
	draw_range(usable_len(map, true), &at, &len);
	at = at / PAGE * PAGE;
	len = (len + PAGE - 1) / PAGE * PAGE;
	if (at + len > map->len)
		len = map->len - at;
	say(" %zu+%zu", map->at + at, len);
	if (!may_cut(map->at + at, len))
		return;
	if (madvise(map->addr + at, len, MADV_REMOVE) < 0) {
		if (errno != EOPNOTSUPP && !(errno == EINVAL && map->locked))
			wrong("MADV_REMOVE: errno %d", errno);
		return;
	}
	model_punch(map->at + at, len, true);
}

void op_msync(void)
{
	static const int flags[] = { MS_SYNC, MS_SYNC, MS_SYNC | MS_INVALIDATE, MS_ASYNC };
	const int flag = flags[below(4)];
	unsigned char *addr;
	size_t len;

	if (!draw_pages(&addr, &len))
		return;
	say(" %p+%zu flags %d", (void *)addr, len, flag);
	if (msync(addr, len, flag) < 0) {
		if (!(errno == EBUSY && (flag & MS_INVALIDATE) && any_locked(addr, len)))
			wrong("msync: errno %d", errno);
		return;
	}
	if (flag & MS_SYNC)
		must_be_written(addr, len, "msync");
}

void op_lock(void)
{
	const bool on = one_in(2);
	struct map *map;
	size_t len;

	make_room();
	map = usable_map(false);
	if (!map)
		return;
	len = usable_len(map, true);
	say(" %s %zu+%zu", on ? "mlock" : "munlock", map->at, len);
	maps_split(map->addr, len);
	model_allocated(0, MAX_SIZE); /* as by a store, now and where it grows */
	if ((on ? mlock(map->addr, len) : munlock(map->addr, len)) < 0)
		wrong("errno %d", errno);
	map->locked = on;
}

/* What include/pinstage.h offers: giving back changes nothing that can be seen. */
void op_release(void)
{
	unsigned char *addr;
	size_t len;
	int ret;

	if (!draw_pages(&addr, &len))
		return;
	say(" %p+%zu", (void *)addr, len);
	ret = pinstage_release(addr, len);
	if (ret != (shared->set.shim ? 0 : -ENOSYS) && ret != -EBUSY)
		wrong("pinstage_release: %d", ret);
	say(" gives %d", ret);
}
