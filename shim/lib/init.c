/* SPDX-License-Identifier: MIT */
/* The library's beginning, its end, and fork(). */
#include "lib/init.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "lib/board.h"
#include "lib/inflight.h"
#include "lib/keeper.h"
#include "lib/log.h"
#include "lib/ownfd.h"
#include "lib/real.h"
#include "lib/record.h"
#include "lib/space.h"
#include "lib/sync.h"
#include "lib/turn.h"

struct options options;
bool enabled;
uint64_t run_id;
const char *library_path = "";

static void before_fork(void)
{
	space_before_fork();
}

static void after_fork_parent(void)
{
	space_after_fork(false);
}

/* A copy of the process: what is between its parent and others is not its own. */
static void copied(void)
{
	inflight_after_fork();
	ownfd_after_fork();
	keeper_after_fork();
	turn_after_fork();
}

static void after_fork_child(void)
{
	copied();
	space_after_fork(true);
	record_after_fork();
}

static bool chosen(void)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return !options.only;
	exe[n] = '\0';
	if (options.only && !globs_match(options.only, exe))
		return false;
	return !options.exclude || !globs_match(options.exclude, exe);
}

/* What cannot be understood turns everything off: nothing is done on a guess. A program that is
 * not meant hears nothing of it, and opens no log. */
static bool read_environment(void)
{
	const char *text, *expected, *bad = NULL, *bad_expected = "";
	char value[256];
	bool log_ok;

	options_default(&options);
	for (size_t i = 0; i < option_count; i++) {
		text = getenv(option_table[i].variable);
		if (text && *text &&
		    option_set(&options, &option_table[i], text, &expected) < 0 && !bad) {
			bad = option_table[i].variable;
			bad_expected = expected;
		}
	}
	if ((options.mode == MODE_OFF && !bad) || !chosen())
		return false;
	log_ok = log_open(options.log);
	if (bad)
		log_event(
			EV_ERROR,
			"setting=%s value=\"%s\" reason=\"not understood; nothing will be staged\" "
			"remedy=\"set it to %s\"",
			bad, log_escape(value, sizeof(value), getenv(bad)), bad_expected);
	return !bad && log_ok;
}

/* The keeper's program lies beside it, wherever the program that we are in goes. */
static void find_library(void)
{
	static char path[PATH_MAX];
	Dl_info info;

	if (!dladdr((void *)(uintptr_t)find_library, &info) || !info.dli_fname)
		return;
	library_path = info.dli_fname;
	if (*library_path != '/' && realpath(library_path, path))
		library_path = path;
}

__attribute__((constructor)) static void start(void)
{
	const char *run;

	(void)real_bind();
	ownfd_begin();
	space_begin(copied);
	inflight_start(false);
	if (getauxval(AT_SECURE)) /* the environment is not its owner's */
		return;
	find_library();
	run = getenv("PINSTAGE_RUN");
	run_id = run ? strtoull(run, NULL, 16) : 0;
	if (!read_environment())
		return;
	record_start(options.log_args);
	if (options.mode == MODE_STAGE) {
		board_map();
		inflight_start(true);
	}
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
	/* The first to be registered is the last to run: the program's own may still write. */
	(void)at_quick_exit(process_ends);
	enabled = true;
}

void process_ends(void)
{
	(void)sync_files(NULL);
	record_end();
}

__attribute__((destructor)) static void end(void)
{
	process_ends();
}
