/* SPDX-License-Identifier: MIT */
/* links: shim/lib/log.c shim/lib/ownfd.c shim/lib/shadow.c shim/lib/real.c */
#include "unit.h"

#include <regex.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/ownfd.h"

#define LINE_MOST 4096

/* Standard error is one end of a conversation: what one write() says comes in one piece. */
static int heard, real_stderr;

static int listen_to_stderr(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	real_stderr = dup(STDERR_FILENO);
	dup2(pair[1], STDERR_FILENO);
	close(pair[1]);
	heard = pair[0];
	return 0;
}

static int give_stderr_back(void **state)
{
	(void)state;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(heard);
	for (int fd; (fd = ownfd_next(0)) >= 0;)
		ownfd_close(fd);
	return 0;
}

static char line[3 * LINE_MOST];

/* Every line has the time, which is taken out: for the rest of it to be compared. */
#define TIME_FORM "time=....-..-..T..:..:..\\.......Z "
#define TIME_LEN  strlen("time=2026-11-24T23:57:51.123456Z ")

static void take_times_out(char *text)
{
	regmatch_t m;
	regex_t form;

	assert_int_equal(regcomp(&form, "^pinstage v=1 event=[a-z]* " TIME_FORM, REG_NEWLINE),
			 0);
	while (regexec(&form, text, 1, &m, 0) == 0) {
		text += m.rm_eo - (regoff_t)TIME_LEN;
		memmove(text, text + TIME_LEN, strlen(text + TIME_LEN) + 1);
	}
	regfree(&form);
}

/* The next thing said, or NULL. */
static const char *said(void)
{
	ssize_t n = recv(heard, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0)
		return NULL;
	line[n] = '\0';
	take_times_out(line);
	return line;
}

static const char *prefix(const char *event)
{
	static char text[128];

	snprintf(text, sizeof(text), "pinstage v=1 event=%s pid=%d ", event, (int)getpid());
	return text;
}

static void assert_said(const char *event, const char *rest)
{
	char want[256];

	snprintf(want, sizeof(want), "%s%s\n", prefix(event), rest);
	assert_string_equal(said(), want);
}

static void unset__refusals_and_errors_only(void **state)
{
	(void)state;
	assert_true(log_open(NULL));
	log_event(EV_INFO, "a=%d", 1);
	log_event(EV_STAGE, "a=%d", 1);
	log_event(EV_RETIRE, "a=%d", 1);
	log_event(EV_PIN, "a=%d", 1);
	log_event(EV_DENY, "a=%d", 1);
	assert_null(said());
	log_event(EV_REFUSE, "a=%d", 1);
	assert_said("refuse", "a=1");
	log_event(EV_ERROR, "a=%d b=\"%s\"", 1, "x");
	assert_said("error", "a=1 b=\"x\"");
	assert_null(said());
}

static void stderr__everything(void **state)
{
	static const char *const name[] = {
		[EV_INFO] = "info",   [EV_STAGE] = "stage", [EV_RETIRE] = "retire",
		[EV_PIN] = "pin",     [EV_DENY] = "deny",   [EV_REFUSE] = "refuse",
		[EV_ERROR] = "error", [EV_AGAIN] = "again", [EV_COUNT] = "count",
	};

	(void)state;
	assert_true(log_open("stderr"));
	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		log_event((enum log_event_kind)i, "n=%zu", i);
		snprintf(line, sizeof(line), "n=%zu", i);
		assert_said(name[i], strcpy((char[16]){ 0 }, line));
	}
}

static void event__keeps_errno(void **state)
{
	(void)state;
	assert_true(log_open("stderr"));
	errno = ENOTTY;
	log_event(EV_INFO, "%m");
	assert_int_equal(errno, ENOTTY);
	assert_said("info", "Inappropriate ioctl for device");
	assert_true(log_open(NULL));
	log_event(EV_INFO, "not said");
	assert_int_equal(errno, ENOTTY);
	close(STDERR_FILENO);
	log_event(EV_ERROR, "not said either");
	assert_int_equal(errno, ENOTTY);
}

