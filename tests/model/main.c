// SPDX-License-Identifier: MIT
/*
 * model [--dir DIR] [--shim LIBRARY] [--seed N] [--runs N] [--seconds N] [--ops N]
 *       [--without NAMES] [--no-pins-refused] [--patience N] [--list N,N,...]
 *       [--programs N] [--command PINSTAGE]
 *
 * Each run performs `ops` operations on a file in DIR in a process of its own, with the shim
 * preloaded if there is one, and is reproduced by its seed. The supervisor itself never has
 * the shim; it has the last look at the file. A failing run is shrunk, and its operations are
 * printed. --list performs only these operations of a run. A run that hangs for
 * --patience seconds has failed, and so have runs with the shim in which registrations were
 * mostly refused.
 *
 * --programs: the operations are those of two and up to so many programs, one after the other.
 * --command is `pinstage`, which is then called, too.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct {
	uint64_t seed, runs;
	unsigned seconds, ops, patience;
	const char *list;
} options = { .seed = 1, .runs = 1, .ops = 1000, .patience = 40 };

static const char *shim;
static int shared_fd;

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool fail_run(const char *what)
{
	if (!shared->failed)
		snprintf(shared->failure, sizeof(shared->failure), "%s", what);
	shared->failed = true;
	return false;
}

/* ---- the last look ---- */

static bool same_content(int fd, char *why, size_t len)
{
	static unsigned char buf[MAX_SIZE + 1];
	ssize_t got = pread(fd, buf, sizeof(buf), 0);

	if (got != (ssize_t)shared->size) {
		snprintf(why, len, "afterwards the file has %zd bytes, not %zu", got,
			 shared->size);
		return false;
	}
	for (size_t i = 0; i < shared->size; i++) {
		if (buf[i] == shared->content[i])
			continue;
		snprintf(why, len, "afterwards the file has %02x at %zu, not %02x (size %zu)",
			 buf[i], i, shared->content[i], shared->size);
		return false;
	}
	return true;
}

/* Holes in which nothing was written are holes. */
static bool same_holes(int fd, char *why, size_t len)
{
	if (!(shared->set.features & F_HOLES))
		return true;
	/* Pages in the cache count as data where space is reserved beyond the end. */
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (off_t at = 0, end; (at = lseek(fd, at, SEEK_DATA)) >= 0; at = end) {
		end = lseek(fd, at, SEEK_HOLE);
		for (off_t page = at / (off_t)PAGE; page * (off_t)PAGE < end; page++) {
			if (page < (off_t)MAX_PAGES && shared->hole[page]) {
				snprintf(why, len,
					 "afterwards page %lld is no hole any more (size %zu)",
					 (long long)page, shared->size);
				return false;
			}
		}
	}
	return true;
}

static bool look(void)
{
	int fd = open(file_path(), O_RDWR | O_CLOEXEC);
	uint64_t until = now_ms() + (shared->killed ? 20000 : 0);
	char why[200] = "the file is gone";
	bool same;

	if (fd < 0)
		return fail_run(why);
	while (!(same = same_content(fd, why, sizeof(why))) && now_ms() < until)
		poll(NULL, 0, 5);
	same = same && same_holes(fd, why, sizeof(why));
	close(fd);
	return same || fail_run(why);
}

/* ---- one run ---- */

static void child_exec(int life, unsigned which, bool eager)
{
	char number[16], life_number[16], which_number[16];
	char *const argv[] = { (char[]){ "model" }, (char[]){ "--perform" }, number, NULL };

	snprintf(number, sizeof(number), "%d", shared_fd);
	snprintf(life_number, sizeof(life_number), "%d", life);
	setenv("MODEL_SHARED", number, 1);
	setenv("MODEL_LIFE", life_number, 1);
	snprintf(which_number, sizeof(which_number), "%u", which);
	setenv("MODEL_PROGRAM", which_number, 1);
	fcntl(life, F_SETFD, 0);
	if (eager)
		setenv("PINSTAGE_EAGER", "*/model.*", 1);
	if (shim)
		setenv("LD_PRELOAD", shim, 1);
	setpgid(0, 0);
	personality(ADDR_NO_RANDOMIZE); /* neighbours are the same each time */
	execv("/proc/self/exe", argv);
	_exit(127);
}

