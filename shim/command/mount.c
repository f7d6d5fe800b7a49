/* SPDX-License-Identifier: MIT */
#include "command/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"

/* mountinfo writes space, tab, newline and backslash as \NNN. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] && text[2] && text[3]) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] -
				       '0');
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

static int look_up(uint64_t id, struct mount *m)
{
	cleanup_free char *line = NULL;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	int err = -ENOENT, type;
	unsigned long seen;
	size_t room = 0;
	char *dash;

	if (!f)
		return -errno;
	while (err && getline(&line, &room, f) >= 0) {
		if (sscanf(line, "%lu %*u %u:%u %*s %4095s", &seen, &m->major, &m->minor,
			   m->point) != 4 ||
		    seen != id)
			continue;
		dash = strstr(line, " - ");
		type = dash ? sscanf(dash, " - %63s", m->type) : 0;
		if (type != 1)
			snprintf(m->type, sizeof(m->type), "?");
		unescape(m->point);
		err = 0;
	}
	fclose(f);
	return err;
}

static int identify(const char *path, struct mount *m, mode_t *ret_mode)
{
	struct statx sx;

	if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_MNT_ID, &sx) < 0)
		return -errno;
	m->key.dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
	m->key.ino = sx.stx_ino;
	*ret_mode = sx.stx_mode;
	return sx.stx_mask & STATX_MNT_ID ? look_up(sx.stx_mnt_id, m) : -ENOENT;
}

int mount_find(const char *path, bool files, struct mount *ret)
{
	mode_t mode;
	int err;

	memset(ret, 0, sizeof(*ret));
	err = identify(path, ret, &mode);
	ret->file = !files && !err && S_ISREG(mode);
	if (!err && !S_ISREG(mode) && !S_ISDIR(mode))
		return -ENOTDIR;
	return err;
}

bool mount_has(const struct mount *m, struct inode_key key, const char *name)
{
	struct mount other;
	mode_t mode;

	if (m->file)
		return !inode_key_cmp(m->key, key);
	if (m->key.dev == key.dev)
		return true;
	memset(&other, 0, sizeof(other));
	return *name && identify(name, &other, &mode) == 0 && !inode_key_cmp(other.key, key) &&
	       other.major == m->major && other.minor == m->minor;
}
