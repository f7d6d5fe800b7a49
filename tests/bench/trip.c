/* SPDX-License-Identifier: MIT */
/*
 * A way to the keeper and back that does next to nothing there, sync_file_range() of one staged
 * page, and the same between two processes: a byte over a pair of sockets, and another one
 * back. Milliseconds, in turn. Needs the library preloaded.
 *
 *   trip FILE
 */
#include <sys/socket.h>

#include "bench.h"

#define PAGE   4096
#define ROUNDS 20 /* of one kind before it is the other's turn */

static void answer(int fd)
{
	char c;

	while (read(fd, &c, 1) == 1)
		if (write(fd, &c, 1) != 1)
			_exit(1);
	_exit(0);
}

static double by_socket(int fd)
{
	double begun = now_ms();
	char c = 0;

	for (int i = 0; i < ROUNDS; i++)
		if (write(fd, &c, 1) != 1 || read(fd, &c, 1) != 1)
			die("socket");
	return (now_ms() - begun) / ROUNDS;
}

static double by_keeper(int file)
{
	double begun = now_ms();

	for (int i = 0; i < ROUNDS; i++)
		if (sync_file_range(file, 0, PAGE, SYNC_FILE_RANGE_WRITE) < 0)
			die("sync_file_range");
	return (now_ms() - begun) / ROUNDS;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	int file, pair[2];
	void *p;

	if (argc < 2)
		return 2;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	if (fork() == 0) {
		close(pair[0]);
		answer(pair[1]);
	}
	close(pair[1]);
	file = make_file(argv[1], PAGE, PAGE);
	p = map_shared(file, PAGE);
	ring_open(&ring);
	pin(&ring, p, PAGE);
	if (msync(p, PAGE, MS_SYNC) < 0)
		die("msync");
	for (int i = 0; i < 10; i++) {
		printf("trip keeper %.4f\n", by_keeper(file));
		printf("trip socket %.4f\n", by_socket(pair[0]));
	}
	return 0;
}
