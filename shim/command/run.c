/* SPDX-License-Identifier: MIT */
/* pinstage run: a program with the library preloaded, and its data in its files afterwards. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command/child.h"
#include "command/command.h"
#include "command/conversation.h"
#include "command/place.h"
#include "command/program.h"
#include "command/settings.h"
#include "common/cleanup.h"

#define GRACE_MS 10000 /* for an answer that has a time of its own */

/* Finds the program and says what stands in its way. Returns -1, or what to exit with. */
static int check_program(const char *name, char *path, size_t size)
{
	struct verdict v;
	int err = program_find(name, path, size);

	if (err == -ENOENT) {
		complain("run", "%s: not found", name);
		return EXIT_NOT_FOUND;
	}
	if (err) {
		complain("run", "%s: cannot be executed: %s", name, strerror(-err));
		return EXIT_CANNOT;
	}
	program_judge(path, &v);
	if (v.objection) {
		complain("run", "%s %s; run it without pinstage", v.file, v.objection);
		return EXIT_OWN;
	}
	return -1;
}

static int find_parts(struct place *place)
{
	int err = place_find(place);

	if (err) {
		complain(
			"run",
			"cannot find libpinstage.so: %s; install it where the command expects it",
			strerror(-err));
		return EXIT_OWN;
	}
	/* The loader knows no way to quote them. */
	if (strpbrk(place->library, " :$")) {
		complain(
			"run",
			"%s: LD_PRELOAD cannot name a path with a space, ':' or '$'; install it elsewhere",
			place->library);
		return EXIT_OWN;
	}
	return -1;
}

static int set_environment(const char *library, uint64_t run)
{
	const char *others = getenv("LD_PRELOAD");
	cleanup_free char *preload = NULL;
	char hex[24];

	snprintf(hex, sizeof(hex), "%016" PRIx64, run);
	if (asprintf(&preload, "%s%s%s", library, others && *others ? ":" : "",
		     others ? others : "") < 0 ||
	    setenv("LD_PRELOAD", preload, 1) < 0 || setenv("PINSTAGE_RUN", hex, 1) < 0) {
		complain("run", "%s", strerror(ENOMEM));
		return EXIT_OWN;
	}
	return -1;
}

/* The program is run even if there is no keeper: it may not need one. If it does, nothing is
 * staged, and the library says so. */
static int meet_keeper(const char *keeper)
{
	enum reason why;
	int fd = conversation_open_or_start(keeper, &why);

	if (fd < 0)
		conversation_complain("run", fd, why);
	return fd;
}

static int not_released(const struct msg *m, uint64_t waited_ms)
{
	const char *file = m->text[0] ? m->text : "a file";

	if (m->reason == REASON_WRITE_BACK)
		complain(
			"run",
			"%s: not all that was staged could be written: %s (errno %d); the keeper holds it and "
			"goes on trying: make room or repair the device, then see pinstage status",
			file, strerror(-m->error), -m->error);
	else
		complain(
			"run",
			"%s: still in use %g s after the program ended: %s (errno %d); a process that it left "
			"behind, or a device, holds it: see pinstage status, and --sync-timeout",
			file, (double)waited_ms / 1000, strerror(-m->error), -m->error);
	return EXIT_OWN;
}

static int ask_for_release(int sock, struct msg *m, uint64_t run, uint64_t timeout_ms)
{
	msg_init(m, MSG_WAIT);
	m->run = run;
	m->arg[0] = timeout_ms;
	return conversation_ask(sock, m, (int)timeout_ms + GRACE_MS);
}

/* Until everything that the run staged is in its files and let go. Returns 0 or EXIT_OWN. */
static int wait_for_release(int *sock, uint64_t run, uint64_t timeout_ms)
{
	enum reason why;
	struct msg m;
	int err;

	err = ask_for_release(*sock, &m, run, timeout_ms);
	if (err == -EPIPE || err == -ECONNRESET) {
		/* It was killed. The library has then met another one and told it everything.
		 */
		close(*sock);
		*sock = conversation_open(&why);
		err = *sock < 0 ? -ECONNRESET : ask_for_release(*sock, &m, run, timeout_ms);
	}
	if (!err)
		return m.error ? not_released(&m, timeout_ms) : 0;
	if (err == -ETIMEDOUT)
		complain(
			"run",
			"the keeper does not answer; what was staged may not be in its files yet: see "
			"pinstage status");
	else
		complain(
			"run",
			"the keeper was ended while the program ran; what was staged may not be in its "
			"files: check them (%s)",
			strerror(-err));
	return EXIT_OWN;
}

static int exit_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status)
					: WEXITSTATUS(wait_status);
}

static int cannot_execute(const char *name, int err)
{
	/* It was there a moment ago. */
	complain("run", "%s: cannot be executed: %s", name,
		 err == -ENOENT ? "its interpreter or loader does not exist" : strerror(-err));
	return err == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT;
}

int run_main(int argc, char **argv)
{
	cleanup_fd int keeper = -1;
	char path[PATH_MAX];
	struct settings s;
	struct place place;
	struct child child;
	uint64_t run = 0;
	int status;

	status = settings_read(&s, argc, argv);
	if (status < 0)
		status = find_parts(&place);
	if (status < 0)
		status = check_program(s.program[0], path, sizeof(path));
	while (status < 0 && run == 0) /* 0 means none */
		if (getrandom(&run, sizeof(run), 0) < 0)
			run = (uint64_t)getpid();
	if (status < 0)
		status = set_environment(place.library, run);
	if (status >= 0)
		return status;
	/* Beforehand, and by us: a program that is a subreaper would find the keeper among its
	 * children. Kept open, so that the keeper stays. */
	if (s.mode == MODE_STAGE)
		keeper = meet_keeper(place.keeper);
	status = child_start(&child, path, s.program);
	if (status < 0)
		return cannot_execute(s.program[0], status);
	status = exit_status(child_wait(&child));
	if (keeper >= 0 && wait_for_release(&keeper, run, s.sync_timeout_ms) && status == 0)
		status = EXIT_OWN;
	return status;
}
