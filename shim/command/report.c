/* SPDX-License-Identifier: MIT */
/* pinstage report: what the logs say, and what to do about it. */
#include "command/report.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command/command.h"
#include "command/logline.h"
#include "common/cleanup.h"
#include "common/util.h"

static const char usage[] =
	"usage: pinstage report [OPTION...] LOG...\n"
	"\n"
	"Says who pins file-backed memory, where, and what can be done about it, from logs that\n"
	"pinstage run --log or PINSTAGE_LOG made; - is standard input. One row for each executable,\n"
	"call site and file; where the logs are of several hosts, and file system.\n"
	"\n"
	"  --json\n"
	"        For programs.\n"
	"  --sort COLUMN\n"
	"        count (default), bytes, first, last, program or file.\n"
	"  --since TIME\n"
	"        Only what was seen then or later: 2026-11-24, 2026-11-24T23:57 (UTC), or how long ago:\n"
	"        90m, 12h, 7d.\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0; 1 if some of the logs cannot be read; 125 if none can, or if called wrongly.\n";

const char report_sort_columns[] = "count, bytes, first, last, program or file";

const char *outcome_name(enum outcome o)
{
	static const char *const name[] = { [OUTCOME_STAGED] = "staged",
					    [OUTCOME_LOGGED] = "logged",
					    [OUTCOME_DENIED] = "denied",
					    [OUTCOME_REFUSED] = "refused" };

	return name[o];
}

const char *report_time(char dst[REPORT_TIME_SIZE], uint64_t ns)
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(dst, REPORT_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(dst, "?");
	return dst;
}

/* Largest and latest first, names in their order. */
static const char *sort_by;

static int compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int c = 0;

	if (!strcmp(sort_by, "count"))
		c = (y->count > x->count) - (y->count < x->count);
	else if (!strcmp(sort_by, "bytes"))
		c = (y->bytes > x->bytes) - (y->bytes < x->bytes);
	else if (!strcmp(sort_by, "first"))
		c = (x->first > y->first) - (x->first < y->first);
	else if (!strcmp(sort_by, "last"))
		c = (y->last > x->last) - (y->last < x->last);
	else if (!strcmp(sort_by, "file"))
		c = strcmp(x->one->file, y->one->file);
	c = c ? c : strcmp(x->one->exe, y->one->exe);
	c = c ? c : strcmp(x->one->file, y->one->file);
	return c ? c : (x->first > y->first) - (x->first < y->first);
}

int report_sort(struct report *r, const char *by)
{
	static const char *const known[] = { "count", "bytes",	 "first",
					     "last",  "program", "file" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(by, known[i]) != 0)
			continue;
		sort_by = by;
		if (r->rows)
			qsort(r->row, r->rows, sizeof(*r->row), compare);
		return 0;
	}
	return -EINVAL;
}

static bool parse_since(const char *text, uint64_t *ret_ns)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} ago[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	unsigned long long n;
	char *end;

	n = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
	for (size_t i = 0; i < ARRAY_SIZE(ago) && n && n < 1000000; i++) {
		if (end[0] != ago[i].unit || end[1])
			continue;
		*ret_ns = ((uint64_t)time(NULL) - n * ago[i].seconds) * 1000000000;
		return true;
	}
	return logline_time(text, ret_ns);
}

static int read_log(struct report *r, const char *path)
{
	const bool input = !strcmp(path, "-");
	FILE *f = input ? stdin : fopen(path, "re");
	cleanup_free char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int err = 0;

	if (!f)
		return -errno;
	while (!err && (errno = 0, n = getline(&line, &room, f)) >= 0) {
		if (n && line[n - 1] == '\n')
			line[--n] = '\0';
		err = report_take(r, line, (size_t)n);
	}
	if (!err && ferror(f))
		err = errno ? -errno : -EIO;
	if (!input)
		fclose(f);
	return err;
}

static int read_logs(struct report *r, char **path)
{
	unsigned good = 0, bad = 0;
	int err;

	for (; *path; path++) {
		err = read_log(r, *path);
		if (err)
			complain("report", "%s: %s", *path, strerror(-err));
		if (err == -ENOMEM)
			return EXIT_OWN;
		good += !err;
		bad += err != 0;
	}
	return !good ? EXIT_OWN : bad ? 1 : 0;
}

static int print(struct report *r, bool json, const char *sort, uint64_t since)
{
	struct symbols *s = symbols_open();
	int err = s ? report_group(r, since) : -ENOMEM;

	if (!err)
		(void)report_sort(r, sort); /* was checked */
	if (!err)
		err = json ? report_print_json(r, s) : report_print_text(r, s);
	symbols_close(s);
	if (err) {
		complain("report", "%s", strerror(-err));
		return EXIT_OWN;
	}
	return output_complete("report");
}

int report_main(int argc, char **argv)
{
	static const struct option opts[] = { { "json", no_argument, NULL, 'j' },
					      { "sort", required_argument, NULL, 's' },
					      { "since", required_argument, NULL, 't' },
					      { "help", no_argument, NULL, 'h' },
					      { "version", no_argument, NULL, 'V' },
					      { 0 } };
	struct report r = { 0 };
	const char *sort = "count";
	uint64_t since = 0;
	bool json = false;
	int c, status, printed;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) >= 0) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 's':
			sort = optarg;
			if (report_sort(&r, sort) == 0)
				break;
			complain("report", "--sort: '%s' is not one of %s", sort,
				 report_sort_columns);
			return EXIT_OWN;
		case 't':
			if (parse_since(optarg, &since))
				break;
			complain("report",
				 "--since: '%s' is not understood; see pinstage report --help",
				 optarg);
			return EXIT_OWN;
		case 'h':
			return print_and_check(usage);
		case 'V':
			return print_version();
		default:
			return EXIT_OWN;
		}
	}
	if (optind == argc) {
		complain("report", "no log given; see pinstage report --help");
		return EXIT_OWN;
	}
	status = read_logs(&r, argv + optind);
	printed = status == EXIT_OWN ? 0 : print(&r, json, sort, since);
	report_free(&r);
	return printed ? printed : status;
}
