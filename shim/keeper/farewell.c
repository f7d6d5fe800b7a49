/* SPDX-License-Identifier: MIT */
/* Told to end, by SIGTERM or SIGINT. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "keeper/keeper.h"
#include "keeper/server.h"

static volatile sig_atomic_t told_to_end;
static uint64_t ending_since; /* ms; 0: we are not */
static bool said_what_is_held;

static void note_end(int sig)
{
	const int saved = errno;

	(void)sig;
	told_to_end = 1;
	(void)eventfd_write(keeper.event, 1);
	errno = saved;
}

/* In whatever state the guardian was when it forked us. */
void farewell_prepare(void)
{
	struct sigaction act = { .sa_handler = note_end, .sa_flags = SA_RESTART };
	sigset_t none;

	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* What we would drop now, to the log. */
static void say_what_is_held(void)
{
	const struct stage *s, *which = NULL;
	unsigned files = 0;

	LIST_FOREACH(s, &keeper.stages, link) {
		files++;
		if (!which || s->error)
			which = s;
	}
	if (which && which->error)
		keeper_say("told to end, but goes on: of %u files, %lu bytes, not all can be "
			   "written: %s: %s",
			   files, keeper.staged, which->name, strerror(-which->error));
	else if (which)
		keeper_say(
			"told to end, and will when it is let go: holds %lu bytes of %u files "
			"that are in use, %s among them",
			keeper.staged, files, which->name);
}

/* Told to end, we write everything, and stay for what cannot be written, or may yet change.
 * Returns whether it is time. */
bool farewell_done(void)
{
	struct stage *s;
	bool busy = false;

	if (told_to_end) {
		told_to_end = 0;
		ending_since = now_ms();
		said_what_is_held = false;
		keeper.durable_passes = true;
		LIST_FOREACH(s, &keeper.stages, link)
			lane_post_pass(s);
	}
	if (!ending_since)
		return false;
	LIST_FOREACH(s, &keeper.stages, link)
		busy |= s->busy || s->queued;
	if (!said_what_is_held && (!busy || now_ms() - ending_since > 1000)) {
		said_what_is_held = true;
		say_what_is_held();
	}
	return LIST_EMPTY(&keeper.stages);
}

bool farewell_pending(void)
{
	return ending_since && !said_what_is_held;
}
