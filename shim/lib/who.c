/* SPDX-License-Identifier: MIT */
#include "lib/who.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/util.h"
#include "lib/log.h"
#include "lib/real.h"

static struct {
	unsigned long long started;
	char boot[40];
	char exe[384]; /* escaped */
	char cmd[640];
} who;

static size_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n;

	if (fd >= 0) {
		while (have < size - 1 && (n = real.read(fd, buf + have, size - 1 - have)) > 0)
			have += (size_t)n;
		real.close(fd);
	}
	buf[have] = '\0';
	return have;
}

void who_command(char *dst, size_t size, const char *cmdline, size_t len, bool arguments)
{
	const char *word = cmdline, *end = cmdline + len;
	size_t used = 0;

	*dst = '\0';
	while (word < end && used + 2 < size) {
		if (used)
			dst[used++] = ' ';
		log_escape(dst + used, size - used, word);
		used += strlen(dst + used);
		word += strlen(word) + 1;
		if (!arguments)
			break;
	}
}

void who_start(bool arguments)
{
	char text[2048];
	size_t len;

	who.started = log_now();
	len = read_file("/proc/sys/kernel/random/boot_id", who.boot, sizeof(who.boot));
	who.boot[strcspn(who.boot, "\n")] = '\0';
	len = read_file("/proc/self/cmdline", text, sizeof(text));
	who_command(who.cmd, sizeof(who.cmd), text, len, arguments);
	len = (size_t)MAX(readlink("/proc/self/exe", text, sizeof(text) - 1), (ssize_t)0);
	text[len] = '\0';
	log_escape(who.exe, sizeof(who.exe), text);
}

void who_after_fork(void)
{
	who.started = log_now();
}

void who_print_name(char *dst, size_t size)
{
	char host[160], when[LOG_TIME_SIZE];
	struct utsname u;

	if (uname(&u) < 0)
		memset(&u, 0, sizeof(u));
	snprintf(dst, size, "host=\"%s\" boot=%s started=%s",
		 log_escape(host, sizeof(host), u.nodename), who.boot,
		 log_time(when, who.started));
}

/* The unified hierarchy's; with none, the first one that there is. */
static void print_cgroup(char *dst, size_t size)
{
	char text[2048], *at;

	read_file("/proc/self/cgroup", text, sizeof(text));
	at = !strncmp(text, "0::", 3) ? text : strstr(text, "\n0::");
	at = at ? strchr(at, '/') : strchr(text, '/');
	if (at)
		at[strcspn(at, "\n")] = '\0';
	log_escape(dst, size, at ? at : "");
}

void who_print(char *dst, size_t size)
{
	char thread[17] = "", name[80], cgroup[256], kernel[160];
	struct utsname u;
	int n;

	(void)prctl(PR_GET_NAME, thread);
	if (uname(&u) < 0)
		memset(&u, 0, sizeof(u));
	print_cgroup(cgroup, sizeof(cgroup));
	n = snprintf(dst, size,
		     "tid=%ld thread=\"%s\" uid=%u exe=\"%s\" cmd=\"%s\" kernel=\"%s\" "
		     "cgroup=\"%s\" ",
		     RAW(SYS_gettid, 0), log_escape(name, sizeof(name), thread),
		     (unsigned)getuid(), who.exe, who.cmd,
		     log_escape(kernel, sizeof(kernel), u.release), cgroup);
	if (n > 0 && (size_t)n < size)
		who_print_name(dst + n, size - (size_t)n);
}
