/* SPDX-License-Identifier: MIT */
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/ownfd.h"
#include "lib/real.h"

#define OPEN_FLAGS \
	(O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)

static struct {
	int fd;	      /* where lines go */
	int dir;      /* of a regular file: where its name is looked for again; or -1 */
	bool wanted;  /* all events, not only what must be said */
	bool checked; /* fd is the program's standard error: only while it is what it was */
	mode_t mode;
	dev_t dev;
	ino_t ino;
	char name[NAME_MAX + 1]; /* in dir */
	atomic_bool torn;	 /* the last line is not whole */
	atomic_bool doubtful;	 /* it may not be: somebody's disk was full, or he was killed */
	atomic_ulong lost;
} sink = { .fd = STDERR_FILENO, .dir = -1 };

static const char *const event_name[] = {
	[EV_INFO] = "info",   [EV_STAGE] = "stage", [EV_RETIRE] = "retire",
	[EV_PIN] = "pin",     [EV_DENY] = "deny",   [EV_REFUSE] = "refuse",
	[EV_ERROR] = "error", [EV_AGAIN] = "again", [EV_COUNT] = "count",
};

static bool use(int fd, bool checked)
{
	struct stat st;

	sink.fd = -1;
	sink.checked = checked;
	if (fstat(fd, &st) < 0)
		return false;
	sink.mode = st.st_mode;
	sink.dev = st.st_dev;
	sink.ino = st.st_ino;
	sink.fd = fd;
	return true;
}

/* Opens target, and its directory, which is kept: the program may change its root. */
static int open_target(const char *target, int *ret_dir)
{
	const char *slash = strrchr(target, '/'), *base = slash ? slash + 1 : target;
	char path[PATH_MAX] = ".";
	int dir, fd, err;

	if (strlen(base) > NAME_MAX || strlen(target) >= sizeof(path))
		return -ENAMETOOLONG;
	if (slash) /* with it, for the root directory's sake */
		snprintf(path, sizeof(path), "%.*s", (int)(base - target), target);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = openat(dir, base, OPEN_FLAGS, 0600);
	err = errno;
	if (fd < 0) {
		real.close(dir);
		return -err;
	}
	fd = ownfd_adopt(fd);
	*ret_dir = ownfd_adopt(dir);
	if (fd < 0 || *ret_dir < 0) {
		ownfd_close(fd);
		ownfd_close(*ret_dir);
		return -EMFILE;
	}
	strcpy(sink.name, base);
	return fd;
}

bool log_open(const char *target)
{
	char escaped[256];
	int fd, dir;

	sink.wanted = target != NULL;
	sink.dir = -1;
	(void)use(STDERR_FILENO, true);
	if (!target || !strcmp(target, "stderr"))
		return true;
	fd = open_target(target, &dir);
	if (fd < 0) {
		sink.wanted = false;
		log_event(
			EV_ERROR,
			"file=\"%s\" reason=\"cannot open the log: %s; nothing will be staged\" "
			"remedy=\"set PINSTAGE_LOG to stderr or to a file that may be written\"",
			log_escape(escaped, sizeof(escaped), target), strerror(-fd));
		return false;
	}
	(void)use(fd, false);
	sink.doubtful = true;
	if (S_ISREG(sink.mode))
		sink.dir = dir;
	else
		ownfd_close(dir);
	return true;
}

bool log_wanted(void)
{
	return sink.wanted;
}

unsigned long log_lost(void)
{
	return sink.lost;
}

void log_fd_moved(int from, int to)
{
	if (sink.fd == from && !sink.checked)
		sink.fd = to;
	if (sink.dir == from)
		sink.dir = to;
}

/* The file was renamed or removed, as those do who rotate logs: go on in a new one of its name.
 * Where that cannot be had, in the old one. */
static void follow_name(void)
{
	struct stat st;
	int fd;

	if (fstatat(sink.dir, sink.name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == sink.dev && st.st_ino == sink.ino)
		return;
	fd = openat(sink.dir, sink.name, OPEN_FLAGS, 0600);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    RAW(SYS_dup3, fd, sink.fd, O_CLOEXEC) >= 0) {
		sink.dev = st.st_dev;
		sink.ino = st.st_ino;
		sink.torn = false;
		sink.doubtful = true;
	}
	real.close(fd);
}

/* What the file ends with is no line's end. Looked at again if somebody is writing just now; if
 * that is taken for a torn line once, there is an empty one. */
