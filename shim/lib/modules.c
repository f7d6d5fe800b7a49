/* SPDX-License-Identifier: MIT */
#include "lib/modules.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "common/vmas.h"
#include "lib/copy_in.h"
#include "lib/log.h"

#define MAPS_BUFFER (32UL * 1024)
#define NOTES_MOST  1024

struct search {
	struct modules *ms;
	const struct trace *const *t;
	size_t n;
	struct scratch *scratch;
	uint64_t dev, ino; /* of the last mapping of the beginning of a file */
	uintptr_t base;
};

static bool any_frame_in(const struct search *s, const struct vma *v)
{
	for (size_t i = 0; i < s->n; i++)
		for (unsigned j = 0; j < s->t[i]->n; j++)
			if (s->t[i]->frame[j] >= v->start && s->t[i]->frame[j] < v->end)
				return true;
	return false;
}

static int look_at(const struct vma *v, const char *path, void *arg)
{
	struct search *s = arg;
	struct modules *ms = s->ms;
	struct module *m;
	char *copy;

	if (v->ino && v->off == 0) {
		s->dev = v->dev;
		s->ino = v->ino;
		s->base = v->start;
	}
	if (!v->ino || v->dev != s->dev || v->ino != s->ino || !any_frame_in(s, v))
		return 0;
	m = ms->n ? &ms->m[ms->n - 1] : NULL;
	if (m && m->base == s->base)
		return 0;
	if (ms->n == MODULES_MOST)
		return 0;
	copy = scratch_get(s->scratch, strlen(path) + 1);
	if (!copy)
		return -ENOMEM;
	strcpy(copy, path);
	ms->m[ms->n++] =
		(struct module){ .dev = s->dev, .ino = s->ino, .base = s->base, .path = copy };
	return 0;
}

void modules_note_id(const unsigned char *p, size_t n, unsigned char id[BUILD_ID_BYTES],
		     size_t *ret_len)
{
	ElfW(Nhdr) h;
	size_t name, desc;

	*ret_len = 0;
	while (n >= sizeof(h)) {
		memcpy(&h, p, sizeof(h));
		p += sizeof(h);
		n -= sizeof(h);
		name = ((size_t)h.n_namesz + 3) & ~(size_t)3;
		desc = ((size_t)h.n_descsz + 3) & ~(size_t)3;
		if (name > n || desc > n - name)
			return;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 && !memcmp(p, "GNU", 4) &&
		    h.n_descsz <= BUILD_ID_BYTES) {
			memcpy(id, p + name, h.n_descsz);
			*ret_len = h.n_descsz;
			return;
		}
		p += name + desc;
		n -= name + desc;
	}
}

static void read_headers(struct module *m)
{
	unsigned char notes[NOTES_MOST];
	const ElfW(Phdr) * table;
	bool loaded = false;
	ElfW(Ehdr) e;
	ElfW(Phdr) p;
	size_t n;

	if (!pin_copy_in(&e, (void *)m->base, sizeof(e)) ||
	    memcmp(e.e_ident, ELFMAG, SELFMAG) != 0)
		return;
	table = (const ElfW(Phdr) *)(m->base + e.e_phoff);
	for (unsigned i = 0; i < e.e_phnum; i++) {
		if (!pin_copy_in(&p, table + i, sizeof(p)))
			return;
		if (p.p_type == PT_LOAD && !loaded) {
			loaded = m->elf = true;
			m->bias = m->base - (p.p_vaddr - p.p_offset);
		}
	}
	for (unsigned i = 0; i < e.e_phnum && loaded && !m->id_len; i++) {
		if (!pin_copy_in(&p, table + i, sizeof(p)))
			return;
		n = MIN((size_t)p.p_memsz, sizeof(notes));
		if (p.p_type == PT_NOTE && pin_copy_in(notes, (void *)(m->bias + p.p_vaddr), n))
			modules_note_id(notes, n, m->id, &m->id_len);
	}
}

int modules_find(struct modules *ms, const struct trace *const *t, size_t n,
		 struct scratch *scratch)
{
	struct search s = { .ms = ms, .t = t, .n = n, .scratch = scratch };
	char *buf = scratch_get(scratch, MAPS_BUFFER);
	int err;

	ms->n = 0;
	if (!buf)
		return -ENOMEM;
	err = vmas_scan(VMAS_MAPS, buf, MAPS_BUFFER, look_at, &s, NULL);
	for (size_t i = 0; i < ms->n; i++)
		read_headers(&ms->m[i]);
	return err;
}

/* A module reaches from its base to the next one's at most; what lies between modules and in
 * none has no ELF header below it and no frames, but for code made at run time. */
static int module_of(const struct modules *ms, uintptr_t addr)
{
	ElfW(Ehdr) e;
	ElfW(Phdr) p;

	for (size_t i = 0; i < ms->n; i++) {
		const struct module *m = &ms->m[i];

		if (!m->elf || addr < m->base || !pin_copy_in(&e, (void *)m->base, sizeof(e)))
			continue;
		for (unsigned j = 0; j < e.e_phnum; j++) {
			if (!pin_copy_in(&p, (const ElfW(Phdr) *)(m->base + e.e_phoff) + j,
					 sizeof(p)))
				break;
			if (p.p_type == PT_LOAD && addr >= m->bias + p.p_vaddr &&
			    addr - (m->bias + p.p_vaddr) < p.p_memsz)
				return (int)i;
		}
	}
	return -1;
}

void modules_print_trace(char *dst, size_t size, const struct modules *ms,
			 const struct trace *t)
{
	const int own = module_of(ms, (uintptr_t)modules_print_trace);
	bool inside = own >= 0;
	char frame[64];
	size_t used = 0;
	int at, n;

	*dst = '\0';
	for (unsigned i = 0; i < t->n; i++) {
		at = module_of(ms, t->frame[i]);
		inside = inside && at == own;
		if (inside)
			continue;
		if (at < 0)
			n = snprintf(frame, sizeof(frame), "%s?+%#lx", used ? " " : "",
				     t->frame[i]);
		else
			n = snprintf(frame, sizeof(frame), "%s%d+%#lx", used ? " " : "", at,
				     t->frame[i] - ms->m[at].bias);
		if (used + (size_t)n >= size)
			return;
		strcpy(dst + used, frame);
		used += (size_t)n;
	}
}

/* A path as one word: what separates words is escaped in it, before the whole is. */
static void one_word(char *dst, size_t size, const char *path)
{
	size_t n = 0;

	for (; *path && n + 5 < size; path++) {
		if (*path == ' ' || *path == '\\')
			n += (size_t)snprintf(dst + n, size - n, "\\x%02x", *path);
		else
			dst[n++] = *path;
	}
	dst[n] = '\0';
}

static size_t print_one(char *dst, size_t size, size_t number, const struct module *m)
{
	char word[512], path[1024];
	size_t used;

	used = (size_t)snprintf(dst, size, "%s%zu:", number ? " " : "", number);
	for (size_t i = 0; i < m->id_len && used < size; i++)
		used += (size_t)snprintf(dst + used, size - used, "%02x", m->id[i]);
	one_word(word, sizeof(word), m->path);
	if (used < size)
		used += (size_t)snprintf(dst + used, size - used, ":%s",
					 log_escape(path, sizeof(path), word));
	return used;
}

void modules_print(char *dst, size_t size, const struct modules *ms)
{
	size_t used = 0, n;

	*dst = '\0';
	for (size_t i = 0; i < ms->n; i++) {
		n = print_one(dst + used, size - used, i, &ms->m[i]);
		if (used + n >= size) {
			dst[used] = '\0';
			return;
		}
		used += n;
	}
}
