/* SPDX-License-Identifier: MIT */
#include "lib/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/real.h"

/* The kernel writes a space, tab, newline or backslash as \ooo. */
static bool copy_word(char *dst, size_t size, const char *src)
{
	size_t n = 0;

	for (; *src; src++) {
		if (n + 1 >= size)
			return false;
		if (src[0] == '\\' && src[1] && src[2] && src[3]) {
			dst[n++] = (char)((src[1] - '0') << 6 | (src[2] - '0') << 3 |
					  (src[3] - '0'));
			src += 3;
		} else {
			dst[n++] = *src;
		}
	}
	dst[n] = '\0';
	return true;
}

/* "36 35 98:0 /root /point options optional... - fs source options" */
bool mount_parse(char *line, struct mount *ret)
{
	char *word, *rest = line, *point = NULL;
	unsigned i;

	for (i = 0; (word = strsep(&rest, " ")); i++) {
		if (i == 4)
			point = word;
		if (i > 5 && !strcmp(word, "-"))
			break;
	}
	word = rest ? strsep(&rest, " ") : NULL;
	return point && word && *word && copy_word(ret->point, sizeof(ret->point), point) &&
	       copy_word(ret->fs, sizeof(ret->fs), word);
}

bool mount_covers(const struct mount *m, const char *path)
{
	const size_t n = strlen(m->point);

	if (n == 1 && *m->point == '/')
		return *path == '/';
	return n && !strncmp(path, m->point, n) && (path[n] == '/' || path[n] == '\0');
}

/* The longest one; of several at one place the last, which hides the others. */
static void consider(char *line, const char *path, struct mount *best)
{
	struct mount m;

	if (mount_parse(line, &m) && mount_covers(&m, path) &&
	    strlen(m.point) >= strlen(best->point))
		*best = m;
}

void mount_of(const char *path, struct mount *ret, char *buf, size_t size)
{
	size_t have = 0;
	char *line, *nl;
	ssize_t got;
	int fd;

	ret->point[0] = ret->fs[0] = '\0';
	fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	while ((got = real.read(fd, buf + have, size - 1 - have)) > 0) {
		have += (size_t)got;
		buf[have] = '\0';
		for (line = buf; (nl = strchr(line, '\n')); line = nl + 1) {
			*nl = '\0';
			consider(line, path, ret);
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == size - 1) /* longer than there is room for: not looked at */
			have = 0;
	}
	real.close(fd);
}
