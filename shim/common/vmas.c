/* SPDX-License-Identifier: MIT */
#include "common/vmas.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/sys.h"

/* NULL: no digit, or more than fit. */
static const char *number(const char *p, unsigned base, uint64_t *ret)
{
	const char *first = p;
	uint64_t v = 0;
	unsigned d;

	for (;; p++) {
		if (*p >= '0' && *p <= '9')
			d = (unsigned)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			d = (unsigned)(*p - 'a') + 10;
		else
			break;
		if (d >= base)
			break;
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
			return NULL;
	}
	*ret = v;
	return p == first ? NULL : p;
}

static const char *expect(const char *p, char c)
{
	return p && *p == c ? p + 1 : NULL;
}

static const char *field(const char *p, unsigned base, char end, uint64_t *ret)
{
	return p ? expect(number(p, base, ret), end) : NULL;
}

bool vma_parse_header(const char *line, struct vma *v, const char **ret_path)
{
	uint64_t start = 0, end = 0, major = 0, minor = 0;
	const char *p, *perms;

	memset(v, 0, sizeof(*v));
	p = field(field(line, 16, '-', &start), 16, ' ', &end);
	if (!p || strlen(p) < 5)
		return false;
	perms = p;
	p = expect(p + 4, ' ');
	p = field(field(field(p, 16, ' ', &v->off), 16, ':', &major), 16, ' ', &minor);
	if (!p)
		return false;
	p = number(p, 10, &v->ino);
	if (!p)
		return false;
	while (*p == ' ')
		p++;
	*ret_path = p;
	v->start = start;
	v->end = end;
	v->dev = major << 32 | minor;
	v->flags = (perms[0] == 'r' ? VMA_READ : 0) | (perms[1] == 'w' ? VMA_WRITE : 0) |
		   (perms[2] == 'x' ? VMA_EXEC : 0) | (perms[3] == 's' ? VMA_SHARED : 0);
	return true;
}

void vma_parse_detail(const char *line, struct vma *v)
{
	static const struct {
		char name[3];
		unsigned flag;
	} flag[] = { { "mw", VMA_MAYWRITE }, { "lo", VMA_LOCKED }, { "dc", VMA_DONTFORK },
		     { "um", VMA_UFFD },     { "uw", VMA_UFFD },   { "ui", VMA_UFFD },
		     { "lf", VMA_ONFAULT },  { "hg", VMA_HUGE },   { "nh", VMA_NOHUGE } };
	uint64_t key;
	size_t i;

	if (*line != 'P' && *line != 'V') /* most of some twenty lines for each mapping */
		return;
	if (!strncmp(line, "ProtectionKey:", 14)) {
		for (line += 14; *line == ' '; line++)
			;
		if (number(line, 10, &key))
			v->pkey = (unsigned)key;
	}
	if (strncmp(line, "VmFlags:", 8) != 0)
		return;
	for (line += 8; *line == ' ' && line[1] && line[2]; line += 3)
		for (i = 0; i < sizeof(flag) / sizeof(flag[0]); i++)
			if (!strncmp(line + 1, flag[i].name, 2))
				v->flags |= flag[i].flag;
}

struct scan {
	int (*each)(const struct vma *v, const char *path, void *arg);
	void *arg;
	struct vma v;
	bool have;
	uintptr_t told; /* up to there */
	char path[4096];
	size_t count;
};

/* maps comes a few lines at a time. What the kernel makes one mapping in between, of what has
 * been told of and the next, comes whole: only the rest of it is new. */
static int flush(struct scan *s)
{
	if (!s->have)
		return 0;
	s->have = false;
	if (s->v.end <= s->told)
		return 0;
	if (s->v.start < s->told) {
		s->v.off += s->told - s->v.start;
		s->v.start = s->told;
	}
	s->told = s->v.end;
	s->count++;
	return s->each(&s->v, s->path, s->arg);
}

static int take_line(struct scan *s, const char *line)
{
	const char *path;
	struct vma v;
	size_t len;
	int err;

	if (!vma_parse_header(line, &v, &path)) {
		vma_parse_detail(line, &s->v);
		return 0;
	}
	err = flush(s);
	s->v = v;
	s->have = true;
	len = strnlen(path, sizeof(s->path) - 1);
	memcpy(s->path, path, len);
	s->path[len] = '\0';
	return err;
}

int vmas_scan(const char *from, char *buf, size_t size,
	      int (*each)(const struct vma *v, const char *path, void *arg), void *arg,
	      size_t *ret_count)
{
	struct scan s = { .each = each, .arg = arg };
	size_t have = 0;
	char *line, *nl;
	ssize_t got;
	int fd, err = 0;

	fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (!err) {
		got = sys_read(fd, buf + have, size - 1 - have);
		if (got <= 0) {
			err = got < 0 ? -errno : 0;
			break;
		}
		have += (size_t)got;
		buf[have] = '\0';
		for (line = buf; !err && (nl = strchr(line, '\n')); line = nl + 1) {
			*nl = '\0';
			err = take_line(&s, line);
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == size - 1) /* no line is that long */
			err = -EPROTO;
	}
	sys_close(fd);
	if (!err)
		err = flush(&s);
	if (ret_count)
		*ret_count = s.count;
	return err;
}
