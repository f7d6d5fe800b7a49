// SPDX-License-Identifier: MIT
/* Preloaded to a keeper: as long as there is a file $IN_FLIGHT its user has too many
 * descriptors in flight for the three that go to the guardian with a segment. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	static ssize_t (*real)(int, const struct msghdr *, int);
	const struct cmsghdr *c = m->msg_controllen ? CMSG_FIRSTHDR(m) : NULL;
	const char *file = getenv("IN_FLIGHT");

	if (!real)
		real = (ssize_t(*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	if (c && c->cmsg_len == CMSG_LEN(3 * sizeof(int)) && file && access(file, F_OK) == 0) {
		errno = ETOOMANYREFS;
		return -1;
	}
	return real(fd, m, flags);
}
