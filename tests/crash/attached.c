// SPDX-License-Identifier: MIT
/*
 * attached late SOCKET FILE GUARDIAN
 * attached superseded SOCKET FILE GUARDIAN FILLER...
 * attached copied SOCKET FILE GUARDIAN FILLER...
 *
 * Clients of the keeper hand in what they have when both of its processes were killed, one
 * after the other.
 *
 * late: each of two has its half of FILE. While only the first one is back, somebody writes to
 * the half of the second, which is in nobody's pass: it has to come to that one's memory.
 *
 * superseded: FILE is on a full disk; one client has memory that was sealed and could not be
 * written, and was superseded, which the other one has. When there is room that stores NEW,
 * has it confirmed, and stores again what is in the first one's memory. The first one is the
 * first to be back: what the other has confirmed then has to be in FILE.
 *
 * copied: as before, but the other client never has anything confirmed, and is gone with the
 * pair. The first one comes with a copy of its sealed memory, which is all that there is.
 *
 * Exit status 0 if that is so.
 */
#include "client.h"

#define SIZE (64 * KIB)

static const char *keeper;
static struct client_file file;

static bool is_gone(void *arg)
{
	return kill(*(pid_t *)arg, 0) < 0;
}

static void kill_pair(pid_t worker, const char *guardian)
{
	pid_t pid = atoi(guardian);

	kill(worker, SIGSTOP); /* or it starts another guardian */
	kill(pid, SIGKILL);
	kill(worker, SIGKILL);
	client_must(poll_until(is_gone, &pid, 20000) ? 0 : EBUSY, "the guardian");
	client_must(poll_until(is_gone, &worker, 20000) ? 0 : EBUSY, "the worker");
	client_must(system("\"$BUILD\"/pinstage-keeper >/dev/null 2>&1 &"), "another keeper");
}

static void put(int memfd, uint64_t off, size_t len, unsigned seed)
{
	static unsigned char content[SIZE];

	fill(content, len, 0, seed);
	client_must(pwrite(memfd, content, len, (off_t)off) == (ssize_t)len ? 0 : errno,
		    "store");
}

static void sync_file(int sock)
{
	struct msg m;

	client_prepare(&m, MSG_SYNC, &file, 0);
	m.flags = SYNC_DURABLE;
	client_must(client_ask(sock, &m, NULL, 0, NULL), "SYNC");
}

/* The n-th half of the file. */
static void prepare_half(struct msg *m, enum msg_type type, int n, uint64_t id)
{
	client_prepare(m, type, &file, id);
	m->len = SIZE / 2;
	m->off = (uint64_t)n * SIZE / 2;
}

static void stage_half(int sock, int n, int got[PROTO_FDS])
{
	static unsigned char content[SIZE / 2];
	struct msg m;
	uint64_t id;

	prepare_half(&m, MSG_STAGE, n, 0);
	client_must(client_ask(sock, &m, &file.fd, 1, got), "STAGE");
	id = m.id;
	prepare_half(&m, MSG_CLEAN, n, id);
	client_must(client_ask(sock, &m, NULL, 0, NULL), "CLEAN");
	client_must(pread(file.fd, content, SIZE / 2, n * (off_t)SIZE / 2) == SIZE / 2 ? 0
										       : EIO,
		    "read");
	client_must(pwrite(got[0], content, SIZE / 2, 0) == SIZE / 2 ? 0 : EIO, "copy");
	prepare_half(&m, MSG_COMMIT, n, id);
	m.arg[0] = 2000;
	client_must(client_ask(sock, &m, NULL, 0, NULL), "COMMIT");
}

static void attach_half(int sock, int n, const int got[PROTO_FDS])
{
	const int fds[] = { file.fd, got[0], got[1] };
	struct msg m;

	prepare_half(&m, MSG_ATTACH, n, 0);
	client_must(client_ask(sock, &m, fds, 3, NULL), "ATTACH");
}

