/* SPDX-License-Identifier: MIT */
/* pinstage release: lets go of a file system, so that it can be unmounted, or says who cannot.
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <time.h>

#include "command/command.h"
#include "command/conversation.h"
#include "command/format.h"
#include "command/mount.h"
#include "command/syncing.h"
#include "command/view.h"
#include "common/options.h"

#define NOBODY_MS 10000
#define PAUSE_MS  50 /* between two looks at whether it is let go */

static const char usage[] =
	"usage: pinstage release [--timeout S] PATH\n"
	"\n"
	"Syncs what is staged of the file system that PATH is on, or of PATH alone if it is a file, and\n"
	"waits until no keeper holds any of it: then nothing of pinstage's keeps the file system from\n"
	"being unmounted. What a program has mapped, or a device still uses, cannot be let go; then a\n"
	"line for each file says by whom.\n"
	"\n"
	"  --timeout S  how long to wait for what nobody uses any more to be let go (10), and, as root,\n"
	"               for another user's keeper to sync (60)\n"
	"\n"
	"Exit status: 0 if all was let go, or nothing was held; 1 if not; 125 if a keeper cannot be\n"
	"asked, or the command was called wrongly.\n";

static const struct option options[] = { { "timeout", required_argument, NULL, 't' },
					 { "help", no_argument, NULL, 'h' },
					 { "version", no_argument, NULL, 'V' },
					 { 0 } };

/* Returns -1, or what to exit with. */
static int read_options(int argc, char **argv, uint64_t *timeout_ms)
{
	const char *expected;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
		if (c == 'h')
			return print_and_check(usage);
		if (c == 'V')
			return print_version();
		if (c != 't')
			return wrong_option(argv, c);
		if (option_parse(OPTION_SECONDS, optarg, timeout_ms, &expected) < 0) {
			complain("release", "--timeout: '%s' is not understood; expected: %s",
				 optarg, expected);
			return EXIT_OWN;
		}
	}
	if (argc - optind == 1)
		return -1;
	if (argc == optind)
		complain("release", "no path given; see pinstage release --help");
	else
		complain("release", "unknown argument '%s'; see pinstage release --help",
			 argv[optind + 1]);
	return EXIT_OWN;
}

static bool wanted(const struct view_file *f, const void *arg)
{
	return mount_has(arg, f->key, f->name);
}

static int take(struct view *v, const struct mount *m)
{
	int err = view_take(v, true);

	if (!err)
		view_keep_only(v, m);
	else
		complain("release", "%s", strerror(-err));
	return err;
}

static size_t files(const struct view *v, bool unused_only)
{
	size_t n = 0;

	for (size_t k = 0; k < v->keepers; k++)
		for (size_t i = 0; i < v->keeper[k].files; i++)
			n += !unused_only || v->keeper[k].file[i].pids == 0;
	return n;
}

static void say_who(const struct view_keeper *k, const struct view_file *f)
{
	char name[1024], users[512], user[64];

	format_name(f->name[0] ? f->name : "a file", name, sizeof(name));
	users_text(f->pid, f->pids, users, sizeof(users));
	format_user(k->uid, user, sizeof(user));
	if (f->error)
		complain("release",
			 "%s: cannot be written: %s (errno %d); the keeper of %s holds "
			 "it and goes on trying",
			 name, strerror(-f->error), -f->error, user);
	else if (f->pids)
		complain("release", "%s: mapped by %s", name, users);
	else
		complain("release",
			 "%s: no process of %s has it mapped, but a device or io_uring "
			 "still holds it",
			 name, user);
}

/* What nobody uses is let go by the keeper's next passes. */
static int wait_for_end(struct view *v, const struct mount *m, uint64_t timeout_ms)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	uint64_t waited = 0;
	int err = 0;

	while (!err && files(v, true) && waited < timeout_ms) {
		nanosleep(&pause, NULL);
		waited += PAUSE_MS;
		view_free(v);
		err = take(v, m);
	}
	return err;
}

static int release(const struct mount *m, uint64_t timeout_ms, uint64_t others_ms)
{
	struct view v;
	int status;

	if (take(&v, m))
		return EXIT_OWN;
	status = sync_view("release", &v, wanted, m, others_ms, false);
	if (status != EXIT_OWN && wait_for_end(&v, m, timeout_ms))
		return EXIT_OWN;
	for (size_t k = 0; k < v.keepers; k++)
		for (size_t i = 0; i < v.keeper[k].files; i++)
			say_who(&v.keeper[k], &v.keeper[k].file[i]);
	if (status != EXIT_OWN)
		status = files(&v, false) ? 1 : 0;
	view_free(&v);
	return status;
}

int release_main(int argc, char **argv)
{
	uint64_t given_ms = UINT64_MAX;
	struct mount m;
	int status = read_options(argc, argv, &given_ms), err;

	if (status >= 0)
		return status;
	err = mount_find(argv[optind], false, &m);
	if (!err)
		return given_ms != UINT64_MAX ? release(&m, given_ms, given_ms)
					      : release(&m, NOBODY_MS, OTHERS_MS);
	complain("release", "%s: %s", argv[optind], strerror(-err));
	return EXIT_OWN;
}
