/* SPDX-License-Identifier: MIT */
/* pinstage sync: what is staged, on the disk when it returns. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command/command.h"
#include "command/conversation.h"
#include "command/mount.h"
#include "command/syncing.h"
#include "command/view.h"
#include "common/options.h"

#define PAUSE_MS 200 /* before what could not be written is tried again */

static const char usage[] =
	"usage: pinstage sync [OPTION...] [FILE|PID|--all]\n"
	"\n"
	"Carries what is staged to the files, and these to the disk: of FILE, of the files that the\n"
	"process PID has staged, or, with --all or without any of them, all that your keeper holds.\n"
	"For root, --all is every keeper of the machine.\n"
	"\n"
	"  --wait       try again what cannot be written, until it can\n"
	"  --timeout S  give that up after so many seconds (60); and, as root, waiting for another user's\n"
	"               keeper\n"
	"\n"
	"Exit status: 0 if all is on the disk, or nothing is staged; 1 if something could not be\n"
	"written, with a line for each such file; 125 if a keeper cannot be asked, or the command was\n"
	"called wrongly.\n";

struct request {
	bool all, wait;
	uint64_t timeout_ms;
	const char *name; /* FILE, or PID as text, or NULL */
	pid_t pid;	  /* or 0 */
	struct mount file;
};

static const struct option options[] = {
	{ "all", no_argument, NULL, 'a' },	     { "wait", no_argument, NULL, 'w' },
	{ "timeout", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },	     { 0 }
};

/* A number is a process; a file of such a name is "./4711". */
static int read_target(struct request *r, const char *text)
{
	char *end;
	int err;

	r->name = text;
	if (isdigit((unsigned char)text[0])) {
		r->pid = (pid_t)strtol(text, &end, 10);
		if (!*end && r->pid > 0)
			return -1;
		r->pid = 0;
	}
	err = mount_find(text, false, &r->file);
	if (!err && !r->file.file)
		err = -EISDIR;
	if (!err)
		return -1;
	complain("sync", "%s: %s", text, strerror(-err));
	return EXIT_OWN;
}

static int read_timeout(struct request *r, const char *text)
{
	const char *expected;

	if (option_parse(OPTION_SECONDS, text, &r->timeout_ms, &expected) == 0)
		return -1;
	complain("sync", "--timeout: '%s' is not understood; expected: %s", text, expected);
	return EXIT_OWN;
}

/* Returns -1, or what to exit with. */
static int read_options(int argc, char **argv, struct request *r)
{
	int c, err = -1;

	opterr = 0;
	while (err < 0 && (c = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
		switch (c) {
		case 'a':
			r->all = true;
			break;
		case 'w':
			r->wait = true;
			break;
		case 't':
			err = read_timeout(r, optarg);
			break;
		case 'h':
			return print_and_check(usage);
		case 'V':
			return print_version();
		default:
			return wrong_option(argv, c);
		}
	}
	if (err >= 0 || optind == argc)
		return err;
	if (argc - optind > 1 || r->all) {
		complain("sync", "unknown argument '%s'; see pinstage sync --help",
			 argv[optind + !r->all]);
		return EXIT_OWN;
	}
	return read_target(r, argv[optind]);
}

static bool used_by(const struct view_file *f, pid_t pid)
{
	for (size_t i = 0; i < f->pids; i++)
		if (f->pid[i] == pid)
			return true;
	return false;
}

static bool wanted(const struct view_file *f, const void *arg)
{
	const struct request *r = arg;

	if (r->pid)
		return used_by(f, r->pid);
	return !r->name || mount_has(&r->file, f->key, f->name);
}

/* 0, 1 or EXIT_OWN. */
static int sync_now(const struct request *r, bool say)
{
	struct view v;
	int status, err;

	/* A file or process may be somebody else's, whom root does not name. */
	err = view_take(&v, r->all || r->name);
	if (err) {
		complain("sync", "%s", strerror(-err));
		return EXIT_OWN;
	}
	status = sync_view("sync", &v, wanted, r, r->timeout_ms, say);
	view_free(&v);
	return status;
}

int sync_main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	struct request r = { .timeout_ms = OTHERS_MS };
	uint64_t until;
	int status = read_options(argc, argv, &r);
	bool last;

	if (status >= 0)
		return status;
	until = now_ms() + r.timeout_ms;
	for (;;) {
		last = !r.wait || now_ms() >= until;
		status = sync_now(&r, last);
		if (status != 1 || last)
			return status;
		nanosleep(&pause, NULL);
	}
}
