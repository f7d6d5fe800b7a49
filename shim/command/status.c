/* SPDX-License-Identifier: MIT */
/* pinstage status: what the keepers have staged. */
#include "command/status.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "command/command.h"
#include "command/conversation.h"
#include "command/mount.h"
#include "common/options.h"

static const char usage[] =
	"usage: pinstage status [OPTION...]\n"
	"\n"
	"Shows what your keeper has staged; for root, every keeper of the machine. A line for each\n"
	"file:\n"
	"\n"
	"  FILE    its name when it was staged\n"
	"  STAGED  bytes of it that are in memory now\n"
	"  DIRTY   bytes of these that the last pass found changed and could not write\n"
	"  SYNCED  time since the last pass that wrote all there was: no change is older than this\n"
	"          and not in the file\n"
	"  USERS   processes that have it mapped; none: a device still holds it\n"
	"  ERROR   of the last write, if it failed\n"
	"\n"
	"  --mount PATH   only files of the file system that PATH is on: who keeps it busy\n"
	"  --bytes        exact numbers\n"
	"  --json         all of it, for programs\n"
	"  --openmetrics  totals for monitoring, without names of files\n"
	"  --check        one line and an exit status for monitoring\n"
	"  --max-age S    with --check: longest time that a change may stay unsynced (60)\n"
	"\n"
	"Exit status: 0, also if no keeper is running; 125 if a keeper cannot be asked. With --check:\n"
	"0 all is well, 1 a change may be older than allowed, 2 something cannot be written, 3 a\n"
	"keeper cannot be asked, or the command was called wrongly.\n";

enum form { TEXT, JSON, METRICS, CHECK };

struct request {
	enum form form;
	bool exact;
	const char *mount;
	uint64_t max_age_ms;
};

static const struct option options[] = { { "mount", required_argument, NULL, 'm' },
					 { "bytes", no_argument, NULL, 'b' },
					 { "json", no_argument, NULL, 'j' },
					 { "openmetrics", no_argument, NULL, 'o' },
					 { "check", no_argument, NULL, 'c' },
					 { "max-age", required_argument, NULL, 'a' },
					 { "help", no_argument, NULL, 'h' },
					 { "version", no_argument, NULL, 'V' },
					 { 0 } };

static int set_form(struct request *r, enum form form)
{
	if (r->form != TEXT && r->form != form) {
		complain("status", "--json, --openmetrics and --check exclude each other");
		return EXIT_OWN;
	}
	r->form = form;
	return -1;
}

static int set_age(struct request *r, const char *text)
{
	const char *expected;

	if (option_parse(OPTION_SECONDS, text, &r->max_age_ms, &expected) == 0)
		return -1;
	complain("status", "--max-age: '%s' is not understood; expected: %s", text, expected);
	return EXIT_OWN;
}

/* Returns -1, or what to exit with. */
static int read_options(int argc, char **argv, struct request *r)
{
	int c, err = -1;

	opterr = 0;
	while (err < 0 && (c = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
		switch (c) {
		case 'm':
			r->mount = optarg;
			break;
		case 'b':
			r->exact = true;
			break;
		case 'j':
			err = set_form(r, JSON);
			break;
		case 'o':
			err = set_form(r, METRICS);
			break;
		case 'c':
			err = set_form(r, CHECK);
			break;
		case 'a':
			err = set_age(r, optarg);
			break;
		case 'h':
			return print_and_check(usage);
		case 'V':
			return print_version();
		default:
			return wrong_option(argv, c);
		}
	}
	if (err < 0 && optind < argc) {
		complain("status", "unknown argument '%s'; see pinstage status --help",
			 argv[optind]);
		err = EXIT_OWN;
	}
	return err;
}

static int show(const struct view *v, const struct request *r)
{
	int err = 0;

	switch (r->form) {
	case TEXT:
		err = status_text(v, r->exact,
				  r->mount ? "nothing of it is staged"
					   : "no keeper is running");
		break;
	case JSON:
		err = status_json(v);
		break;
	case METRICS:
		status_metrics(v);
		break;
	case CHECK:
		return status_check(v, r->max_age_ms);
	}
	if (err) {
		complain("status", "%s", strerror(-err));
		return EXIT_OWN;
	}
	return 0;
}

/* Said on standard error, too: the tables have no place for it. */
static int complain_of_keepers(const struct view *v)
{
	int status = 0;

	for (size_t i = 0; i < v->keepers; i++) {
		if (v->keeper[i].error) {
			conversation_complain("status", v->keeper[i].error, v->keeper[i].why);
			status = EXIT_OWN;
		}
	}
	return status;
}

static int status_of(const struct request *r)
{
	struct mount m;
	struct view v;
	int err, status;

	err = r->mount ? mount_find(r->mount, true, &m) : 0;
	if (err) {
		complain("status", "%s: %s", r->mount, strerror(-err));
		return EXIT_OWN;
	}
	err = view_take(&v, true);
	if (err) {
		complain("status", "%s", strerror(-err));
		return EXIT_OWN;
	}
	if (r->mount)
		view_keep_only(&v, &m);
	status = show(&v, r);
	if (r->form != CHECK)
		status = status ? status : complain_of_keepers(&v);
	view_free(&v);
	err = output_complete("status");
	return err ? err : status;
}

int status_main(int argc, char **argv)
{
	struct request r = { .max_age_ms = 60000 };
	int status = read_options(argc, argv, &r);

	if (status < 0)
		status = status_of(&r);
	/* A monitor takes 125 for trouble of its own making. */
	return status == EXIT_OWN && r.form == CHECK ? CHECK_UNKNOWN : status;
}
