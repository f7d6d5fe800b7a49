/* SPDX-License-Identifier: MIT */
#include "common/options.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/filesystems.h"
#include "common/util.h"

const struct option_row option_table[] = {
#define OPTION_ROW(suffix, member, kind, text, option, arg, help) \
	{ "PINSTAGE_" #suffix,                                    \
	  OPTION_##kind,                                          \
	  text,                                                   \
	  option,                                                 \
	  arg,                                                    \
	  help,                                                   \
	  offsetof(struct options, member) },
	PINSTAGE_OPTIONS(OPTION_ROW)
};
const size_t option_count = ARRAY_SIZE(option_table);

static int parse_mode(const char *text, enum mode *ret)
{
	static const char *const name[] = { [MODE_STAGE] = "stage",
					    [MODE_LOG] = "log",
					    [MODE_DENY] = "deny",
					    [MODE_OFF] = "off" };

	for (size_t i = 0; i < ARRAY_SIZE(name); i++) {
		if (!strcmp(text, name[i])) {
			*ret = (enum mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Decimal digits with at most three behind a point, as milliseconds; no strtod(), which follows
 * the locale. */
static int parse_seconds(const char *text, uint64_t *ret_ms)
{
	const uint64_t most = 24 * 3600;
	unsigned long s;
	uint64_t ms, unit = 100;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	s = strtoul(text, &end, 10);
	if (errno || s > most)
		return -EINVAL;
	ms = s * 1000;
	if (*end == '.')
		for (end++; isdigit((unsigned char)*end) && unit; end++, unit /= 10)
			ms += unit * (uint64_t)(*end - '0');
	if (*end == 's')
		end++;
	if (*end || ms == 0 || ms > most * 1000)
		return -EINVAL;
	*ret_ms = ms;
	return 0;
}

static int parse_bytes(const char *text, uint64_t *ret)
{
	static const char suffix[] = "KMGT";
	unsigned long long n;
	const char *unit;
	unsigned shift = 0;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	unit = *end ? strchr(suffix, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		shift = 10 * (unsigned)(unit - suffix + 1);
		end++;
	}
	if (*end || n << shift >> shift != n)
		return -EINVAL;
	*ret = n << shift;
	return 0;
}

#define FS_NAME(magic, name, local) name,
#define FS_WORD(magic, name, local) " " name

/* Names with commas between, each with a plus before it or not. One that means nothing here
 * would silently do nothing. */
static int parse_filesystems(const char *text)
{
	static const char *const name[] = { FILESYSTEMS(FS_NAME) };
	const char *end;
	size_t i;

	for (;; text = end + 1) {
		text += *text == '+';
		end = strchrnul(text, ',');
		for (i = 0; i < ARRAY_SIZE(name); i++)
			if (strlen(name[i]) == (size_t)(end - text) &&
			    !memcmp(name[i], text, (size_t)(end - text)))
				break;
		if (i == ARRAY_SIZE(name))
			return -EINVAL;
		if (!*end)
			return 0;
	}
}

int option_parse(enum option_type type, const char *text, void *ret, const char **ret_expected)
{
	switch (type) {
	case OPTION_MODE:
		*ret_expected = "stage, log, deny or off";
		return parse_mode(text, ret);
	case OPTION_SECONDS:
		*ret_expected = "seconds, from 0.001 to 86400";
		return parse_seconds(text, ret);
	case OPTION_BYTES:
		*ret_expected = "a number of bytes, with K, M, G or T behind it if you like";
		return parse_bytes(text, ret);
	case OPTION_FLAG:
		*ret_expected = "yes or no";
		if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
			return -EINVAL;
		*(bool *)ret = !strcmp(text, "yes");
		return 0;
	case OPTION_FILESYSTEMS:
		*ret_expected = "+NAME,... of" FILESYSTEMS(FS_WORD);
		if (parse_filesystems(text) < 0)
			return -EINVAL;
		*(const char **)ret = text;
		return 0;
	case OPTION_TEXT:
		*ret_expected = "some text";
		if (!*text)
			return -EINVAL;
		*(const char **)ret = text;
		return 0;
	}
	return -EINVAL;
}

int option_set(struct options *o, const struct option_row *row, const char *text,
	       const char **ret_expected)
{
	return option_parse(row->type, text, (char *)o + row->offset, ret_expected);
}

void options_default(struct options *o)
{
	const char *expected;

	memset(o, 0, sizeof(*o));
	for (size_t i = 0; i < option_count; i++)
		if (option_table[i].def)
			(void)option_set(o, &option_table[i], option_table[i].def, &expected);
}

bool globs_match(const char *globs, const char *path)
{
	const char *slash = strrchr(path, '/'), *end;
	const char *base = slash ? slash + 1 : path;
	char glob[PATH_MAX];
	size_t n;

	for (; *globs; globs = *end ? end + 1 : end) {
		end = strchrnul(globs, ':');
		n = (size_t)(end - globs);
		if (n == 0 || n >= sizeof(glob))
			continue;
		memcpy(glob, globs, n);
		glob[n] = '\0';
		if (!fnmatch(glob, path, 0) || !fnmatch(glob, base, 0))
			return true;
	}
	return false;
}
