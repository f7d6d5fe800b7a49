// SPDX-License-Identifier: MIT
/*
 * storm DIR KILLS SECONDS RECORDER
 *
 * Kills programs (RECORDER, with the shim) and keepers at random moments until KILLS were
 * killed or SECONDS are over. After each end:
 *
 *   - what msync() had confirmed is in the file, at once and whatever was killed;
 *   - what was stored is in the file a moment later, unless the program and both processes of
 *     the keeper were killed in quick succession: the one exception that is documented;
 *   - every record is whole, but for the one that a thread was just storing;
 *   - where nothing was written, the file is still a hole's zeroes.
 *
 * To be run in a process namespace of its own: every keeper that is found is ours.
 */
#include <dirent.h>
#include <spawn.h>
#include <time.h>

#include "record.h"
#include "testlib.h"

#define PATIENCE_MS 60000

static unsigned program_kills, keeper_kills, rounds, lost_both;
static uint64_t stored, confirmed, swaps;
static unsigned seed;
static char data[4096], tally[4096];
static struct counts *counts;
static pid_t program;

/* What is killed, and in which order. */
enum plan {
	PROGRAM,
	KEEPER,		     /* often, under a program that then ends by itself */
	KEEPER_THEN_PROGRAM, /* which has noticed by then */
	PROGRAM_AND_ONE,     /* in quick succession, one of the keeper's processes */
	ONE_AND_PROGRAM,
	PROGRAM_AND_KEEPER, /* likewise, all of them */
	KEEPER_AND_PROGRAM,
	PLANS
};
static const char *const plan_name[] = { "program",
					 "keeper",
					 "keeper, then program",
					 "program and one of the keeper",
					 "one of the keeper and program",
					 "program and keeper",
					 "keeper and program" };

static void fail_round(enum plan plan, const char *what, unsigned writer, uint64_t number)
{
	printf("round %u (%s): %s: record %lu of writer %u (stored %lu, confirmed %lu)\n",
	       rounds, plan_name[plan], what, number, writer,
	       atomic_load(&counts->of[writer].stored),
	       atomic_load(&counts->of[writer].confirmed));
	exit(1);
}

