/* SPDX-License-Identifier: MIT */
/* links: shim/common/proto.c shim/common/sys.c */
#include "unit.h"

#include <sys/socket.h>

#include "common/proto.h"

/* Two ends of a conversation, and how many descriptors there were with them. */
struct talk {
	int a, b;
	unsigned fds;
};

static int open_talk(void **state)
{
	static struct talk t;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	t = (struct talk){ pair[0], pair[1], open_fds() };
	*state = &t;
	return 0;
}

static int close_talk(void **state)
{
	struct talk *t = *state;

	close(t->a);
	close(t->b);
	return 0;
}

/* Sends what no msg_send() would. */
static void send_raw(int sock, const void *data, size_t len, size_t nfds)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	char control[CMSG_SPACE(64 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[64];

	for (size_t i = 0; i < nfds; i++)
		fds[i] = STDIN_FILENO;
	if (nfds) {
		struct cmsghdr *c;

		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &h, 0), (ssize_t)len);
}

static void assert_same_file(int a, int b)
{
	struct stat x, y;

	assert_int_equal(fstat(a, &x), 0);
	assert_int_equal(fstat(b, &y), 0);
	assert_int_equal(x.st_ino, y.st_ino);
	assert_int_equal(x.st_dev, y.st_dev);
}

static void init__everything_else_zero(void **state)
{
	struct msg m, want;

	(void)state;
	memset(&m, 0xff, sizeof(m));
	memset(&want, 0, sizeof(want));
	want.magic = PROTO_MAGIC;
	want.version = PROTO_VERSION;
	want.type = MSG_STAGE;
	msg_init(&m, MSG_STAGE);
	assert_memory_equal(&m, &want, sizeof(m));
}

static void roundtrip__with_each_number_of_fds(void **state)
{
	struct talk *t = *state;
	int file[PROTO_ASKS], got[PROTO_ASKS];
	struct msg m, r;

	for (size_t i = 0; i < PROTO_ASKS; i++)
		file[i] = unnamed_file();
	for (size_t n = 0; n <= PROTO_ASKS; n++) {
		msg_init(&m, MSG_SYNC);
		m.off = 4096 * n;
		m.len = UINT64_MAX;
		m.error = -ENOSPC;
		strcpy(m.text, "/data/a file");
		assert_int_equal(msg_send(t->a, &m, n ? file : NULL, n), 0);
		assert_int_equal(msg_recv(t->b, &r, got, PROTO_ASKS), 0);
		assert_memory_equal(&r, &m, sizeof(m));
		for (size_t i = 0; i < PROTO_ASKS; i++) {
			if (i >= n) {
				assert_int_equal(got[i], -1);
				continue;
			}
			assert_same_file(got[i], file[i]);
			assert_int_not_equal(got[i], file[i]);
			assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
			close(got[i]);
		}
	}
	for (size_t i = 0; i < PROTO_ASKS; i++)
		close(file[i]);
	assert_int_equal(open_fds(), t->fds);
}

static void send__too_many_fds(void **state)
{
	struct talk *t = *state;
	const int fd[PROTO_ASKS + 1] = { 0 };
	struct msg m;

	msg_init(&m, MSG_STAGE);
	assert_int_equal(msg_send(t->a, &m, fd, PROTO_ASKS + 1), -EINVAL);
	fcntl(t->b, F_SETFL, O_NONBLOCK);
	assert_int_equal(msg_recv(t->b, &m, NULL, 0), -EAGAIN);
}

static void send__bad_fd(void **state)
{
	struct talk *t = *state;
	const int fd = -1;
	struct msg m;

	msg_init(&m, MSG_STAGE);
	assert_int_equal(msg_send(t->a, &m, &fd, 1), -EBADF);
	assert_int_equal(msg_send(-1, &m, NULL, 0), -EBADF);
}

/* An error, and no signal. */
static void send__nobody_there(void **state)
{
	struct talk *t = *state;
	struct msg m;

	close(t->b);
	t->b = -1;
	msg_init(&m, MSG_STAGE);
	assert_int_equal(msg_send(t->a, &m, NULL, 0), -EPIPE);
}

static void recv__end_of_conversation(void **state)
{
	struct talk *t = *state;
	int fd = 7;
	struct msg m;

	close(t->a);
	t->a = -1;
	assert_int_equal(msg_recv(t->b, &m, &fd, 1), -ECONNRESET);
	assert_int_equal(fd, -1);
	assert_int_equal(msg_recv(-1, &m, NULL, 0), -EBADF);
}

static void recv__closes_fds_not_asked_for(void **state)
{
	struct talk *t = *state;
	const int fd[PROTO_ASKS] = { 0, 0, 0 };
	int got[PROTO_ASKS];
	struct msg m;

	for (size_t n = 0; n <= PROTO_ASKS; n++) {
		msg_init(&m, MSG_STAGE);
		assert_int_equal(msg_send(t->a, &m, fd, PROTO_ASKS), 0);
		assert_int_equal(msg_recv(t->b, &m, got, n), 0);
		assert_int_equal(open_fds(), t->fds + n);
		for (size_t i = 0; i < n; i++)
			close(got[i]);
	}
	assert_int_equal(open_fds(), t->fds);
}