static void event__cut_at_4096_bytes(void **state)
{
	const size_t head = strlen(prefix("info")), most = LINE_MOST - TIME_LEN;
	char text[2 * LINE_MOST + 1];

	(void)state;
	assert_true(log_open("stderr"));
	for (size_t len = most - head - 12; len<sizeof(text); len += len> most ? 500 : 1) {
		size_t n;

		memset(text, 'x', len);
		text[len] = '\0';
		log_event(EV_INFO, "%s", text);
		assert_non_null(said());
		n = strlen(line);
		assert_true(n <= most);
		assert_ptr_equal(strchr(line, '\n'), line + n - 1);
		assert_int_equal(strncmp(line, prefix("info"), head), 0);
		if (head + len + 1 <= most) {
			assert_int_equal(n, head + len + 1);
			assert_int_equal(strspn(line + head, "x"), len);
		} else {
			assert_int_equal(n, most);
			assert_string_equal(line + n - 7, " cut=1\n");
			assert_int_equal(strspn(line + head, "x"), most - head - 7);
		}
		assert_null(said());
	}
}

static char dir[4096], path[4200];

static int make_dir(void **state)
{
	const char *where = getenv("TEST_DIR");

	snprintf(dir, sizeof(dir), "%s/unit.XXXXXX", where ? where : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	return listen_to_stderr(state);
}

static int remove_dir(void **state)
{
	unlink(path);
	rmdir(path);
	rmdir(dir);
	return give_stderr_back(state);
}

static const char *content(void)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, line, sizeof(line) - 1);

	assert_true(n >= 0);
	close(fd);
	line[n] = '\0';
	take_times_out(line);
	return line;
}

static void file__appended_and_private(void **state)
{
	char want[512];
	struct stat st;
	int own;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_true(log_open(path));
		log_event(EV_INFO, "n=%d", i);
	}
	own = ownfd_next(0);
	assert_true(own >= 0);
	assert_true(fcntl(own, F_GETFL) & O_APPEND);
	assert_true(fcntl(own, F_GETFD) & FD_CLOEXEC);
	assert_null(said());
	snprintf(want, sizeof(want), "%sn=0\n", prefix("info"));
	snprintf(want + strlen(want), sizeof(want) - strlen(want), "%sn=1\n", prefix("info"));
	assert_string_equal(content(), want);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* What a program leaves at the number of the log is not written to. */
static void file__its_number_has_moved(void **state)
{
	int own, to;

	(void)state;
	assert_true(log_open(path));
	own = ownfd_next(0);
	to = ownfd_evade(own, log_fd_moved);
	assert_true(to > own);
	dup2(heard, own);
	log_event(EV_INFO, "here");
	close(own);
	assert_non_null(strstr(content(), "here"));
	log_fd_moved(STDERR_FILENO, 1); /* not the log's */
	log_event(EV_INFO, "there");
	assert_non_null(strstr(content(), "there"));
}

/* Who rotates logs renames the file; the next line makes a new one, even from another root. */
static void file__renamed(void **state)
{
	char moved[4300], want[256];
	struct stat st;

	(void)state;
	snprintf(moved, sizeof(moved), "%s.1", path);
	assert_true(log_open(path));
	log_event(EV_INFO, "first");
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(chdir("/"), 0);
	log_event(EV_INFO, "second");
	snprintf(want, sizeof(want), "%ssecond\n", prefix("info"));
	assert_string_equal(content(), want);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* logrotate's copytruncate */
	assert_int_equal(truncate(path, 0), 0);
	log_event(EV_INFO, "third");
	assert_non_null(strstr(content(), "pinstage v=1 event=info"));
	assert_ptr_equal(strstr(content(), "pinstage"), line);
	unlink(moved);
}

/* What stands at the name then must not be anything else: the old file goes on. */
static void file__renamed_and_replaced(void **state)
{
	char moved[4300];

	(void)state;
	snprintf(moved, sizeof(moved), "%s.1", path);
	assert_true(log_open(path));
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	log_event(EV_INFO, "said");
	assert_int_equal(rename(moved, path), 0);
	assert_non_null(strstr(content(), "said"));
	assert_int_equal(log_lost(), 0);
}

/* The disk is full in the middle of a line (here: the file is as large as the process may
 * write, which kills it if it is not careful). The rest is lost, and the next line is whole. */
