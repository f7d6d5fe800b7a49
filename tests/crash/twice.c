// SPDX-License-Identifier: MIT
/*
 * twice SOCKET FILE
 *
 * A client of the keeper whose COMMIT is refused, as long as there is a file $IN_FLIGHT (see
 * tests/double/inflight.c), and who asks again. Says "in force", and stays until the end of its
 * input.
 */
#include "client.h"

int main(int argc, char **argv)
{
	const char *in_flight = getenv("IN_FLIGHT");
	int got[PROTO_FDS] = { -1, -1, -1 }, sock, err;
	struct client_file file;
	uint64_t id;

	if (argc != 3 || !in_flight)
		return 2;
	client_must(client_open(&file, argv[2]), argv[2]);
	sock = client_must_become(argv[1], 1, 60000, NULL);
	client_must(client_take(sock, MSG_STAGE, &file, &id, got), "STAGE");
	err = client_put_in_force(sock, &file, id, got[0]);
	client_must(err == -EMFILE || err == -ETOOMANYREFS ? 0 : EINVAL, "the first COMMIT");
	client_must(unlink(in_flight) ? errno : 0, in_flight);
	client_must(client_say(sock, MSG_COMMIT, &file, id), "the second COMMIT");
	puts("in force");
	fflush(stdout);
	(void)getchar();
	return 0;
}
