// SPDX-License-Identifier: MIT
/*
 * Several programs that share the file: the operations of a run are theirs by turns, which one
 * performs which goes by its number. So there is one order of all, and one array. After
 * an operation, or every few, the others compare what they see.
 */
#include "run.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/wait.h>

extern char **environ;

static struct {
	pid_t group; /* 0: it has ended */
	int turn;    /* the socket */
} programs[PROGRAMS];

/* The same for all subsets of a run's operations. */
static struct {
	unsigned n;
	unsigned eager; /* a bit for each that stages what it maps */
	unsigned burst; /* so many of the number's last bits do not say whose it is */
	unsigned look_every;
} style;

static void draw_style(void)
{
	static const unsigned burst[] = { 0, 0, 1, 3 }, every[] = { 1, 1, 1, 3, 10 };
	unsigned all, kind;

	choices_begin(shared->seed, 1u << 29);
	style.n = 2 + below(shared->set.programs - 1);
	all = (1u << style.n) - 1;
	kind = below(3);
	style.eager = kind == 0 ? 0 : kind == 1 ? all : below(all + 1);
	style.burst = burst[below(4)];
	style.look_every = every[below(5)];
}

/* False: it is gone, or hung. */
static bool answered(unsigned which, bool *ret_hung)
{
	char what;

	*ret_hung = !heard(programs[which].turn);
	return !*ret_hung && read(programs[which].turn, &what, 1) == 1;
}

/* Its processes are gone, or are to be. */
static bool ended(unsigned which, bool hung)
{
	const pid_t group = programs[which].group;

	close(programs[which].turn);
	programs[which].group = 0;
	shared->pending[which] = false;
	return end_group(group, hung);
}

static bool start(unsigned which)
{
	int ends[2];
	bool hung;

	shared->dying = false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return fail_run("socketpair");
	programs[which].turn = ends[0];
	programs[which].group = start_program(ends[1], which, style.eager >> which & 1);
	close(ends[1]);
	return answered(which, &hung) || ended(which, hung);
}

static bool tell(unsigned which, char what)
{
	return send(programs[which].turn, &what, 1, MSG_NOSIGNAL) == 1;
}

static bool look_from(unsigned but)
{
	bool hung = false;

	for (unsigned i = 0; i < style.n; i++) {
		if (i == but || !programs[i].group)
			continue;
		if ((!tell(i, LOOK) || !answered(i, &hung)) && !ended(i, hung))
			return false;
	}
	return true;
}

/* The next operation, and what there is to be seen of it. */
static bool turn(void)
{
	const unsigned number = shared->list[shared->next];
	unsigned which;
	bool look, hung = false;

	choices_begin(shared->seed, number >> style.burst | 1u << 30);
	which = below(style.n);
	choices_begin(shared->seed, number | 1u << 28);
	look = one_in(style.look_every);
	/* It may have been an operation that ends the program. */
	if ((!tell(which, TURN) || !answered(which, &hung)) &&
	    (!ended(which, hung) || !start(which)))
		return false;
	return !shared->failed && (!look || look_from(which));
}

static bool end_one(unsigned which)
{
	shared->finished = false;
	return tell(which, END) && heard(programs[which].turn) && ended(which, false) &&
	       look_from(which);
}

/* By the command, if there is one: then all that who was killed has written is in the file at
 * once, as it is of who ended otherwise. */
static bool sync_file(void)
{
	char path[300];
	char *const argv[] = { (char[]){ "pinstage" }, (char[]){ "sync" }, (char[]){ "--wait" },
			       path, NULL };
	int status = -1;
	pid_t pid;

	if (!(shared->set.features & F_COMMAND) || !shared->killed)
		return true;
	snprintf(path, sizeof(path), "%s", file_path());
	if (posix_spawn(&pid, shared->set.command, NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		return fail_run("pinstage sync --wait failed");
	shared->killed = false;
	return true;
}

static bool perform_all(void)
{
	unsigned first;

	for (unsigned i = 0; i < style.n; i++) {
		if (!start(i))
			return false;
	}
	while (shared->next < shared->nops) {
		if (!turn())
			return false;
	}
	choices_begin(shared->seed, 1u << 27);
	first = below(style.n);
	for (unsigned i = 0; i < style.n; i++) {
		if (!end_one((first + i) % style.n))
			return fail_run("it did not end");
	}
	return sync_file();
}

bool run_several(void)
{
	bool well;

	memset(programs, 0, sizeof(programs));
	draw_style();
	well = perform_all();
	for (unsigned i = 0; i < style.n; i++) {
		if (programs[i].group)
			ended(i, true);
	}
	return well && !shared->failed;
}