pid_t start_program(int life, unsigned which, bool eager)
{
	pid_t pid = fork();

	if (pid == 0)
		child_exec(life, which, eager);
	if (pid > 0)
		setpgid(pid, pid); /* whoever is first */
	return pid;
}

bool end_group(pid_t group, bool hung)
{
	char what[64] = "it hung";
	int status, last = 0;

	if (hung)
		kill(-group, SIGKILL);
	while (waitpid(-group, &status, 0) > 0) {
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
			last = WTERMSIG(status);
	}
	if (!hung && last)
		snprintf(what, sizeof(what), "ended by signal %d", last);
	if (hung || last)
		return fail_run(what);
	if (!shared->failed && !shared->finished && !shared->dying)
		return fail_run("it ended early");
	return !shared->failed;
}

bool heard(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	uint64_t since = now_ms();
	unsigned lines = 0;

	while (poll(&pfd, 1, 100) != 1) {
		if (lines != shared->lines) {
			lines = shared->lines;
			since = now_ms();
		}
		if (now_ms() > since + options.patience * 1000ull)
			return false;
	}
	return true;
}

/* All processes of the run hold the pipe's other end. */
static bool run_alone(void)
{
	int ends[2];
	pid_t group;
	bool hung;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail_run("pipe2");
	group = start_program(ends[1], 0, false);
	close(ends[1]);
	hung = !heard(ends[0]);
	close(ends[0]);
	return end_group(group, hung);
}

bool run_once(void)
{
	shared->next = shared->lines = 0;
	shared->depth = 0;
	shared->cut_forbidden = false;
	shared->failed = shared->finished = shared->keeper_killed = shared->killed = false;
	shared->begun = shared->dying = false;
	memset(shared->log, 0, sizeof(shared->log));
	memset(shared->pending, 0, sizeof(shared->pending));
	return (several() ? run_several() : run_alone()) && look();
}

/* ---- the whole ---- */

static void report_failure(void)
{
	unsigned first_nops = shared->nops;
	char failure[sizeof(shared->failure)];

	printf("seed %llu: %s\n", (unsigned long long)shared->seed, shared->failure);
	snprintf(failure, sizeof(failure), "%s", shared->failure);
	fflush(stdout);
	if (!options.list)
		shrink(60);
	printf("shrunk from %u to %u operations: %s\n", first_nops, shared->nops,
	       shared->failed ? shared->failure : "(not again)");
	for (unsigned i = 0; i < MAX_OPS && shared->log[i][0]; i++)
		printf("  %s\n", shared->log[i]);
	printf("again: --seed %llu --ops %u ", (unsigned long long)shared->seed, options.ops);
	if (several())
		printf("--programs %u --command '%s' ", shared->set.programs,
		       shared->set.command);
	printf("--list ");
	for (unsigned i = 0; i < shared->nops; i++)
		printf("%s%u", i ? "," : "", shared->list[i]);
	printf("\n");
}

static void make_list(void)
{
	const char *p = options.list;
	char *end;

	shared->nops = 0;
	for (unsigned i = 0; !p && i < options.ops; i++)
		shared->list[shared->nops++] = i;
	for (; p && *p && shared->nops < MAX_OPS; p = *end ? end + 1 : end)
		shared->list[shared->nops++] = (unsigned)strtoul(p, &end, 10);
}

static unsigned feature(const char *name)
{
	static const char *const names[] = { "keeper", "fallocate", "shape",   "copy",
					     "name",   "fork",	    "kill",    "exec",
					     "direct", "holes",	    "dontfork" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0)
			return 1u << i;
	}
	fprintf(stderr, "model: no feature '%s'\n", name);
	exit(2);
}