static bool ends_torn(void)
{
	const int fd = openat(sink.dir, sink.name,
			      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	off_t size = -1;
	char last = '\n';

	while (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == sink.dev &&
	       st.st_ino == sink.ino && st.st_size != size && st.st_size > 0) {
		size = st.st_size;
		if (real.pread(fd, &last, 1, size - 1) != 1 || last == '\n')
			break;
		sched_yield();
	}
	if (fd >= 0)
		real.close(fd);
	return last != '\n';
}

/* A program may have closed standard error and opened its data there. */
static bool sink_usable(void)
{
	struct stat st;

	if (sink.fd < 0)
		return false;
	if (sink.dir >= 0)
		follow_name();
	if (!sink.checked)
		return true;
	return fstat(sink.fd, &st) == 0 && st.st_dev == sink.dev && st.st_ino == sink.ino;
}

/* Standard error may be a pipe or terminal that blocks, which is the program's to decide. A
 * pipe that can be written has room for a whole line. */
static ssize_t put(const char *line, size_t len)
{
	struct pollfd p = { .fd = sink.fd, .events = POLLOUT };

	if (S_ISSOCK(sink.mode))
		return RAW(SYS_sendto, sink.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL, NULL,
			   0);
	if (!S_ISREG(sink.mode) && (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))) {
		errno = EAGAIN;
		return -1;
	}
	return real.write(sink.fd, line, len);
}

/* Without the signals of a reader that is gone (SIGPIPE) and of a file that is as large as the
 * program may write (SIGXFSZ). */
static ssize_t put_quietly(const char *line, size_t len)
{
	const struct timespec now = { 0 };
	sigset_t both, before, mask;
	ssize_t n;
	int sig;

	sigemptyset(&both);
	sigaddset(&both, SIGPIPE);
	sigaddset(&both, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &both, &mask);
	sigpending(&before);
	n = put(line, len);
	sig = n >= 0 ? 0 : errno == EPIPE ? SIGPIPE : errno == EFBIG ? SIGXFSZ : 0;
	if (sig && !sigismember(&before, sig)) {
		sigemptyset(&both);
		sigaddset(&both, sig);
		(void)sigtimedwait(&both, NULL, &now);
	}
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return n;
}

/* What a full disk or a kill cut short, of ours or of another process's, is ended before the
 * next line begins. */
static void send_line(const char *line, size_t len)
{
	ssize_t n;

	if (sink.dir >= 0 && atomic_exchange(&sink.doubtful, false) && ends_torn())
		sink.torn = true;
	if (sink.torn && put_quietly("\n", 1) == 1)
		sink.torn = false;
	n = put_quietly(line, len);
	if (n == (ssize_t)len)
		return;
	atomic_fetch_add(&sink.lost, 1);
	sink.doubtful = true;
	if (n > 0)
		sink.torn = true;
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
	char line[LOG_LINE_MOST], when[LOG_TIME_SIZE];
	va_list ap;

	if (!(sink.wanted || kind == EV_REFUSE || kind == EV_ERROR) || !sink_usable()) {
		errno = saved;
		return;
	}
	len = snprintf(line, sizeof(line), "pinstage v=%d event=%s time=%s pid=%d ",
		       LOG_VERSION, event_name[kind], log_time(when, log_now()), (int)getpid());
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
	send_line(line, (size_t)len);
	errno = saved;
}

/* Bytes from 0x80 up are escaped, too: they may not be valid UTF-8. So is `=`, and no value can
 * look like the beginning of a line where a full disk has cut off the one before it. */
const char *log_escape(char *dst, size_t size, const char *src)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *src && n + 5 < size; src++) {
		unsigned char c = (unsigned char)*src;

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '=') {
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

unsigned long long log_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (unsigned long long)t.tv_sec * 1000000000ULL + (unsigned long long)t.tv_nsec;
}

/* gmtime_r() takes a lock and reads the zone's file. Days are counted in years that begin in
 * March, so that the leap day is the last one. */
const char *log_time(char dst[LOG_TIME_SIZE], unsigned long long ns)
{
	const unsigned long long seconds = ns / 1000000000ULL, in_day = seconds % 86400;
	const unsigned long long days = seconds / 86400 + 719468; /* since 0000-03-01 */
	const unsigned long long era = days / 146097, of_era = days % 146097;
	const unsigned long long year =
		(of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	const unsigned long long of_year = of_era - (365 * year + year / 4 - year / 100);
	const unsigned long long month = (5 * of_year + 2) / 153; /* 0: March */

	snprintf(dst, LOG_TIME_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
		 (unsigned)(year + era * 400 + (month >= 10)),
		 (unsigned)(month < 10 ? month + 3 : month - 9),
		 (unsigned)(of_year - (153 * month + 2) / 5 + 1), (unsigned)(in_day / 3600),
		 (unsigned)(in_day / 60 % 60), (unsigned)(in_day % 60),
		 (unsigned)(ns / 1000 % 1000000));
	return dst;
}
