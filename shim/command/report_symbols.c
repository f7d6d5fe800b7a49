/* SPDX-License-Identifier: MIT */
/* Functions, files and lines of addresses in modules, by libdw: from the module itself, and
 * from separate debug files by .gnu_debuglink or build-id. */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command/report.h"

struct loaded {
	struct loaded *next;
	char *path, *id;
	Dwfl *dwfl;
	Dwfl_Module *module; /* NULL: cannot be had, see note */
	const char *note;
};

struct symbols {
	struct loaded *loaded;
};

static const Dwfl_Callbacks callbacks = {
	.find_elf = dwfl_build_id_find_elf,
	.find_debuginfo = dwfl_standard_find_debuginfo,
	.section_address = dwfl_offline_section_address,
};

struct symbols *symbols_open(void)
{
	return calloc(1, sizeof(struct symbols));
}

void symbols_close(struct symbols *s)
{
	struct loaded *l;

	while (s && (l = s->loaded)) {
		s->loaded = l->next;
		if (l->dwfl)
			dwfl_end(l->dwfl);
		free(l->path);
		free(l->id);
		free(l);
	}
	free(s);
}

/* What a log names may be anything by now: only regular files are opened. */
static int open_regular(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static bool has_id(Dwfl_Module *m, const char *id)
{
	const unsigned char *bits;
	GElf_Addr addr;
	char text[130];
	int n = dwfl_module_build_id(m, &bits, &addr);

	for (int i = 0; i < n && i < 64; i++)
		snprintf(text + 2 * (size_t)i, 3, "%02x", bits[i]);
	return n > 0 && !strcmp(text, id);
}

/* One file in a session of its own: many may have the same name. */
static bool load(struct loaded *l, const char *path)
{
	int fd = open_regular(path);

	if (fd < 0)
		return false;
	l->dwfl = dwfl_begin(&callbacks);
	if (l->dwfl)
		l->module = dwfl_report_offline(l->dwfl, path, path, fd);
	if (!l->module)
		close(fd); /* not taken over */
	else if (dwfl_report_end(l->dwfl, NULL, NULL) == 0 &&
		 (!*l->id || has_id(l->module, l->id)))
		return true;
	if (l->dwfl)
		dwfl_end(l->dwfl);
	l->dwfl = NULL;
	l->module = NULL;
	return false;
}

static struct loaded *loaded(struct symbols *s, const struct frame *f)
{
	struct loaded *l;
	char debug[256];

	for (l = s->loaded; l; l = l->next)
		if (!strcmp(l->path, f->module) && !strcmp(l->id, f->id))
			return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->path = strdup(f->module);
	l->id = strdup(f->id);
	l->next = s->loaded;
	s->loaded = l;
	if (!l->path || !l->id || load(l, l->path))
		return l;
	l->note = access(l->path, F_OK) ? "not on this host" : "another build is on this host";
	if (strlen(l->id) < 4 || strlen(l->id) > 128)
		return l;
	snprintf(debug, sizeof(debug), "/usr/lib/debug/.build-id/%.2s/%s.debug", l->id,
		 l->id + 2);
	if (load(l, debug))
		l->note = NULL;
	return l;
}

/* Where an address lies: the function there and, if that was inlined, those that it was inlined
 * into, up to the one whose code it is. Strings are the module's. */
#define PLACES_MOST 16
struct place {
	const char *function, *file; /* NULL: not known */
	int line;
};

static int number_of(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attr;
	Dwarf_Word word;

	if (dwarf_formudata(dwarf_attr(die, name, &attr), &word) != 0 || word > INT_MAX)
		return 0;
	return (int)word;
}

/* Where the call was of which an inlined function has taken the place. */
static struct place call_of(Dwarf_Die *inlined)
{
	struct place p = { 0 };
	Dwarf_Files *files;
	Dwarf_Die cu;

	if (dwarf_diecu(inlined, &cu, NULL, NULL) && dwarf_getsrcfiles(&cu, &files, NULL) == 0)
		p.file = dwarf_filesrc(files, (size_t)number_of(inlined, DW_AT_call_file), NULL,
				       NULL);
	p.line = number_of(inlined, DW_AT_call_line);
	return p;
}

static size_t places_at(Dwfl_Module *m, GElf_Addr at, struct place place[PLACES_MOST])
{
	Dwfl_Line *line = dwfl_module_getsrc(m, at);
	Dwarf_Die *inner = NULL, *scope = NULL, *cu;
	size_t n = 1;
	Dwarf_Addr bias;
	int scopes = 0, tag = 0;

	place[0] = (struct place){ 0 };
	if (line)
		place[0].file = dwfl_lineinfo(line, NULL, &place[0].line, NULL, NULL, NULL);
	cu = dwfl_module_addrdie(m, at, &bias);
	/* The scopes that are around the code; the first call has those around its source. */
	if (cu && dwarf_getscopes(cu, at - bias, &inner) > 0)
		scopes = dwarf_getscopes_die(&inner[0], &scope);
	for (int i = 0; i < scopes && n < PLACES_MOST && tag != DW_TAG_subprogram; i++) {
		tag = dwarf_tag(&scope[i]);
		if (tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine)
			place[n - 1].function = dwarf_diename(&scope[i]);
		if (tag == DW_TAG_inlined_subroutine)
			place[n++] = call_of(&scope[i]);
	}
	free(inner);
	free(scope);
	if (!place[n - 1].function)
		place[n - 1].function = dwfl_module_addrname(m, at);
	return n;
}

/* What the places in it have in common. */
static bool copy_frame(struct frame *to, const struct frame *from)
{
	*to = (struct frame){ .address = from->address,
			      .module = strdup(from->module),
			      .id = strdup(from->id) };
	return to->module && to->id;
}

static void fill(struct frame *f, const struct place *p)
{
	if (p->function)
		f->function = strdup(p->function);
	if (p->file) {
		f->file = strdup(p->file);
		f->line = p->line;
	} else if (!p->function) {
		f->note = "no symbols";
	}
}

/* A frame for each place; `f` is the last, the one whose code it is. Returns how many there
 * are, all of them before it in `to`. */
static size_t resolve(struct frame *f, const struct loaded *l, struct frame *to)
{
	struct place place[PLACES_MOST];
	size_t n, made = 0;
	GElf_Addr bias;

	if (!dwfl_module_getelf(l->module, &bias))
		return 0;
	n = places_at(l->module, f->address + bias - 1, place); /* in the call, not behind it */
	for (size_t i = 0; i + 1 < n; i++, made++) {
		if (!copy_frame(&to[made], f)) {
			frame_clear(&to[made]);
			break;
		}
		to[made].inlined = true;
		fill(&to[made], &place[i]);
	}
	fill(f, &place[n - 1]);
	return made;
}

static size_t resolve_one(struct symbols *s, struct frame *f, struct frame *to)
{
	const struct loaded *l;

	if (f->module[0] != '/') {
		f->note = "no module";
		return 0;
	}
	l = loaded(s, f);
	if (l && l->module)
		return resolve(f, l, to);
	if (l)
		f->note = l->note;
	return 0;
}

void symbols_resolve(struct symbols *s, struct frame **f, size_t *n)
{
	struct frame *all = calloc(*n * PLACES_MOST, sizeof(*all));
	size_t at = 0;

	for (size_t i = 0; all && i < *n; i++) {
		at += resolve_one(s, &(*f)[i], &all[at]);
		all[at++] = (*f)[i];
	}
	if (!all)
		return;
	free(*f);
	*f = all;
	*n = at;
}
