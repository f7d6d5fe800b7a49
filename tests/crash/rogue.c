// SPDX-License-Identifier: MIT
/*
 * rogue endless SOCKET
 * rogue deaf SOCKET
 * rogue silent SOCKET FILE
 *
 * Somebody's keeper that is none. endless: of what it has staged there is always more to tell.
 * deaf: it accepts nobody, and so many wait that nobody more can. silent: it has staged FILE,
 * and never says that it is written. Says "ready", and goes on.
 */
#include "client.h"

static void tell_more(int sock)
{
	int none[PROTO_FDS];
	struct msg m;

	while (client_receive(sock, &m, none) == 0) {
		if (m.type == MSG_STATUS) {
			m.last = 1;
			m.arg[1] = 1;
		}
		client_must(client_send(sock, &m, NULL, 0), "answer");
	}
}

static void tell_of(int sock, const struct client_file *f)
{
	int none[PROTO_FDS];
	struct msg m;

	while (client_receive(sock, &m, none) == 0) {
		if (m.type == MSG_SYNC)
			continue;
		if (m.type == MSG_STATUS) {
			client_prepare(&m, MSG_STATUS, f, 1);
			client_must(client_send(sock, &m, NULL, 0), "answer");
			m.last = 1;
		}
		m.len = 0; /* nobody uses it */
		client_must(client_send(sock, &m, NULL, 0), "answer");
	}
}

int main(int argc, char **argv)
{
	const bool deaf = argc == 3 && !strcmp(argv[1], "deaf");
	struct client_file f = { .size = 4096 };
	const int kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int sock, fd;

	if (argc != (argc > 1 && !strcmp(argv[1], "silent") ? 4 : 3))
		return 2;
	if (argc == 4)
		client_must(client_open(&f, argv[3]), argv[3]);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", argv[2]);
	sock = socket(AF_UNIX, kind, 0);
	client_must(bind(sock, (struct sockaddr *)&a, sizeof(a)) || listen(sock, 0) ? errno : 0,
		    argv[2]);
	do
		fd = deaf ? socket(AF_UNIX, kind | SOCK_NONBLOCK, 0) : -1;
	while (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	puts("ready");
	fflush(stdout);
	while (deaf || (fd = accept(sock, NULL, NULL)) >= 0) {
		if (deaf)
			pause();
		if (f.name)
			tell_of(fd, &f);
		else
			tell_more(fd);
		close(fd);
	}
	return 1;
}
