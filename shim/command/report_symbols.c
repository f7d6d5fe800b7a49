/* SPDX-License-Identifier: MIT */
/* Functions, files and lines of addresses in modules, by libdw: from the module itself, and
 * from separate debug files by .gnu_debuglink or build-id. */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
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

/* The innermost function there, one that was inlined included. */
static const char *function_at(Dwfl_Module *m, GElf_Addr at)
{
	Dwarf_Die *scopes = NULL, *cu;
	const char *name = NULL;
	Dwarf_Addr bias;
	int n = 0, tag;

	cu = dwfl_module_addrdie(m, at, &bias);
	if (cu)
		n = dwarf_getscopes(cu, at - bias, &scopes);
	for (int i = 0; i < n && !name; i++) {
		tag = dwarf_tag(&scopes[i]);
		if (tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine)
			name = dwarf_diename(&scopes[i]);
	}
	free(scopes);
	return name ? name : dwfl_module_addrname(m, at);
}

static void resolve(struct frame *f, const struct loaded *l)
{
	const char *name, *file;
	GElf_Addr bias, at;
	Dwfl_Line *line;

	if (!dwfl_module_getelf(l->module, &bias))
		return;
	at = f->address + bias - 1; /* in the call, not behind it */
	name = function_at(l->module, at);
	if (name)
		f->function = strdup(name);
	line = dwfl_module_getsrc(l->module, at);
	file = line ? dwfl_lineinfo(line, NULL, &f->line, NULL, NULL, NULL) : NULL;
	if (file)
		f->file = strdup(file);
	else if (!name)
		f->note = "no symbols";
}

void symbols_resolve(struct symbols *s, struct frame *f, size_t n)
{
	const struct loaded *l;

	for (size_t i = 0; i < n; i++) {
		if (!*f[i].module || f[i].module[0] != '/') {
			f[i].note = "no module";
			continue;
		}
		l = loaded(s, &f[i]);
		if (l && l->module)
			resolve(&f[i], l);
		else if (l)
			f[i].note = l->note;
	}
}
