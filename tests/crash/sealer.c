// SPDX-License-Identifier: MIT
/*
 * sealer SOCKET FILE
 *
 * A client of the keeper that seals the seals of the memory it got for FILE, so that this can
 * never be sealed against writing, and ends. A child that is no client still shows the memory,
 * stores there after some time, once its father is long gone, and ends. Exit status 0 when the
 * father does.
 */
#include "client.h"

int main(int argc, char **argv)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, sock;
	struct client_file file;
	unsigned char *map;
	uint64_t id;

	if (argc != 3)
		return 2;
	client_must(client_open(&file, argv[2]), argv[2]);
	sock = client_must_become(argv[1], 1, 500, NULL);
	client_must(client_take(sock, MSG_STAGE, &file, &id, fds), "STAGE");
	client_must(client_put_in_force(sock, &file, id, fds[0]), "COMMIT");
	map = mmap(NULL, file.size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	client_must(map == MAP_FAILED ? errno : 0, "mmap");
	client_must(fcntl(fds[0], F_ADD_SEALS, F_SEAL_SEAL) < 0 ? errno : 0, "F_SEAL_SEAL");
	if (fork() == 0) {
		close(sock);
		sleep(20);
		fill(map, file.size, 0, NEW);
		_exit(0);
	}
	return 0;
}
