// SPDX-License-Identifier: MIT
/*
 * superseded SOCKET FILE FILLER...
 *
 * Two clients of the keeper, and the memory of a segment that could not be written: one client
 * stages FILE, which is on a full disk, stores A, and the worker dies when it has sealed the
 * memory. The other one joins, gets other memory with the same content, stores B, and has that
 * confirmed when the FILLERs are gone. Then the first one comes back with its sealed memory and
 * hands it in. Exit status 0 if FILE still has what was confirmed.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "common/proto.h"
#include "testlib.h"

#define SIZE (64 * KIB)

static const char *keeper;
static int file;
static struct inode_key key;

static void must(int err, const char *what)
{
	if (!err)
		return;
	printf("%s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

/* The keeper's own functions have sanitizers in them when it has. */
static int send_to(int sock, struct msg *m, const int *fds, size_t n)
{
	union {
		char buf[CMSG_SPACE(PROTO_FDS * sizeof(int))];
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
	return sendmsg(sock, &h, MSG_NOSIGNAL) == (ssize_t)sizeof(*m) ? 0 : ECONNRESET;
}

static int receive(int sock, struct msg *m, int *fds)
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
		return ECONNRESET;
	c = CMSG_FIRSTHDR(&h);
	if (c)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return 0;
}

static void prepare(struct msg *m, enum msg_type type)
{
	memset(m, 0, sizeof(*m));
	m->magic = PROTO_MAGIC;
	m->version = PROTO_VERSION;
	m->type = (uint16_t)type;
	m->key = key;
	m->len = SIZE;
}

/* A new worker takes a moment. */
static int become(uint64_t client, pid_t *ret_worker)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, none[PROTO_FDS];
	struct msg m;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", keeper);
	for (int tries = 0; tries < 1000; tries++, usleep(20000)) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		prepare(&m, MSG_HELLO);
		m.arg[0] = 60000;
		m.arg[1] = UINT64_MAX;
		m.arg[2] = (uint64_t)getpid();
		m.arg[3] = client;
		m.len = 4096;
		m.flags = CLIENT_UNFILTERED;
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
		    !send_to(fd, &m, NULL, 0) && !receive(fd, &m, none) && !m.error) {
			*ret_worker = (pid_t)m.arg[0];
			return fd;
		}
		close(fd);
	}
	must(ETIMEDOUT, "HELLO");
	return -1;
}

static int ask(int sock, struct msg *m, const int *fds, size_t n, int *got)
{
	int none[PROTO_FDS], err;

	err = send_to(sock, m, fds, n);
	if (!err)
		err = receive(sock, m, got ? got : none);
	return err ? err : m->error;
}

static void put(int memfd, unsigned seed)
{
	static unsigned char content[SIZE];

	fill(content, SIZE, 0, seed);
	must(pwrite(memfd, content, SIZE, 0) == SIZE ? 0 : errno, "store");
}

/* Staged, and then sealed by a worker that dies over it. */
static void leave_sealed(const char *name, int ret_fds[PROTO_FDS])
{
	pid_t worker;
	const int sock = become(1, &worker);
	struct msg m;
	uint64_t id;

	prepare(&m, MSG_STAGE);
	snprintf(m.text, sizeof(m.text), "%s", name);
	must(ask(sock, &m, &file, 1, ret_fds), "STAGE");
	id = m.id;
	prepare(&m, MSG_CLEAN);
	m.id = id;
	must(ask(sock, &m, NULL, 0, NULL), "CLEAN");
	prepare(&m, MSG_COMMIT);
	m.id = id;
	m.arg[0] = 2000;
	must(ask(sock, &m, NULL, 0, NULL), "COMMIT");
	put(ret_fds[0], OLD);
	must(fcntl(ret_fds[0], F_ADD_SEALS, F_SEAL_WRITE) ? errno : 0, "seal");
	kill(worker, SIGKILL);
	close(sock);
}

/* Joining would be using it. */
static bool nothing_staged(void *arg)
{
	char command[5000];

	snprintf(command, sizeof(command), "\"$BUILD\"/pinstage status | grep -qF '%s'",
		 (const char *)arg);
	return system(command) != 0;
}

static void store_and_confirm(char **fillers)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	pid_t worker;
	const int sock = become(2, &worker);
	struct msg m;

	prepare(&m, MSG_JOIN);
	must(ask(sock, &m, &file, 1, fds), "JOIN");
	put(fds[0], NEW);
	while (*fillers)
		must(unlink(*fillers++) ? errno : 0, "unlink");
	must(syncfs(file) ? errno : 0, "syncfs");
	prepare(&m, MSG_SYNC);
	m.flags = SYNC_DURABLE;
	must(ask(sock, &m, NULL, 0, NULL), "SYNC");
	close(sock);
}

static void hand_in(const int fds[PROTO_FDS])
{
	const int all[] = { file, fds[0], fds[1] };
	pid_t worker;
	const int sock = become(1, &worker);
	struct msg m;
	uint64_t id;

	prepare(&m, MSG_ATTACH);
	must(ask(sock, &m, all, ARRAY_SIZE(all), NULL), "ATTACH");
	id = m.id;
	prepare(&m, MSG_RETIRE);
	m.id = id;
	must(ask(sock, &m, NULL, 0, NULL), "RETIRE");
	close(sock);
}

int main(int argc, char **argv)
{
	static unsigned char content[SIZE];
	int fds[PROTO_FDS] = { -1, -1, -1 };
	struct stat st;

	if (argc < 3)
		return 2;
	keeper = argv[1];
	file = open(argv[2], O_RDWR | O_CLOEXEC);
	must(file < 0 || fstat(file, &st) < 0 ? errno : 0, argv[2]);
	key = (struct inode_key){ st.st_dev, st.st_ino };
	leave_sealed(argv[2], fds);
	store_and_confirm(argv + 3);
	must(poll_until(nothing_staged, argv[2], 20000) ? 0 : EBUSY, "still staged");
	hand_in(fds);
	must(pread(file, content, SIZE, 0) == SIZE ? 0 : errno, "read");
	if (differs(content, SIZE, 0, NEW) >= 0) {
		puts("what had been confirmed is not in the file any more");
		return 1;
	}
	return 0;
}