static void file__cut_short(void **state)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY },
			    some = { 100, RLIM_INFINITY };
	const unsigned long lost = log_lost();
	const char *next;

	(void)state;
	assert_true(log_open(path));
	log_event(EV_INFO, "whole");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &some), 0);
	log_event(EV_INFO, "torn torn torn torn");
	log_event(EV_INFO, "lost");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
	log_event(EV_INFO, "next");
	assert_int_equal(log_lost(), lost + 2);
	next = strstr(content(), "next\n");
	assert_non_null(next);
	assert_null(strstr(line, "lost"));
	while (next > line && next[-1] != '\n')
		next--;
	assert_int_equal(strncmp(next, prefix("info"), strlen(prefix("info"))), 0);
}

static void file__full_device(void **state)
{
	const unsigned long lost = log_lost();

	(void)state;
	assert_true(log_open("/dev/full"));
	log_event(EV_INFO, "not said");
	assert_int_equal(log_lost(), lost + 1);
}

/* Neither a reader that is gone nor one that does not read stops anybody. */
static void pipe__no_reader(void **state)
{
	const unsigned long lost = log_lost();
	sigset_t pending;
	int fd;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(log_open(path));
	log_event(EV_INFO, "heard");
	assert_non_null(strstr(content(), "heard"));
	close(fd);
	log_event(EV_INFO, "not heard"); /* SIGPIPE would end us */
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGPIPE));
	assert_int_equal(log_lost(), lost + 1);
}

/* Standard error is not in our hands: it waits where a file of ours would not. */
static void pipe__full(void **state)
{
	const unsigned long lost = log_lost();
	static char page[4096];
	int pair[2];

	(void)state;
	assert_int_equal(pipe(pair), 0);
	assert_true(dup2(pair[1], STDERR_FILENO) >= 0);
	assert_true(log_open("stderr"));
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	while (write(pair[1], page, sizeof(page)) > 0)
		;
	fcntl(pair[1], F_SETFL, 0);
	log_event(EV_INFO, "not said");
	assert_int_equal(log_lost(), lost + 1);
	close(pair[0]);
	close(pair[1]);
}

static void socket__full_and_closed(void **state)
{
	unsigned long lost = log_lost();

	(void)state;
	assert_true(log_open("stderr"));
	while (log_lost() == lost)
		log_event(EV_INFO, "not read");
	while (said())
		;
	lost = log_lost();
	log_event(EV_INFO, "read");
	assert_said("info", "read");
	assert_int_equal(log_lost(), lost);
	shutdown(heard, SHUT_RDWR);
	log_event(EV_INFO, "not said");
	assert_int_equal(log_lost(), lost + 1);
}

static void time__as_gmtime(void **state)
{
	static const time_t days[] = { 0,	   951782399,  951782400,
				       951868800,  1709164800, 1767225599,
				       4107542399, 4107542400, 16725225600 };
	char want[LOG_TIME_SIZE], got[LOG_TIME_SIZE];
	struct tm tm;

	(void)state;
	for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
		strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.000007Z",
			 gmtime_r(&days[i], &tm));
		log_time(got, (unsigned long long)days[i] * 1000000000ULL + 7999);
		assert_string_equal(got, want);
	}
}

static void assert_cannot_open(const char *why)
{
	assert_false(log_open(path));
	assert_non_null(said());
	assert_non_null(strstr(line, "event=error"));
	assert_non_null(strstr(line, why));
	assert_non_null(strstr(line, path));
	assert_int_equal(ownfd_next(0), -1);
	log_event(EV_INFO, "not said");
	assert_null(said());
	log_event(EV_REFUSE, "said");
	assert_said("refuse", "said");
}

static void file__symlink(void **state)
{
	(void)state;
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_cannot_open(strerror(ELOOP));
}

static void file__directory(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_cannot_open(strerror(EISDIR));
}

/* Nobody reads it: it must not wait. */
static void file__fifo(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_cannot_open(strerror(ENXIO));
}

static void file__name_cannot_forge(void **state)
{
	(void)state;
	assert_false(log_open("/no/such/\" event=ok\npinstage event=forged \x1b[31m"));
	assert_non_null(said());
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	assert_null(strchr(line, '\x1b'));
	assert_null(strstr(line, "\" event=ok"));
	assert_null(said());
}

/* A program closed standard error and opened its data: the data stays as it is. */
static void stderr__replaced_by_data(void **state)
{
	struct stat st;
	int data;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_true(log_open(i ? "stderr" : NULL));
		data = unnamed_file();
		dup2(data, STDERR_FILENO);
		log_event(EV_ERROR, "not said");
		log_event(EV_INFO, "not said");
		assert_int_equal(fstat(data, &st), 0);
		assert_int_equal(st.st_size, 0);
		close(data);
	}
}

