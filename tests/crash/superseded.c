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
#include "client.h"

#define SIZE (64 * KIB)

static const char *keeper;
static struct client_file file;

static void must(int err, const char *what)
{
	if (!err)
		return;
	printf("%s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static int become(uint64_t number, pid_t *ret_worker)
{
	const int sock = client_become(keeper, number, 60000, ret_worker);

	must(sock < 0 ? ETIMEDOUT : 0, "HELLO");
	return sock;
}

static void put(int memfd, unsigned seed)
{
	static unsigned char content[SIZE];

	fill(content, SIZE, 0, seed);
	must(pwrite(memfd, content, SIZE, 0) == SIZE ? 0 : errno, "store");
}

/* Staged, and then sealed by a worker that dies over it. */
static void leave_sealed(int ret_fds[PROTO_FDS])
{
	pid_t worker;
	const int sock = become(1, &worker);
	uint64_t id;

	must(client_take(sock, MSG_STAGE, &file, &id, ret_fds), "STAGE");
	must(client_put_in_force(sock, &file, id, ret_fds[0]), "COMMIT");
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
	uint64_t id;

	must(client_take(sock, MSG_JOIN, &file, &id, fds), "JOIN");
	put(fds[0], NEW);
	while (*fillers)
		must(unlink(*fillers++) ? errno : 0, "unlink");
	must(syncfs(file.fd) ? errno : 0, "syncfs");
	client_prepare(&m, MSG_SYNC, &file, 0);
	m.flags = SYNC_DURABLE;
	must(client_ask(sock, &m, NULL, 0, NULL), "SYNC");
	close(sock);
}

static void hand_in(int fds[PROTO_FDS])
{
	pid_t worker;
	const int sock = become(1, &worker);
	uint64_t id;

	must(client_take(sock, MSG_ATTACH, &file, &id, fds), "ATTACH");
	must(client_say(sock, MSG_RETIRE, &file, id), "RETIRE");
	close(sock);
}

int main(int argc, char **argv)
{
	static unsigned char content[SIZE];
	int fds[PROTO_FDS] = { -1, -1, -1 };

	if (argc < 3)
		return 2;
	keeper = argv[1];
	must(client_open(&file, argv[2]), argv[2]);
	file.size = SIZE;
	leave_sealed(fds);
	store_and_confirm(argv + 3);
	must(poll_until(nothing_staged, argv[2], 20000) ? 0 : EBUSY, "still staged");
	hand_in(fds);
	must(pread(file.fd, content, SIZE, 0) == SIZE ? 0 : errno, "read");
	if (differs(content, SIZE, 0, NEW) >= 0) {
		puts("what had been confirmed is not in the file any more");
		return 1;
	}
	return 0;
}
