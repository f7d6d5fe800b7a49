/* SPDX-License-Identifier: MIT */
#include "common/rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/sys.h"

static int owned_and_closed(int fd, uid_t uid, mode_t forbidden)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != uid || (st.st_mode & forbidden))
		return -EPERM;
	return 0;
}

static int open_below(const char *parent, const char *name, uid_t uid, int create)
{
	const int flags = O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC;
	int above, fd, err;

	above = open(parent, flags);
	if (above < 0)
		return -errno;
	if (create && mkdirat(above, name, 0700) < 0 && errno != EEXIST) {
		err = -errno;
		sys_close(above);
		return err;
	}
	fd = openat(above, name, flags);
	err = -errno;
	sys_close(above);
	if (fd < 0)
		return err == -ELOOP || err == -ENOTDIR ? -EPERM : err;
	err = owned_and_closed(fd, uid, 077);
	if (err) {
		sys_close(fd);
		return err;
	}
	return fd;
}

int rendezvous_open(uid_t uid, int create)
{
	char session[64], name[64];
	int fd, ok;

	if (uid == 0)
		return open_below("/run", "pinstage", 0, create);
	snprintf(session, sizeof(session), "/run/user/%u", (unsigned)uid);
	fd = open(session, O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ok = owned_and_closed(fd, uid, 077) == 0;
		sys_close(fd);
		if (ok)
			return open_below(session, "pinstage", uid, create);
	}
	snprintf(name, sizeof(name), "pinstage-%u", (unsigned)uid);
	return open_below("/tmp", name, uid, create);
}

/* The socket's path goes through the open directory, so that nobody can exchange what lies
 * between, and so that it is short enough for sun_path. */
static void address(int dir, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/" RENDEZVOUS_SOCKET,
		 dir);
}

int rendezvous_connect(int dir, uid_t uid)
{
	return rendezvous_connect_within(dir, uid, 0);
}

int rendezvous_connect_within(int dir, uid_t uid, int seconds)
{
	const struct timeval within = { .tv_sec = seconds };
	struct sockaddr_un sun;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd, err;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	address(dir, &sun);
	if (seconds)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &within, sizeof(within));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		err = -errno;
		sys_close(fd);
		return err;
	}
	if (peer.uid != uid && peer.uid != 0) {
		sys_close(fd);
		return -EPERM;
	}
	return fd;
}

int rendezvous_listen(int dir)
{
	struct sockaddr_un sun;
	int fd, err;

	if (unlinkat(dir, RENDEZVOUS_SOCKET, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	address(dir, &sun);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(fd, 256) < 0) {
		err = -errno;
		sys_close(fd);
		return err;
	}
	return fd;
}
