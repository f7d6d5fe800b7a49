/* SPDX-License-Identifier: MIT */
#include "keeper/fate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define FIRST_PID_NAMESPACE 0xeffffffcUL /* its inode number is fixed */

/* The hierarchies by which processes are ended: the unified one, and the one that systemd has
 * where that is not in use. */
static const char *const hierarchy[] = { "0::", ":name=systemd:" };

/* The path in the text's line of that hierarchy; its length is 0 if there is none, or the root.
 */
static size_t path_in(const char *text, const char *which, const char **ret)
{
	const char *line, *end, *at;
	size_t len;

	for (line = text; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		at = strstr(line, which);
		if (!at || at > end || (which[0] == '0' && at != line))
			continue;
		*ret = at + strlen(which);
		len = (size_t)(end - *ret);
		return len == 1 ? 0 : len;
	}
	return 0;
}

bool fate_same_group(const char *ours, const char *theirs)
{
	const char *our, *their;
	size_t our_len, their_len;

	for (size_t i = 0; i < sizeof(hierarchy) / sizeof(hierarchy[0]); i++) {
		our_len = path_in(ours, hierarchy[i], &our);
		their_len = path_in(theirs, hierarchy[i], &their);
		if (their_len && our_len >= their_len && !memcmp(our, their, their_len) &&
		    (our_len == their_len || our[their_len] == '/'))
			return true;
	}
	return false;
}

static bool read_group(const char *path, char *text, size_t size)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n < 0)
		return false;
	text[n] = '\0';
	return true;
}

static bool same_pid_namespace(pid_t pid)
{
	char path[64];
	struct stat ours, theirs;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	if (stat("/proc/self/ns/pid", &ours) < 0)
		return true;
	if (ours.st_ino == FIRST_PID_NAMESPACE)
		return false; /* it ends with the machine */
	/* One below ours ends without us. That we see the process at all says that it is in
	 * ours, or below. */
	return stat(path, &theirs) < 0 || theirs.st_ino == ours.st_ino;
}

bool fate_shared_with(pid_t pid)
{
	char ours[2 * PATH_MAX], theirs[2 * PATH_MAX], path[64];

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	return same_pid_namespace(pid) ||
	       !read_group("/proc/self/cgroup", ours, sizeof(ours)) ||
	       !read_group(path, theirs, sizeof(theirs)) || fate_same_group(ours, theirs);
}
