/* SPDX-License-Identifier: MIT */
#include "lib/native.h"

#include <stdatomic.h>

#include "lib/pool.h"
#include "lib/space.h"

struct native_pin {
	struct native_pin *next;
	const void *owner, *context;
	struct inode_key key;
	uint64_t off, end; /* of the file, whole pages */
};

static struct pool pool = POOL_INIT(struct native_pin);
static struct native_pin *pins;
static atomic_uint count;

void native_add(uintptr_t start, uintptr_t end, const void *owner)
{
	struct native_pin *p;
	struct area *a;

	for (a = areas_first(&space.areas, start, end); a; a = areas_next(a, end)) {
		if (a->seg)
			continue;
		p = pool_get(&pool);
		if (!p)
			return;
		p->owner = owner;
		p->key = a->file->key;
		p->off = a->off + (MAX(start, a->start) - a->start);
		p->end = a->off + (MIN(end, a->end) - a->start);
		p->next = pins;
		pins = p;
		atomic_fetch_add(&count, 1);
	}
}

void native_pass_on(const void *from, const void *to, const void *context)
{
	for (struct native_pin *p = pins; p; p = p->next) {
		if (p->owner == from) {
			p->owner = to;
			p->context = context;
		}
	}
}

static void drop(const void *owner, const void *context)
{
	struct native_pin **at = &pins, *p;

	while ((p = *at)) {
		if ((owner && p->owner != owner) || (context && p->context != context)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		pool_put(&pool, p);
		atomic_fetch_sub(&count, 1);
	}
}

void native_drop(const void *owner)
{
	drop(owner, NULL);
}

void native_drop_context(const void *context)
{
	drop(NULL, context);
}

bool native_is_owner(const void *owner)
{
	for (const struct native_pin *p = pins; p; p = p->next)
		if (p->owner == owner)
			return true;
	return false;
}

bool native_overlaps(struct inode_key key, uint64_t off, uint64_t end)
{
	for (const struct native_pin *p = pins; p; p = p->next)
		if (!inode_key_cmp(p->key, key) && p->off < end && p->end > off)
			return true;
	return false;
}

void native_forget(void)
{
	drop(NULL, NULL);
}

unsigned native_count(void)
{
	return atomic_load_explicit(&count, memory_order_relaxed);
}