static void recv__too_many_fds(void **state)
{
	static const size_t count[] = { PROTO_ASKS + 1, PROTO_ASKS + 2, 64 };
	struct talk *t = *state;
	struct msg m;

	for (size_t c = 0; c < sizeof(count) / sizeof(count[0]); c++) {
		for (size_t n = 0; n <= PROTO_ASKS; n++) {
			int got[PROTO_ASKS], err;

			msg_init(&m, MSG_STAGE);
			send_raw(t->a, &m, sizeof(m), count[c]);
			err = msg_recv(t->b, &m, got, n);
			assert_true(err == 0 || err == -EPROTO);
			for (size_t i = 0; i < n; i++) {
				assert_int_equal(got[i] >= 0, err == 0);
				if (got[i] >= 0)
					close(got[i]);
			}
			assert_int_equal(open_fds(), t->fds);
		}
	}
}

static void recv__not_a_message(void **state)
{
	static const size_t len[] = { 1, 4, sizeof(struct msg) - 1, sizeof(struct msg) + 1,
				      2 * sizeof(struct msg) };
	struct msg m[2], r;
	struct talk *t = *state;

	for (size_t l = 0; l < sizeof(len) / sizeof(len[0]); l++) {
		for (size_t n = 0; n <= PROTO_ASKS; n++) {
			int got[PROTO_ASKS] = { 7, 7, 7 };

			msg_init(&m[0], MSG_STAGE);
			msg_init(&m[1], MSG_STAGE);
			send_raw(t->a, m, len[l], n);
			msg_init(&r, MSG_STAGE); /* not to be taken for what came */
			assert_int_equal(msg_recv(t->b, &r, got, PROTO_ASKS), -EPROTO);
			for (size_t i = 0; i < PROTO_ASKS; i++)
				assert_int_equal(got[i], -1);
			assert_int_equal(open_fds(), t->fds);
		}
	}
	/* and the conversation goes on */
	assert_int_equal(msg_send(t->a, &m[0], NULL, 0), 0);
	assert_int_equal(msg_recv(t->b, &r, NULL, 0), 0);
}

static void recv__wrong_magic(void **state)
{
	struct talk *t = *state;
	int got[PROTO_ASKS];
	struct msg m;

	msg_init(&m, MSG_STAGE);
	m.magic = __builtin_bswap32(PROTO_MAGIC);
	send_raw(t->a, &m, sizeof(m), 2);
	assert_int_equal(msg_recv(t->b, &m, got, PROTO_ASKS), -EPROTO);
	assert_int_equal(got[0], -1);
	assert_int_equal(open_fds(), t->fds);
}

/* Nothing of a message but descriptors: it looks like the end, and they may not pile up. */
static void recv__empty_with_fds(void **state)
{
	struct talk *t = *state;
	int got[PROTO_ASKS];
	struct msg m;

	for (size_t n = 1; n <= PROTO_ASKS; n++) {
		send_raw(t->a, "", 0, n);
		assert_true(msg_recv(t->b, &m, got, PROTO_ASKS) < 0);
		for (size_t i = 0; i < PROTO_ASKS; i++)
			assert_int_equal(got[i], -1);
		assert_int_equal(open_fds(), t->fds);
	}
}

/* The version is for those to judge who know what they can do about it. */
static void recv__other_version(void **state)
{
	struct talk *t = *state;
	struct msg m;

	msg_init(&m, MSG_HELLO);
	m.version = PROTO_VERSION + 1;
	assert_int_equal(msg_send(t->a, &m, NULL, 0), 0);
	assert_int_equal(msg_recv(t->b, &m, NULL, 0), 0);
	assert_int_equal(m.version, PROTO_VERSION + 1);
}

static void recv__text_without_end(void **state)
{
	struct talk *t = *state;
	struct msg m;

	msg_init(&m, MSG_STAGE);
	memset(m.text, 'x', sizeof(m.text));
	assert_int_equal(msg_send(t->a, &m, NULL, 0), 0);
	assert_int_equal(msg_recv(t->b, &m, NULL, 0), 0);
	assert_int_equal(strlen(m.text), sizeof(m.text) - 1);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(init__everything_else_zero),
	cmocka_unit_test_setup_teardown(roundtrip__with_each_number_of_fds, open_talk,
					close_talk),
	cmocka_unit_test_setup_teardown(send__too_many_fds, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(send__bad_fd, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(send__nobody_there, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__end_of_conversation, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__closes_fds_not_asked_for, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__too_many_fds, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__not_a_message, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__wrong_magic, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__empty_with_fds, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__other_version, open_talk, close_talk),
	cmocka_unit_test_setup_teardown(recv__text_without_end, open_talk, close_talk),
};

UNIT_MAIN(tests, NULL, NULL)