static void pause_up_to(unsigned us)
{
	const unsigned n = (unsigned)rand_r(&seed) % us;
	const struct timespec t = { n / 1000000, (long)n % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

static bool is_keeper(const char *pid)
{
	char path[64], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	(void)!fgets(comm, sizeof(comm), f);
	fclose(f);
	return !strcmp(comm, "pinstage-keeper\n");
}

/* One of the keepers' processes, or all. */
static unsigned kill_keepers(bool all)
{
	pid_t found[64];
	unsigned n = 0, first = 0;
	struct dirent *d;
	DIR *proc = opendir("/proc");

	while (n < ARRAY_SIZE(found) && (d = readdir(proc)))
		if (is_keeper(d->d_name))
			found[n++] = atoi(d->d_name);
	closedir(proc);
	if (n && !all) {
		first = (unsigned)rand_r(&seed) % n;
		n = first + 1;
	}
	for (unsigned i = first; i < n; i++)
		keeper_kills += kill(found[i], SIGKILL) == 0;
	return n - first;
}

/* ---- what the file holds ---- */

static unsigned char content[RECORDS_FILE];

static void read_file(void)
{
	int fd = open(data, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, content, sizeof(content), 0) != (ssize_t)sizeof(content)) {
		perror(data);
		exit(2);
	}
	close(fd);
}

/* The first record below `n` that is not whole, or `n`. */
static uint64_t first_missing(unsigned writer, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (record_state(content + record_offset(writer, i), writer, i) != RECORD_WHOLE)
			return i;
	return n;
}

static void check_confirmed(enum plan plan)
{
	uint64_t n, missing;

	read_file();
	for (unsigned w = 0; w < WRITERS; w++) {
		n = atomic_load(&counts->of[w].confirmed);
		missing = first_missing(w, n);
		if (missing < n)
			fail_round(plan, "confirmed and not in the file", w, missing);
	}
}

static bool all_stored(void *arg)
{
	(void)arg;
	read_file();
	for (unsigned w = 0; w < WRITERS; w++)
		if (first_missing(w, atomic_load(&counts->of[w].stored)) <
		    atomic_load(&counts->of[w].stored))
			return false;
	return true;
}

/* Behind what was stored: what was on its way may have come, a thread's only in part. */
static void check_rest(enum plan plan, bool torn_allowed)
{
	enum record_state is;
	uint64_t from, ahead;

	for (unsigned w = 0; w < WRITERS; w++) {
		from = atomic_load(&counts->of[w].stored);
		ahead = atomic_load(&counts->of[w].ahead);
		for (uint64_t i = from; i < RECORDS_EACH; i++) {
			is = record_state(content + record_offset(w, i), w, i);
			if (is == RECORD_EMPTY || torn_allowed ||
			    (w != DEVICE_WRITER && i == from))
				continue;
			if (i >= ahead || is == RECORD_TORN)
				fail_round(plan, "neither whole nor empty", w, i);
		}
	}
}

static void check(enum plan plan)
{
	const bool both = plan == PROGRAM_AND_KEEPER || plan == KEEPER_AND_PROGRAM;

	check_confirmed(plan);
	if (both) {
		lost_both += !all_stored(NULL);
		return;
	}
	if (!poll_until(all_stored, NULL, PATIENCE_MS))
		for (unsigned w = 0; w < WRITERS; w++) {
			uint64_t n = atomic_load(&counts->of[w].stored);
			uint64_t missing = first_missing(w, n);

			if (missing < n)
				fail_round(plan, "stored and not in the file", w, missing);
		}
	check_rest(plan, false);
}

/* ---- rounds ---- */

static void make_files(const char *dir)
{
	int fd;

	snprintf(data, sizeof(data), "%s/records.%u", dir, rounds);
	snprintf(tally, sizeof(tally), "/dev/shm/pinstage-storm.XXXXXX");
	fd = open(data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, RECORDS_FILE) < 0) {
		perror(data);
		exit(2);
	}
	close(fd);
	fd = mkostemp(tally, O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, sizeof(*counts)) < 0) {
		perror(tally);
		exit(2);
	}
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
}

static void remove_tally(void)
{
	unlink(tally);
}

static void start(const char *recorder)
{
	char *argv[] = { (char *)(uintptr_t) "recorder", data, tally, NULL };
	char preload[4096], log[4096];
	char *envp[] = { preload, log, NULL };

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", getenv("SHIM_PRELOAD"));
	snprintf(log, sizeof(log), "PINSTAGE_LOG=%s", getenv("TEST_LOG"));
	if (posix_spawn(&program, recorder, NULL, NULL, argv, envp)) {
		perror(recorder);
		exit(2);
	}
}

