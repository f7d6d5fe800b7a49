/* SPDX-License-Identifier: MIT */
#include "command/conversation.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "command/command.h"
#include "common/cleanup.h"
#include "common/rendezvous.h"

#define READY_FD 3
#define TRIES	 10

static int receive(int sock, struct msg *m, int timeout_ms, int *fds)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	int n;

	do {
		n = poll(&p, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	return msg_recv(sock, m, fds, fds ? PROTO_FDS : 0);
}

int conversation_answer(int sock, struct msg *m, int timeout_ms)
{
	return receive(sock, m, timeout_ms, NULL);
}

int conversation_ask_for(int sock, struct msg *m, int timeout_ms, int *fds)
{
	int err = msg_send(sock, m, NULL, 0);

	return err ? err : receive(sock, m, timeout_ms, fds);
}

int conversation_ask(int sock, struct msg *m, int timeout_ms)
{
	int err = msg_send(sock, m, NULL, 0);

	return err ? err : conversation_answer(sock, m, timeout_ms);
}

/* Without a run: that would only mark what we ourselves stage. */
static int hello(int sock, enum reason *ret_why, uint64_t *ret_pid)
{
	struct msg m;
	int err;

	msg_init(&m, MSG_HELLO);
	m.arg[0] = 5000;
	m.arg[2] = (uint64_t)getpid();
	if (getrandom(&m.arg[3], sizeof(m.arg[3]), 0) != sizeof(m.arg[3]))
		return -EAGAIN;
	*ret_why = REASON_KEEPER_LOST;
	err = conversation_ask(sock, &m, ANSWER_MS);
	if (err)
		return err;
	*ret_pid = m.arg[0];
	*ret_why = REASON_PROTOCOL;
	return m.error || m.version != PROTO_VERSION ? -EPROTO : 0;
}

/* One try. -ECONNREFUSED, -ENOENT, -ECONNRESET or -EPIPE: no keeper, or one that is just
 * ending. */
static int dial(int dir, uid_t uid, enum reason *ret_why, uint64_t *ret_pid)
{
	cleanup_fd int fd = -1;
	int err;

	*ret_why = REASON_RENDEZVOUS;
	fd = rendezvous_connect_within(dir, uid, ANSWER_MS / 1000);
	err = fd < 0 ? fd : hello(fd, ret_why, ret_pid);
	return err ? err : steal_fd(&fd);
}

static int nobody(int err)
{
	return err == -ECONNREFUSED || err == -ENOENT || err == -ECONNRESET || err == -EPIPE;
}

int conversation_open_for(uid_t uid, enum reason *ret_why, uint64_t *ret_pid)
{
	cleanup_fd int dir = -1;
	int fd;

	*ret_why = REASON_RENDEZVOUS;
	dir = rendezvous_open(uid, 0);
	if (dir < 0)
		return dir;
	fd = dial(dir, uid, ret_why, ret_pid);
	return nobody(fd) ? -ENOENT : fd;
}

int conversation_open(enum reason *ret_why)
{
	uint64_t pid;

	return conversation_open_for(geteuid(), ret_why, &pid);
}

/* In the grandchild. Descriptor 2 may be one that main() put there. */
static void become_keeper(const char *program, int ready)
{
	char *const argv[] = { (char *)(uintptr_t) "pinstage-keeper",
			       (char *)(uintptr_t) "--ready-fd=3", NULL };
	char *const envp[] = { NULL };
	int null = open("/dev/null", O_RDWR);

	setsid();
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	fcntl(STDERR_FILENO, F_SETFD, 0);
	if (ready == READY_FD)
		fcntl(ready, F_SETFD, 0);
	else
		dup2(ready, READY_FD);
	(void)close_range(READY_FD + 1, ~0U, 0);
	execve(program, argv, envp);
	_exit(127);
}

/* Twice removed, so that the keeper is not our child, nor the program's. */
static int start(const char *program)
{
	struct pollfd p = { .events = POLLIN };
	int pipefd[2], n;
	pid_t child;
	char byte;

	if (access(program, X_OK) < 0 || pipe2(pipefd, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		if (fork() == 0)
			become_keeper(program, pipefd[1]);
		_exit(0);
	}
	close(pipefd[1]);
	p.fd = pipefd[0];
	n = child < 0 ? -errno : poll(&p, 1, ANSWER_MS);
	/* One byte, or the end if it made way for another: either way somebody should listen.
	 */
	if (n > 0)
		(void)!read(pipefd[0], &byte, 1);
	close(pipefd[0]);
	if (child > 0)
		waitpid(child, NULL, 0);
	return n < 0 ? n : n == 0 ? -ETIMEDOUT : 0;
}

int conversation_open_or_start(const char *keeper, enum reason *ret_why)
{
	cleanup_fd int dir = -1;
	uint64_t pid;
	int fd, err;

	*ret_why = REASON_RENDEZVOUS;
	dir = rendezvous_open(geteuid(), 1);
	if (dir < 0)
		return dir;
	for (int i = 0; i < TRIES; i++) {
		fd = dial(dir, geteuid(), ret_why, &pid);
		if (!nobody(fd))
			return fd;
		*ret_why = REASON_NO_KEEPER;
		err = start(keeper);
		if (err)
			return err;
	}
	return -ECONNREFUSED;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int conversation_status(int sock, int (*each)(const struct msg *m, void *arg), void *arg,
			struct msg *ret_last)
{
	const uint64_t until = now_ms() + ANSWER_MS;
	uint64_t seen = 0;
	struct msg m;
	int err;

	do {
		msg_init(&m, MSG_STATUS);
		m.arg[0] = seen;
		err = conversation_ask(sock, &m, ANSWER_MS);
		for (; !err && !m.last; seen++) {
			err = now_ms() < until ? each(&m, arg) : -ETIMEDOUT;
			if (!err)
				err = conversation_answer(sock, &m, ANSWER_MS);
		}
		if (!err && m.arg[1] && now_ms() >= until)
			err = -ETIMEDOUT;
	} while (!err && m.arg[1]);
	*ret_last = m;
	return err;
}

void conversation_complain(const char *who, int err, enum reason why)
{
	complain(who, "%s: %s (%s)", reason_text(why), reason_remedy(why), strerror(-err));
}
