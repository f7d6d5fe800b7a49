/* SPDX-License-Identifier: MIT */
#include "command/settings.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "common/cleanup.h"

const struct option_row run_option_table[] = {
	{ NULL, OPTION_SECONDS, "60", "sync-timeout", "SECONDS",
	  "How long to wait, after the program has ended, until everything that it staged has "
	  "reached its files.",
	  0 },
};
const size_t run_option_count = 1;

/* Values of getopt_long(): rows of the common table, then those of ours. */
#define VALUE_FIRST   256
#define VALUE_HELP    'h'
#define VALUE_VERSION 'V'

static const struct option_row *row_at(size_t i)
{
	return i < option_count ? &option_table[i] : &run_option_table[i - option_count];
}

static struct option *long_options(void)
{
	const size_t n = option_count + run_option_count;
	struct option *o = calloc(n + 3, sizeof(*o));

	for (size_t i = 0; o && i < n; i++)
		o[i] = (struct option){ row_at(i)->option, required_argument, NULL,
					VALUE_FIRST + (int)i };
	if (o) {
		o[n] = (struct option){ "help", no_argument, NULL, VALUE_HELP };
		o[n + 1] = (struct option){ "version", no_argument, NULL, VALUE_VERSION };
	}
	return o;
}

static void print_wrapped(const char *text, int indent, int width)
{
	int column = 0, len;

	for (; *text; text += len + (text[len] == ' ')) {
		len = (int)strcspn(text, " ");
		if (column && column + 1 + len > width) {
			putchar('\n');
			column = 0;
		}
		column += printf("%*s%.*s", column ? 1 : indent, "", len, text);
	}
	putchar('\n');
}

static int help(void)
{
	const struct option_row *row;
	char text[512];

	puts("usage: pinstage run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	     "\n"
	     "Runs PROGRAM with libpinstage.so preloaded, and returns its exit status when everything\n"
	     "that it staged has reached its files.\n");
	for (size_t i = 0; i < option_count + run_option_count; i++) {
		row = row_at(i);
		printf("  --%s %s\n", row->option, row->arg);
		snprintf(text, sizeof(text), row->def ? "%s Default: %s." : "%s", row->help,
			 row->def);
		print_wrapped(text, 8, 80);
	}
	puts("  --help\n"
	     "        Print this.\n"
	     "  --version\n"
	     "        Print the version.\n"
	     "\n"
	     "Exit status: the program's; 128+N if signal N ended it; 125 if pinstage failed, or if the\n"
	     "program returned 0 but its data could not be written; 126 if the program cannot be\n"
	     "executed; 127 if it was not found.");
	return output_complete("run");
}

/* The program may change its directory before it reads this. */
static int set_log(const char *text)
{
	cleanup_free char *path = NULL;
	char here[PATH_MAX];

	if (text[0] == '/' || !strcmp(text, "stderr"))
		return setenv("PINSTAGE_LOG", text, 1) < 0 ? -errno : 0;
	if (!getcwd(here, sizeof(here)))
		return -errno;
	if (asprintf(&path, "%s/%s", here, text) < 0)
		return -ENOMEM;
	return setenv("PINSTAGE_LOG", path, 1) < 0 ? -errno : 0;
}

static int take(struct settings *s, const struct option_row *row, const char *text)
{
	struct options ignored;
	const char *expected;
	int err;

	if (row->variable)
		err = option_set(&ignored, row, text, &expected);
	else
		err = option_parse(row->type, text, &s->sync_timeout_ms, &expected);
	if (err) {
		complain("run", "--%s: '%s' is not understood; expected: %s", row->option, text,
			 expected);
		return EXIT_OWN;
	}
	if (row->variable && !strcmp(row->option, "log"))
		err = set_log(text);
	else if (row->variable && setenv(row->variable, text, 1) < 0)
		err = -errno;
	if (err) {
		complain("run", "--%s: %s", row->option, strerror(-err));
		return EXIT_OWN;
	}
	return -1;
}

static int wrong_run_option(int c, char **argv, int at)
{
	if (c == ':')
		complain("run", "%s needs a value; see pinstage run --help", argv[optind - 1]);
	else if (optopt && optopt < VALUE_FIRST && optopt != VALUE_HELP &&
		 optopt != VALUE_VERSION)
		complain("run", "unknown option '-%c'; see pinstage run --help", optopt);
	else
		complain("run", "unknown or ambiguous option '%s'; see pinstage run --help",
			 argv[at]);
	return EXIT_OWN;
}

static enum mode mode_in_force(void)
{
	const char *text = getenv("PINSTAGE_MODE"), *expected;
	enum mode mode;

	if (!text || option_parse(OPTION_MODE, text, &mode, &expected) < 0)
		return MODE_STAGE;
	return mode;
}

int settings_read(struct settings *ret, int argc, char **argv)
{
	cleanup_free struct option *opts = long_options();
	const char *expected;
	int c, at, status;

	if (!opts) {
		complain("run", "%s", strerror(ENOMEM));
		return EXIT_OWN;
	}
	(void)option_parse(OPTION_SECONDS, run_option_table[0].def, &ret->sync_timeout_ms,
			   &expected);
	opterr = 0;
	while (at = optind, (c = getopt_long(argc, argv, "+:", opts, NULL)) >= 0) {
		if (c == VALUE_HELP)
			return help();
		if (c == VALUE_VERSION)
			return print_version();
		if (c < VALUE_FIRST)
			return wrong_run_option(c, argv, at);
		status = take(ret, row_at((size_t)(c - VALUE_FIRST)), optarg);
		if (status >= 0)
			return status;
	}
	if (optind == argc) {
		complain("run", "no program given; see pinstage run --help");
		return EXIT_OWN;
	}
	ret->program = argv + optind;
	ret->mode = mode_in_force();
	return -1;
}
