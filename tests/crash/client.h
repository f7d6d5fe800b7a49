/* SPDX-License-Identifier: MIT */
/*
 * A client of the keeper that speaks for itself and says what the library never would. The
 * keeper's own functions are not used: they have sanitizers in them when it has.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <sys/socket.h>
#include <sys/un.h>

#include "common/proto.h"
#include "testlib.h"

static inline int client_send(int sock, struct msg *m, const int *fds, size_t n)
{
	union {
		char buf[CMSG_SPACE(PROTO_ASKS * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (n) {
		h.msg_control = control.buf;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(sock, &h, MSG_NOSIGNAL) == (ssize_t)sizeof(*m) ? 0 : -ECONNRESET;
}

static inline int client_receive(int sock, struct msg *m, int *fds)
{
	union {
		char buf[CMSG_SPACE(PROTO_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c;

	if (recvmsg(sock, &h, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*m))
		return -ECONNRESET;
	c = CMSG_FIRSTHDR(&h);
	if (c)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return 0;
}

struct client_file {
	const char *name;
	int fd;
	struct inode_key key;
	uint64_t off; /* of what is staged, size bytes */
	size_t size;
};

/* errno */
static inline int client_open(struct client_file *f, const char *name)
{
	struct stat st;

	f->name = name;
	f->fd = open(name, O_RDWR | O_CLOEXEC);
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		return errno;
	f->key = (struct inode_key){ st.st_dev, st.st_ino };
	f->off = 0;
	f->size = (size_t)st.st_size;
	return 0;
}

/* All of the file, unless f says which part, and the segment that is. */
static inline void client_prepare(struct msg *m, enum msg_type type,
				  const struct client_file *f, uint64_t id)
{
	memset(m, 0, sizeof(*m));
	m->magic = PROTO_MAGIC;
	m->version = PROTO_VERSION;
	m->type = (uint16_t)type;
	m->key = f->key;
	m->off = f->off;
	m->len = f->size;
	m->id = id;
	snprintf(m->text, sizeof(m->text), "%s", f->name);
}

/* Asks and comes to the answer, 0 or -errno. Descriptors that come with it are in `got`. */
static inline int client_ask(int sock, struct msg *m, const int *fds, size_t n, int *got)
{
	int unwanted[PROTO_FDS];
	int err = client_send(sock, m, fds, n);

	if (!err)
		err = client_receive(sock, m, got ? got : unwanted);
	return err ? err : m->error;
}

/* What takes no more words. */
static inline int client_say(int sock, enum msg_type type, const struct client_file *f,
			     uint64_t id)
{
	struct msg m;

	client_prepare(&m, type, f, id);
	if (type == MSG_COMMIT)
		m.arg[0] = 2000;
	return client_ask(sock, &m, NULL, 0, NULL);
}

/* A conversation as the client of that number, or -1. A new worker takes a moment. */
static inline int client_become(const char *keeper, uint64_t number, uint64_t interval_ms,
				pid_t *ret_worker)
{
	const struct client_file none = { .name = "", .size = 4096 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct msg m;
	int sock;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", keeper);
	for (int tries = 0; tries < 1000; tries++, usleep(20000)) {
		sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		client_prepare(&m, MSG_HELLO, &none, 0);
		m.arg[0] = interval_ms;
		m.arg[1] = UINT64_MAX;
		m.arg[2] = (uint64_t)getpid();
		m.arg[3] = number;
		m.flags = CLIENT_UNFILTERED;
		if (connect(sock, (struct sockaddr *)&a, sizeof(a)) == 0 &&
		    !client_ask(sock, &m, NULL, 0, NULL)) {
			*ret_worker = (pid_t)m.arg[0];
			return sock;
		}
		close(sock);
	}
	return -1;
}

/* For a test that is over where a step of it fails: errno or -errno. */
static inline void client_must(int err, const char *what)
{
	if (!err)
		return;
	printf("%s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

/* ret_worker may be NULL. */
static inline int client_must_become(const char *keeper, uint64_t number, uint64_t interval_ms,
				     pid_t *ret_worker)
{
	pid_t worker;
	const int sock =
		client_become(keeper, number, interval_ms, ret_worker ? ret_worker : &worker);

	client_must(sock < 0 ? ETIMEDOUT : 0, "HELLO");
	return sock;
}

/* STAGE, or JOIN or ATTACH: `got` has memory and ledger, or for ATTACH goes along; the third is
 * then what the memory is a copy of, or -1. */
static inline int client_take(int sock, enum msg_type type, const struct client_file *f,
			      uint64_t *ret_id, int got[PROTO_FDS])
{
	const int fds[] = { f->fd, got[0], got[1], got[2] };
	const bool attach = type == MSG_ATTACH;
	const size_t all = got[2] >= 0 ? 4 : 3;
	struct msg m;
	int err;

	client_prepare(&m, type, f, 0);
	err = client_ask(sock, &m, fds, attach ? all : 1, attach ? NULL : got);
	*ret_id = m.id;
	return err;
}

/* What STAGE gave becomes what the file holds, and comes into force. */
static inline int client_put_in_force(int sock, const struct client_file *f, uint64_t id,
				      int memory)
{
	char page[4096];
	ssize_t n = 0;
	int err;

	err = client_say(sock, MSG_CLEAN, f, id);
	for (size_t at = 0; !err && at < f->size; at += (size_t)n) {
		n = pread(f->fd, page, sizeof(page), (off_t)(f->off + at));
		if (n <= 0 || pwrite(memory, page, (size_t)n, (off_t)at) != n)
			return -EIO;
	}
	return err ? err : client_say(sock, MSG_COMMIT, f, id);
}

/* As the library makes one where no keeper is to be had; -1 and errno. */
static inline int client_copy_of(int memory, size_t size)
{
	const int copy = memfd_create("pinstage:copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char page[4096];

	if (copy < 0 || ftruncate(copy, (off_t)size) < 0 ||
	    fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -1;
	for (size_t at = 0; at < size; at += sizeof(page))
		if (pread(memory, page, sizeof(page), (off_t)at) != (ssize_t)sizeof(page) ||
		    pwrite(copy, page, sizeof(page), (off_t)at) != (ssize_t)sizeof(page))
			return -1;
	return copy;
}

#endif
