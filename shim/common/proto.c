/* SPDX-License-Identifier: MIT */
#include "common/proto.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/sys.h"

void msg_init(struct msg *m, enum msg_type type)
{
	memset(m, 0, sizeof(*m));
	m->magic = PROTO_MAGIC;
	m->version = PROTO_VERSION;
	m->type = (uint16_t)type;
}

/* Whether a call that failed is to be made again: it did nothing, and ending a conversation for
 * it would cost more than waiting, for a tenth of a second in all. */
static bool again(unsigned *tries)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };

	if (errno == EINTR)
		return true;
	if ((errno != ENOMEM && errno != ENOBUFS) || ++*tries > 100)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

union fd_control {
	char buf[CMSG_SPACE(PROTO_ASKS * sizeof(int))];
	struct cmsghdr align;
};

int msg_send(int sock, const struct msg *m, const int *fds, size_t n)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)m, .iov_len = sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	union fd_control control;
	unsigned tries = 0;
	struct cmsghdr *c;
	ssize_t sent;

	if (n > PROTO_ASKS)
		return -EINVAL;
	if (n) {
		memset(&control, 0, sizeof(control));
		h.msg_control = control.buf;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	do {
		sent = sendmsg(sock, &h, MSG_NOSIGNAL);
	} while (sent < 0 && again(&tries));
	return sent < 0 ? -errno : 0;
}

static void take_fds(struct msghdr *h, int *fds, size_t n)
{
	struct cmsghdr *c;
	size_t i, got, taken = 0;
	int fd;

	for (c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < got; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (taken < n)
				fds[taken++] = fd;
			else
				sys_close(fd);
		}
	}
}

static void close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] >= 0)
			sys_close(fds[i]);
		fds[i] = -1;
	}
}

int msg_recv(int sock, struct msg *m, int *fds, size_t n)
{
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	union fd_control control;
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf) };
	unsigned tries = 0;
	ssize_t got;
	size_t i;

	for (i = 0; i < n; i++)
		fds[i] = -1;
	do {
		got = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	} while (got < 0 && again(&tries));
	if (got < 0)
		return -errno;
	take_fds(&h, fds, n);
	if (got == 0) { /* the end, or an empty message, which can carry descriptors, too */
		close_fds(fds, n);
		return -ECONNRESET;
	}
	if (got != (ssize_t)sizeof(*m) || h.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
	    m->magic != PROTO_MAGIC) {
		close_fds(fds, n);
		return -EPROTO;
	}
	m->text[sizeof(m->text) - 1] = '\0';
	return 0;
}