static bool has_ended(void *arg)
{
	siginfo_t info = { 0 };

	(void)arg;
	return waitid(P_PID, (id_t)program, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == program;
}

static bool is_ready(void *arg)
{
	return atomic_load(&counts->ready) || has_ended(arg);
}

/* More than a batch of what needs a keeper: one msync() at least began after `before`. */
static bool has_gone_on(void *before)
{
	const uint64_t n = atomic_load(&counts->of[0].confirmed);

	return has_ended(NULL) || n > *(uint64_t *)before + BATCH || n == RECORDS_EACH;
}

static void must_happen(enum plan plan, bool (*event)(void *), void *arg, const char *what)
{
	char command[256];

	if (poll_until(event, arg, PATIENCE_MS))
		return;
	printf("round %u (%s): the program %s\n", rounds, plan_name[plan], what);
	snprintf(command, sizeof(command),
		 "grep -H . /proc/%d/task/*/stack /proc/%d/task/*/syscall; ps -e", (int)program,
		 (int)program);
	fflush(stdout);
	(void)!system(command);
	exit(1);
}

static void kill_program(enum plan plan)
{
	program_kills++;
	kill(program, SIGKILL);
	must_happen(plan, has_ended, NULL, "does not die");
}

static void kill_keeper_often(enum plan plan)
{
	const unsigned times = 1 + (unsigned)rand_r(&seed) % 3;
	uint64_t before;

	for (unsigned i = 0; i < times; i++) {
		before = atomic_load(&counts->of[0].confirmed);
		kill_keepers(rand_r(&seed) % 2);
		must_happen(plan, has_gone_on, &before, "does not go on without its keeper");
		pause_up_to(20000);
	}
}

static void end_program(enum plan plan)
{
	int status;

	atomic_store(&counts->stop, 1);
	must_happen(plan, has_ended, NULL, "does not end");
	status = wait_for(program);
	if (status) {
		printf("round %u (%s): exit status %d, error %s\n", rounds, plan_name[plan],
		       status, strerror(atomic_load(&counts->error)));
		exit(1);
	}
}

static void play(enum plan plan)
{
	/* One in eight is killed before it has registered anything. */
	if (plan != PROGRAM || rand_r(&seed) % 8)
		must_happen(plan, is_ready, NULL, "does not come to register");
	pause_up_to(100000);
	switch (plan) {
	case PROGRAM:
		kill_program(plan);
		break;
	case KEEPER:
		kill_keeper_often(plan);
		end_program(plan);
		return;
	case KEEPER_THEN_PROGRAM:
		kill_keeper_often(plan);
		kill_program(plan);
		break;
	case PROGRAM_AND_ONE:
	case PROGRAM_AND_KEEPER:
		program_kills++;
		kill(program, SIGKILL);
		pause_up_to(10000);
		kill_keepers(plan == PROGRAM_AND_KEEPER);
		must_happen(plan, has_ended, NULL, "does not die");
		break;
	case ONE_AND_PROGRAM:
	case KEEPER_AND_PROGRAM:
		kill_keepers(plan == KEEPER_AND_PROGRAM);
		pause_up_to(10000);
		kill_program(plan);
		break;
	case PLANS:
		break;
	}
	if (wait_for(program) != -SIGKILL) {
		printf("round %u (%s): the program ended before it was killed: error %s\n",
		       rounds, plan_name[plan], strerror(atomic_load(&counts->error)));
		exit(1);
	}
}

static void round_of(enum plan plan, const char *dir, const char *recorder)
{
	rounds++;
	make_files(dir);
	start(recorder);
	play(plan);
	check(plan);
	for (unsigned w = 0; w < WRITERS; w++) {
		stored += atomic_load(&counts->of[w].stored);
		confirmed += atomic_load(&counts->of[w].confirmed);
	}
	swaps += atomic_load(&counts->swaps);
	munmap(counts, sizeof(*counts));
	remove_tally();
	unlink(data);
}

int main(int argc, char **argv)
{
	unsigned kills, seconds;
	uint64_t until;

	if (argc != 5)
		return 2;
	atexit(remove_tally);
	setvbuf(stdout, NULL, _IOLBF, 0);
	kills = (unsigned)atoi(argv[2]);
	seconds = (unsigned)atoi(argv[3]);
	seed = getenv("STORM_SEED") ? (unsigned)atoi(getenv("STORM_SEED"))
				    : (unsigned)time(NULL);
	printf("STORM_SEED=%u\n", seed);
	for (until = now_ms() + 1000 * seconds;
	     now_ms() < until && program_kills + keeper_kills < kills;)
		round_of((enum plan)((unsigned)rand_r(&seed) % PLANS), argv[1], argv[4]);
	printf("%u rounds: %u programs and %u keepers killed, %lu records confirmed by msync, "
	       "%lu stored, %lu exchanges; %u times program and keeper together with loss of what "
	       "was not confirmed\n",
	       rounds, program_kills, keeper_kills, confirmed, stored, swaps, lost_both);
	/* Where the time was up: even a busy machine does several rounds in ten seconds. */
	if (program_kills + keeper_kills < kills &&
	    (rounds < seconds / 10 || !(program_kills + keeper_kills) || !confirmed ||
	     swaps < 1 + rounds / 10)) {
		printf("that is too little for %u seconds\n", seconds);
		return 1;
	}
	return 0;
}
