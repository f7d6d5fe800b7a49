// SPDX-License-Identifier: MIT
/*
 * fuzz SOCKET FILE SECONDS
 *
 * A client of the keeper that has gone mad: messages of every type with random and with nearly
 * right contents, too short and too long, with descriptors of every kind, without waiting for
 * answers, on many conversations, some of which end at any moment. FILE is one that it may
 * write. Exit status 0 if the keeper still answers at the end.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/proto.h"
#include "testlib.h"

#define CONVERSATIONS 16

static unsigned seed;
static uint64_t ids[64]; /* that answers had */
static unsigned long sent, answered;

static unsigned dice(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		perror("connect");
		exit(1);
	}
	return fd;
}

static uint64_t number(void)
{
	static const uint64_t odd[] = { 0,	    1,	       4096,	   8192,
					262144,	    INT64_MAX, UINT64_MAX, UINT64_MAX - 4095,
					1ull << 40, 1ull << 62 };

	if (dice(8) == 0)
		return (uint64_t)rand_r(&seed) << 32 | (uint64_t)rand_r(&seed);
	return odd[dice(ARRAY_SIZE(odd))];
}

static int memory(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)!ftruncate(fd, (off_t)(dice(3) * 4096 + dice(2) * 65536));
	if (dice(2))
		fcntl(fd, F_ADD_SEALS, dice(64));
	return fd;
}

static int descriptor(const char *file)
{
	int pair[2];

	switch (dice(8)) {
	case 0:
		return memory();
	case 1:
		return eventfd(0, EFD_CLOEXEC);
	case 2:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return -1;
		close(pair[0]);
		return pair[1];
	case 3:
		return open("/", O_RDONLY | O_CLOEXEC);
	case 4:
		return open(file, O_RDONLY | O_CLOEXEC);
	case 5:
		return open(file, O_PATH | O_CLOEXEC);
	default:
		return open(file, O_RDWR | O_CLOEXEC);
	}
}

static void compose(struct msg *m, const char *file)
{
	struct stat st = { 0 };

	memset(m, 0, sizeof(*m));
	m->magic = dice(50) ? PROTO_MAGIC : (uint32_t)rand_r(&seed);
	m->version = dice(50) ? PROTO_VERSION : (uint16_t)dice(65536);
	m->type = (uint16_t)dice(MSG_TYPE_MAX + 2);
	stat(file, &st);
	m->key = (struct inode_key){ st.st_dev, st.st_ino };
	if (dice(8) == 0)
		m->key.ino = number();
	m->id = dice(4) ? ids[dice(ARRAY_SIZE(ids))] : number();
	m->off = number();
	m->len = number();
	m->run = number();
	m->flags = (uint32_t)rand_r(&seed);
	for (size_t i = 0; i < ARRAY_SIZE(m->arg); i++)
		m->arg[i] = number();
	memset(m->text, dice(256), sizeof(m->text));
	if (m->type == MSG_WAIT)
		m->arg[0] = dice(100);
	if (m->type == MSG_CLEAN || m->type == MSG_COMMIT)
		m->arg[0] = dice(10);
}

static void transmit(int sock, const struct msg *m, const char *file)
{
	char bytes[sizeof(*m) + 64] = { 0 };
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { bytes, dice(20) ? sizeof(*m) : dice(sizeof(bytes)) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t n = dice(3) ? dice(4) : dice(8);
	struct cmsghdr *c;
	int fds[8];

	memcpy(bytes, m, sizeof(*m));
	for (size_t i = 0; i < n; i++) {
		fds[i] = descriptor(file);
		if (fds[i] < 0)
			n = i;
	}
	if (n) {
		h.msg_control = control.buf;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		if (!c)
			abort();
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	sent += sendmsg(sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* Descriptors that come along are the kernel's to drop. */
static void listen_to(int sock)
{
	struct msg m;

	while (recv(sock, &m, sizeof(m), MSG_DONTWAIT) == (ssize_t)sizeof(m)) {
		answered++;
		if (m.id)
			ids[dice(ARRAY_SIZE(ids))] = m.id;
	}
}

static int say_hello(int sock)
{
	struct msg m = { .magic = PROTO_MAGIC, .version = PROTO_VERSION, .type = MSG_HELLO };

	m.arg[0] = 5000;
	m.arg[3] = (uint64_t)rand_r(&seed) << 32 | (uint64_t)rand_r(&seed);
	return send(sock, &m, sizeof(m), MSG_NOSIGNAL) == (ssize_t)sizeof(m) &&
			       recv(sock, &m, sizeof(m), 0) == (ssize_t)sizeof(m)
		       ? 0
		       : -1;
}

int main(int argc, char **argv)
{
	int sock[CONVERSATIONS], i;
	struct msg m;
	uint64_t until;

	if (argc != 4)
		return 2;
	seed = (unsigned)now_ms();
	printf("seed %u\n", seed);
	for (i = 0; i < CONVERSATIONS; i++)
		sock[i] = -1;
	for (until = now_ms() + strtoul(argv[3], NULL, 10) * 1000; now_ms() < until;) {
		i = (int)dice(CONVERSATIONS);
		if (sock[i] < 0 || dice(200) == 0) {
			if (sock[i] >= 0)
				close(sock[i]);
			sock[i] = dial(argv[1]);
			if (dice(20))
				(void)say_hello(sock[i]);
		}
		compose(&m, argv[2]);
		transmit(sock[i], &m, argv[2]);
		if (dice(4))
			listen_to(sock[i]);
	}
	i = dial(argv[1]);
	if (say_hello(i)) {
		puts("the keeper does not answer any more");
		return 1;
	}
	printf("%lu messages sent, %lu answers\n", sent, answered);
	return 0;
}