static void stderr__closed(void **state)
{
	int data;

	(void)state;
	assert_true(log_open("stderr"));
	close(STDERR_FILENO);
	log_event(EV_ERROR, "not said");
	assert_true(log_open("stderr")); /* from the start */
	data = unnamed_file();
	assert_int_equal(dup2(data, STDERR_FILENO), STDERR_FILENO);
	log_event(EV_ERROR, "not said");
	assert_int_equal(lseek(data, 0, SEEK_END), 0);
	close(data);
}

/* The other way round. */
static void unescape(char *dst, const char *src)
{
	unsigned c;

	while (*src) {
		if (*src == '\\') {
			assert_int_equal(sscanf(src, "\\x%2x", &c), 1);
			*dst++ = (char)c;
			src += 4;
		} else {
			*dst++ = *src++;
		}
	}
	*dst = '\0';
}

static void escape__plain_stays(void **state)
{
	static const char plain[] =
		"/data/a file,with (all) of [it] 'in' <it> $x `y` #!~%s|&;*?{}^@";
	char got[256];

	(void)state;
	assert_string_equal(log_escape(got, sizeof(got), plain), plain);
	assert_string_equal(log_escape(got, sizeof(got), ""), "");
}

static void escape__nothing_breaks_a_line(void **state)
{
	char all[256], got[1024 + 8], back[256];

	(void)state;
	for (int c = 1; c < 256; c++)
		all[c - 1] = (char)c;
	all[255] = '\0';
	assert_ptr_equal(log_escape(got, sizeof(got), all), got);
	for (const char *c = got; *c; c++)
		assert_true(*c >= ' ' && *c < 0x7f && *c != '"');
	unescape(back, got);
	assert_string_equal(back, all);
}

static void escape__cannot_be_forged(void **state)
{
	char got[64];

	(void)state;
	assert_string_equal(log_escape(got, sizeof(got), "a\\x0ab"), "a\\x5cx0ab");
	assert_string_equal(log_escape(got, sizeof(got), "\" b=\""), "\\x22 b\\x3d\\x22");
	assert_string_equal(log_escape(got, sizeof(got), "a\nb"), "a\\x0ab");
}

/* Any size: never past the end, never half an escape. */
static void escape__cut(void **state)
{
	static const char *const text[] = { "plain text", "\n\n\n\n\n", "a\nb\nc\nd",
					    "\xff\xff\xff" };

	(void)state;
	for (size_t t = 0; t < sizeof(text) / sizeof(text[0]); t++) {
		for (size_t size = 1; size < 64; size++) {
			char *got = malloc(size), back[64];

			assert_non_null(got);
			log_escape(got, size, text[t]);
			assert_true(strlen(got) < size);
			unescape(back, got);
			assert_int_equal(strncmp(back, text[t], strlen(back)), 0);
			free(got);
		}
	}
}

#define ON_STDERR(f) cmocka_unit_test_setup_teardown(f, listen_to_stderr, give_stderr_back)
#define IN_DIR(f)    cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

static const struct CMUnitTest tests[] = {
	ON_STDERR(unset__refusals_and_errors_only),
	ON_STDERR(stderr__everything),
	ON_STDERR(event__keeps_errno),
	ON_STDERR(event__cut_at_4096_bytes),
	IN_DIR(file__appended_and_private),
	IN_DIR(file__its_number_has_moved),
	IN_DIR(file__renamed),
	IN_DIR(file__renamed_and_replaced),
	IN_DIR(file__cut_short),
	IN_DIR(file__full_device),
	IN_DIR(pipe__no_reader),
	ON_STDERR(pipe__full),
	ON_STDERR(socket__full_and_closed),
	cmocka_unit_test(time__as_gmtime),
	IN_DIR(file__symlink),
	IN_DIR(file__directory),
	IN_DIR(file__fifo),
	ON_STDERR(file__name_cannot_forge),
	ON_STDERR(stderr__replaced_by_data),
	ON_STDERR(stderr__closed),
	cmocka_unit_test(escape__plain_stays),
	cmocka_unit_test(escape__nothing_breaks_a_line),
	cmocka_unit_test(escape__cannot_be_forged),
	cmocka_unit_test(escape__cut),
};

UNIT_MAIN(tests, NULL, NULL)
