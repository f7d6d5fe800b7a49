/* SPDX-License-Identifier: MIT */
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/ownfd.h"
#include "lib/real.h"

static struct {
	int fd;	      /* where lines go */
	bool verbose; /* all events, not only what must be said */
	bool checked; /* fd is the program's standard error: only while it is what it was */
	dev_t dev;
	ino_t ino;
} sink = { .fd = STDERR_FILENO };

static const char *const event_name[] = {
	[EV_INFO] = "info", [EV_STAGE] = "stage",   [EV_RETIRE] = "retire", [EV_PIN] = "pin",
	[EV_DENY] = "deny", [EV_REFUSE] = "refuse", [EV_ERROR] = "error",
};

static void use_stderr(void)
{
	struct stat st;

	sink.fd = STDERR_FILENO;
	sink.checked = true;
	if (fstat(STDERR_FILENO, &st) < 0)
		sink.fd = -1;
	else {
		sink.dev = st.st_dev;
		sink.ino = st.st_ino;
	}
}

bool log_open(const char *target)
{
	char escaped[256];
	int fd;

	sink.verbose = target != NULL;
	use_stderr();
	if (!target || !strcmp(target, "stderr"))
		return true;
	fd = open(target,
		  O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC |
			  O_NOCTTY,
		  0600);
	fd = ownfd_adopt(fd);
	if (fd < 0) {
		sink.verbose = false;
		log_event(
			EV_ERROR,
			"file=\"%s\" reason=\"cannot open the log: %s; nothing will be staged\" "
			"remedy=\"set PINSTAGE_LOG to stderr or to a file that may be written\"",
			log_escape(escaped, sizeof(escaped), target), strerror(errno));
		return false;
	}
	sink.fd = fd;
	sink.checked = false;
	return true;
}

void log_fd_moved(int from, int to)
{
	if (sink.fd == from && !sink.checked)
		sink.fd = to;
}

/* A program may have closed standard error and opened its data there. */
static bool sink_usable(void)
{
	struct stat st;

	if (sink.fd < 0)
		return false;
	if (!sink.checked)
		return true;
	return fstat(sink.fd, &st) == 0 && st.st_dev == sink.dev && st.st_ino == sink.ino;
}

/* A quote within a value is escaped as \x22. */
static bool inside_quotes(const char *line, size_t len)
{
	bool inside = false;

	for (size_t i = 0; i < len; i++)
		inside ^= line[i] == '"';
	return inside;
}

void log_event(enum log_event_kind kind, const char *fmt, ...)
{
	static const char cut[] = " cut=1";
	int saved = errno, len, more;
	char line[4096];
	va_list ap;

	if (!(sink.verbose || kind == EV_REFUSE || kind == EV_ERROR) || !sink_usable()) {
		errno = saved;
		return;
	}
	len = snprintf(line, sizeof(line), "pinstage event=%s pid=%d ", event_name[kind],
		       (int)getpid());
	va_start(ap, fmt);
	errno = saved;
	more = vsnprintf(line + len, sizeof(line) - (size_t)len, fmt, ap);
	va_end(ap);
	len = more < 0 ? len : len + more;
	if ((size_t)len > sizeof(line) - 1) {
		len = (int)(sizeof(line) - sizeof(cut));
		if (inside_quotes(line, (size_t)len - 1))
			line[len - 1] = '"';
		else if (line[len - 1] == '"')
			line[len - 1] = ' ';
		memcpy(line + len, cut, sizeof(cut) - 1);
		len += (int)sizeof(cut) - 1;
	}
	line[len++] = '\n';
	(void)!real.write(sink.fd, line, (size_t)len);
	errno = saved;
}

/* Bytes from 0x80 up are escaped, too: they may not be valid UTF-8. */
const char *log_escape(char *dst, size_t size, const char *src)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *src && n + 5 < size; src++) {
		unsigned char c = (unsigned char)*src;

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
			dst[n++] = (char)c;
			continue;
		}
		dst[n++] = '\\';
		dst[n++] = 'x';
		dst[n++] = hex[c >> 4];
		dst[n++] = hex[c & 15];
	}
	dst[n] = '\0';
	return dst;
}
