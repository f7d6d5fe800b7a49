/* SPDX-License-Identifier: MIT */
/* A stack as the log has it: "0+0x12ae 1+0x2724a ?+0x7f00", with modules "0:BUILDID:PATH
 * 1:...". */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "command/report.h"

/* The entry of module `number`, up to the next space; NULL. */
static const char *find_module(const char *modules, unsigned long number)
{
	const char *p = modules;
	char *end;

	while (*p) {
		if (strtoul(p, &end, 10) == number && end != p && *end == ':')
			return end + 1;
		p += strcspn(p, " ");
		p += *p == ' ';
	}
	return NULL;
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10;
}

/* A path has been unescaped once as a value, and is one word, with spaces and backslashes
 * escaped. */
static char *copy_path(const char *from, size_t n)
{
	char *path = strndup(from, n), *to = path;

	for (const char *p = path; path && *p; p++) {
		if (p[0] == '\\' && p[1] == 'x' && isxdigit((unsigned char)p[2]) &&
		    isxdigit((unsigned char)p[3])) {
			*to++ = (char)(hex(p[2]) * 16 + hex(p[3]));
			p += 3;
		} else {
			*to++ = *p;
		}
	}
	if (path)
		*to = '\0';
	return path;
}

static void take_module(struct frame *f, const char *modules, unsigned long number)
{
	const char *m = find_module(modules, number), *colon = m ? strchr(m, ':') : NULL;
	const size_t n = m ? strcspn(m, " ") : 0;

	if (!colon || colon > m + n)
		return;
	free(f->id);
	free(f->module);
	f->id = strndup(m, (size_t)(colon - m));
	f->module = copy_path(colon + 1, n - (size_t)(colon + 1 - m));
}

struct frame *frames_of(const char *stack, const char *modules, size_t *ret_n)
{
	struct frame *f = calloc(strlen(stack) / 2 + 1, sizeof(*f));
	const char *p = stack;
	unsigned long number;
	size_t n = 0;
	char *end;

	while (f && *p) {
		number = strtoul(p, &end, 10);
		if (end == p && *end == '?') {
			number = (unsigned long)-1;
			end++;
		}
		if (*end != '+' || end == p)
			break;
		f[n].module = strdup("");
		f[n].id = strdup("");
		f[n].address = strtoull(end + 1, &end, 16);
		take_module(&f[n], modules, number);
		if (!f[n].module || !f[n].id) {
			n++;
			break;
		}
		n++;
		p = end + (*end == ' ');
		if (*end && *end != ' ')
			break;
	}
	*ret_n = n;
	return f;
}

void frame_clear(struct frame *f)
{
	free(f->module);
	free(f->id);
	free(f->function);
	free(f->file);
	*f = (struct frame){ 0 };
}

void frames_free(struct frame *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		frame_clear(&f[i]);
	free(f);
}
