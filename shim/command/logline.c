/* SPDX-License-Identifier: MIT */
#include "command/logline.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char begin[] = "pinstage v=";

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A quoted value from its first character on. Returns what is behind the closing quote, or
 * NULL. */
static char *unquote(char *p)
{
	char *to = p;
	int hi, lo;

	for (; *p && *p != '"'; p++) {
		if (*p != '\\') {
			*to++ = *p;
			continue;
		}
		hi = p[1] == 'x' ? hex(p[2]) : -1;
		lo = hi >= 0 ? hex(p[3]) : -1;
		if (lo < 0 || hi * 16 + lo == 0)
			return NULL;
		*to++ = (char)(hi * 16 + lo);
		p += 3;
	}
	if (*p != '"')
		return NULL;
	*to = '\0'; /* at the quote, or before it */
	return p + 1;
}

/* " key=value" or " key="value"": returns what is behind it, or NULL. */
static char *take_field(char *p, struct logline *l)
{
	char *key = p;

	while (islower((unsigned char)*p) || *p == '_')
		p++;
	if (p == key || *p != '=' || l->n == LOGLINE_FIELDS)
		return NULL;
	*p++ = '\0';
	if (logline_get(l, key))
		return NULL;
	l->field[l->n].key = key;
	if (*p == '"') {
		l->field[l->n++].value = p + 1;
		p = unquote(p + 1);
		return p && (*p == ' ' || *p == '\0') ? p : NULL;
	}
	l->field[l->n++].value = p;
	while (*p > ' ' && *p < 0x7f && *p != '"' && *p != '\\' && *p != '=')
		p++;
	return *p == ' ' || *p == '\0' ? p : NULL;
}

/* The value before `cut` is not whole. Of a list the last word is not. */
static void drop_cut(struct logline *l)
{
	const char *key;
	char *space;

	if (!logline_get(l, "cut") || l->n < 2)
		return;
	key = l->field[l->n - 2].key;
	if (!strcmp(key, "stack") || !strcmp(key, "mmap_stack") || !strcmp(key, "modules")) {
		space = strrchr(l->field[l->n - 2].value, ' ');
		if (space)
			*space = '\0';
		else
			l->field[l->n - 2].value = "";
	} else {
		l->field[l->n - 2] = l->field[l->n - 1];
		l->n--;
	}
}

/* A line that is cut in the middle of an escape: what is left of it goes. */
static void mend_cut(char *text, size_t len)
{
	static const char cut[] = "\" cut=1";
	const size_t n = sizeof(cut) - 1;
	char *p;

	if (len < n + 4 || strcmp(text + len - n, cut) != 0)
		return;
	for (p = text + len - n - 3; p < text + len - n; p++)
		if (*p == '\\' && p + 4 > text + len - n)
			break;
	if (p < text + len - n) {
		*p = '"';
		memset(p + 1, ' ', (size_t)(text + len - n - p));
	}
}

enum logline_kind logline_parse(char *text, size_t len, struct logline *ret)
{
	const char *end = text + len;
	char *p;

	ret->n = 0;
	if (strncmp(text, begin, sizeof(begin) - 1) != 0)
		return LOGLINE_FOREIGN;
	for (p = text; p < end; p++)
		if (*p < ' ' || *p >= 0x7f)
			return LOGLINE_DAMAGED;
	mend_cut(text, len);
	p = text + strlen("pinstage");
	while (*p == ' ') {
		while (*p == ' ')
			*p++ = '\0';
		p = *p ? take_field(p, ret) : NULL;
		if (!p)
			return LOGLINE_DAMAGED;
	}
	if (p != end || ret->n < 3 || strcmp(ret->field[1].key, "event") != 0 ||
	    !logline_get(ret, "time"))
		return LOGLINE_DAMAGED;
	if (strcmp(ret->field[0].value, "1") != 0)
		return LOGLINE_NEWER;
	drop_cut(ret);
	return LOGLINE_GOOD;
}

char *logline_next(char *text)
{
	return *text ? strstr(text + 1, begin) : NULL;
}

const char *logline_get(const struct logline *l, const char *key)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->field[i].key, key))
			return l->field[i].value;
	return NULL;
}

uint64_t logline_number(const struct logline *l, const char *key)
{
	const char *text = logline_get(l, key);

	return text ? strtoull(text, NULL, 0) : 0;
}

bool logline_time(const char *text, uint64_t *ret_ns)
{
	uint64_t fraction = 0, unit = 100000000;
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%d", &tm), *day = end;

	if (!end)
		return false;
	if (*end == 'T' || *end == ' ') {
		end = strptime(end + 1, "%H:%M:%S", &tm);
		if (!end)
			end = strptime(day + 1, "%H:%M", &tm);
	}
	if (!end)
		return false;
	if (*end == '.')
		for (end++; isdigit((unsigned char)*end); end++, unit /= 10)
			fraction += unit * (uint64_t)(*end - '0');
	if (*end == 'Z')
		end++;
	*ret_ns = (uint64_t)timegm(&tm) * 1000000000 + fraction;
	return !*end && timegm(&tm) >= 0;
}
