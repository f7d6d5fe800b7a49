/* SPDX-License-Identifier: MIT */
#include "command/format.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void format_bytes(uint64_t bytes, bool exact, char *text, size_t size)
{
	static const char unit[] = "KMGTPE";
	uint64_t whole = bytes, rest = 0;
	int u = -1;

	while (!exact && whole >= 1024) {
		rest = whole % 1024;
		whole /= 1024;
		u++;
	}
	if (u < 0)
		snprintf(text, size, "%" PRIu64, whole);
	else if (whole >= 10 || rest * 10 / 1024 == 0)
		snprintf(text, size, "%" PRIu64 "%c", whole, unit[u]);
	else
		snprintf(text, size, "%" PRIu64 ".%" PRIu64 "%c", whole, rest * 10 / 1024,
			 unit[u]);
}

void format_age(uint64_t ms, char *text, size_t size)
{
	const uint64_t s = ms / 1000;

	if (s < 10)
		snprintf(text, size, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
	else if (s < 120)
		snprintf(text, size, "%" PRIu64 " s", s);
	else if (s < 7200)
		snprintf(text, size, "%" PRIu64 " min", s / 60);
	else
		snprintf(text, size, "%" PRIu64 " h", s / 3600);
}

/* The length of the UTF-8 character at s, or 0. */
static size_t utf8(const unsigned char *s)
{
	const size_t n = *s < 0x80		   ? 1
			 : *s >= 0xc2 && *s < 0xe0 ? 2
			 : *s >= 0xe0 && *s < 0xf0 ? 3
			 : *s >= 0xf0 && *s < 0xf5 ? 4
						   : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || /* surrogates */
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void format_name(const char *name, char *text, size_t size)
{
	const unsigned char *s = (const unsigned char *)name;
	size_t at = 0, n;

	while (*s && at + 5 <= size) {
		n = utf8(s);
		/* Control characters of both halves of Latin-1, and the backslash itself. */
		if (n == 0 || *s < 0x20 || *s == 0x7f || *s == '\\' ||
		    (*s == 0xc2 && s[1] < 0xa0)) {
			at += (size_t)snprintf(text + at, size - at, "\\x%02x", *s++);
			continue;
		}
		memcpy(text + at, s, n);
		at += n;
		s += n;
	}
	text[at] = '\0';
}

bool format_terminal(void)
{
	return isatty(STDOUT_FILENO) == 1;
}

bool format_colours(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return format_terminal() && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

const char *format_user(unsigned uid, char *text, size_t size)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(text, size, "%s", pw->pw_name);
	else
		snprintf(text, size, "%u", uid);
	return text;
}
