// SPDX-License-Identifier: MIT
/* The keeper is killed: of one program alone its worker, of several the guardian, too. */
#include "model.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKER	 "pinstage-keeper"
#define GUARDIAN "pinstage-guard"
#define PATIENCE 5000 /* ms */

/* How many processes have that name; kills them, if asked to. */
static unsigned named(const char *name, bool kill_them)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	char path[300], comm[32], state;
	unsigned n = 0;

	while (dir && (entry = readdir(dir))) {
		pid_t pid = atoi(entry->d_name);
		FILE *file;

		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%*d (%31[^)]) %c", comm, &state) == 2 &&
		    strcmp(comm, name) == 0 && state != 'Z' && state != 'X') {
			n++;
			if (kill_them)
				kill(pid, SIGKILL);
		}
		fclose(file);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* Both processes of the keeper killed at once are the documented exception: each is there again
 * before the other one is killed. Nothing tells when a new guardian has all. */
static void settle(void)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	for (unsigned ms = 0; ms < PATIENCE; ms += 5) {
		nanosleep(&pause, NULL);
		if ((named(WORKER, false) == 1) == (named(GUARDIAN, false) == 1))
			break;
	}
	nanosleep(&pause, NULL);
}

void op_kill_keeper(void)
{
	const char *name = WORKER;

	if (several()) {
		name = one_in(2) ? WORKER : GUARDIAN;
		settle();
	}
	say(" %s: %u", name, named(name, true));
	/* Program and keeper killed together is the documented exception; its worker alone is
	 * none where the guardian is known to be there. */
	shared->keeper_killed = !several();
}