static void parse(int argc, char **argv)
{
	struct settings *set = &shared->set;

	set->features = F_SEVERAL - 1;
	set->refuses = true;
	set->programs = 1;
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--no-pins-refused") == 0) {
			set->refuses = false;
			set->features &= ~(unsigned)F_HOLES;
			continue;
		}
		if (strcmp(argv[i], "--dir") == 0)
			snprintf(set->dir, sizeof(set->dir), "%s", value);
		else if (strcmp(argv[i], "--shim") == 0)
			shim = value;
		else if (strcmp(argv[i], "--seed") == 0)
			options.seed = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--runs") == 0)
			options.runs = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--seconds") == 0)
			options.seconds = (unsigned)atoi(value);
		else if (strcmp(argv[i], "--ops") == 0)
			options.ops = (unsigned)atoi(value);
		else if (strcmp(argv[i], "--patience") == 0)
			options.patience = (unsigned)atoi(value);
		else if (strcmp(argv[i], "--list") == 0)
			options.list = value;
		else if (strcmp(argv[i], "--programs") == 0)
			set->programs = (unsigned)atoi(value);
		else if (strcmp(argv[i], "--command") == 0)
			snprintf(set->command, sizeof(set->command), "%s", value);
		else if (strcmp(argv[i], "--without") == 0)
			for (char *n = strtok(argv[i + 1], ","); n; n = strtok(NULL, ","))
				set->features &= ~feature(n);
		else {
			fprintf(stderr, "model: what is %s?\n", argv[i]);
			exit(2);
		}
		i++;
	}
	if (options.ops > MAX_OPS)
		options.ops = MAX_OPS;
	set->shim = shim != NULL;
	if (set->programs > PROGRAMS)
		set->programs = PROGRAMS;
	if (several())
		set->features |= F_SEVERAL | (set->command[0] ? F_COMMAND : 0);
}

/* A library that stages nothing agrees with the model, too. Few operations may have been
 * unlucky.
 */
static bool staged_enough(unsigned long operations)
{
	/* Of several programs one often has natively mapped what another one registers. */
	unsigned refused = several() ? shared->refused / 20 : shared->refused;

	if (!shared->set.shim || !shared->set.refuses || options.list || operations < 2000 ||
	    (shared->staged && shared->staged >= refused && (shared->met || !several())))
		return true;
	printf("too little was staged: the library was hardly tried\n");
	return false;
}

static void report(uint64_t runs, unsigned long operations, uint64_t since)
{
	uint64_t ms = now_ms() - since;

	printf("%lu operations in %llu runs (seeds %llu..%llu), %lu a second: %u registrations, %u refused, "
	       "%u transfers, %u of them late, %u comparisons\n",
	       operations, (unsigned long long)runs, (unsigned long long)options.seed,
	       (unsigned long long)(options.seed + runs - 1), operations * 1000 / (ms ? ms : 1),
	       shared->staged, shared->refused, shared->transfers + shared->late_transfers,
	       shared->late_transfers, shared->compared);
	if (several() && shared->set.shim)
		printf("%u looks at memory that was staged, after another program's turn\n",
		       shared->met);
	for (unsigned i = 0; getenv("V") && op_name(i); i++)
		printf("  %8u %s\n", shared->times[i], op_name(i));
}

static void map_shared(int fd)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) {
		perror("model: mmap");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	unsigned long operations = 0;
	uint64_t since, runs;

	if (argc == 3 && strcmp(argv[1], "--perform") == 0) {
		map_shared(atoi(argv[2]));
		return perform();
	}
	/* Not close-on-exec: the performer takes it over. */
	shared_fd = memfd_create("model", 0);
	if (shared_fd < 0 || ftruncate(shared_fd, sizeof(*shared)) < 0)
		return 2;
	map_shared(shared_fd);
	parse(argc, argv);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	since = now_ms();
	for (runs = 0; options.seconds ? now_ms() - since < options.seconds * 1000ull
				       : runs < options.runs;
	     runs++) {
		shared->seed = options.seed + runs;
		make_list();
		if (!run_once()) {
			report_failure();
			return 1;
		}
		operations += shared->nops;
	}
	report(runs, operations, since);
	return staged_enough(operations) ? 0 : 1;
}