static int late(char **argv)
{
	int first[PROTO_FDS] = { -1, -1, -1 }, second[PROTO_FDS] = { -1, -1, -1 };
	static unsigned char content[SIZE];
	pid_t worker;
	int one = client_must_become(keeper, 1, 60000, &worker),
	    two = client_must_become(keeper, 2, 60000, &worker);

	stage_half(one, 0, first);
	stage_half(two, 1, second);
	kill_pair(worker, argv[0]);
	one = client_must_become(keeper, 1, 60000, &worker);
	attach_half(one, 0, first);
	sync_file(one);
	/* As a process that has not pinstage. */
	fill(content, SIZE, 0, NEW);
	client_must(pwrite(file.fd, content, 4096, SIZE / 2) == 4096 ? 0 : errno, "write");
	sync_file(one);
	two = client_must_become(keeper, 2, 60000, &worker);
	attach_half(two, 1, second);
	sync_file(two);
	client_must(pread(second[0], content + SIZE / 2, SIZE / 2, 0) == SIZE / 2 ? 0 : EIO,
		    "memory");
	if (memcmp(content, content + SIZE / 2, 4096) != 0) {
		puts("what was written meanwhile is not in memory");
		return 1;
	}
	return 0;
}

/* Staged, and then sealed by a worker that dies over it. */
static void leave_sealed(int ret_fds[PROTO_FDS])
{
	pid_t worker;
	const int sock = client_must_become(keeper, 1, 60000, &worker);
	uint64_t id;

	client_must(client_take(sock, MSG_STAGE, &file, &id, ret_fds), "STAGE");
	client_must(client_put_in_force(sock, &file, id, ret_fds[0]), "COMMIT");
	put(ret_fds[0], 0, SIZE, OLD);
	client_must(fcntl(ret_fds[0], F_ADD_SEALS, F_SEAL_WRITE) ? errno : 0, "seal");
	kill(worker, SIGKILL);
	close(sock);
}

static void make_room(char **fillers)
{
	while (*fillers)
		client_must(unlink(*fillers++) ? errno : 0, "unlink");
	client_must(syncfs(file.fd) ? errno : 0, "syncfs");
}

/* What the program ends with. */
static int confirmed_in_file(const char *otherwise)
{
	static unsigned char content[SIZE];

	client_must(pread(file.fd, content, SIZE, 0) == SIZE ? 0 : errno, "read");
	if (differs(content, SIZE, 0, OLD) < 0)
		return 0;
	puts(otherwise);
	return 1;
}

static int superseded(char **argv)
{
	int sealed[PROTO_FDS] = { -1, -1, -1 }, last[PROTO_FDS] = { -1, -1, -1 };
	int one, two;
	pid_t worker;
	uint64_t id;

	leave_sealed(sealed);
	two = client_must_become(keeper, 2, 60000, &worker);
	client_must(client_take(two, MSG_JOIN, &file, &id, last), "JOIN");
	put(last[0], 0, SIZE, NEW);
	make_room(argv + 1);
	sync_file(two);
	put(last[0], 0, SIZE, OLD);
	kill_pair(worker, argv[0]);
	one = client_must_become(keeper, 1, 60000, &worker);
	client_must(client_take(one, MSG_ATTACH, &file, &id, sealed), "ATTACH");
	client_must(client_say(one, MSG_RETIRE, &file, id), "RETIRE");
	two = client_must_become(keeper, 2, 60000, &worker);
	client_must(client_take(two, MSG_ATTACH, &file, &id, last), "the other ATTACH");
	sync_file(two);
	return confirmed_in_file("what was confirmed is not in the file");
}

static int copy_of(int memory)
{
	const int copy = client_copy_of(memory, SIZE);

	client_must(copy < 0 ? errno : 0, "copy");
	return copy;
}

static int copied(char **argv)
{
	int sealed[PROTO_FDS] = { -1, -1, -1 }, last[PROTO_FDS] = { -1, -1, -1 };
	int one, two;
	pid_t worker;
	uint64_t id;

	leave_sealed(sealed);
	two = client_must_become(keeper, 2, 60000, &worker);
	client_must(client_take(two, MSG_JOIN, &file, &id, last), "JOIN");
	kill_pair(worker, argv[0]);
	close(two);
	close(last[0]);
	make_room(argv + 1);
	sealed[2] = sealed[0];
	sealed[0] = copy_of(sealed[2]);
	one = client_must_become(keeper, 1, 60000, &worker);
	client_must(client_take(one, MSG_ATTACH, &file, &id, sealed), "ATTACH");
	sync_file(one);
	return confirmed_in_file("what a client that lives had stored is not in the file");
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	keeper = argv[2];
	client_must(client_open(&file, argv[3]), argv[3]);
	file.size = SIZE;
	if (!strcmp(argv[1], "late"))
		return late(argv + 4);
	return strcmp(argv[1], "copied") ? superseded(argv + 4) : copied(argv + 4);
}
