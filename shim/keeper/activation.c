/* SPDX-License-Identifier: MIT */
#include "keeper/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static bool option_is(int fd, int option, int wanted)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

int activation_listener(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

	if (!pid || !n || strtol(pid, NULL, 10) != getpid())
		return -ENOENT;
	if (strtol(n, NULL, 10) != 1 || !option_is(ACTIVATION_FD, SO_DOMAIN, AF_UNIX) ||
	    !option_is(ACTIVATION_FD, SO_TYPE, SOCK_SEQPACKET) ||
	    !option_is(ACTIVATION_FD, SO_ACCEPTCONN, 1))
		return -EINVAL;
	if (fcntl(ACTIVATION_FD, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(ACTIVATION_FD, F_SETFL, O_NONBLOCK) < 0)
		return -EINVAL;
	return ACTIVATION_FD;
}
