// SPDX-License-Identifier: MIT
/*
 * copied HOW FIRST STRIDE SOCKET FILE FILLER
 *
 * Under inject, with the shim. A program gives back memory that another client uses, too, which
 * is refused. Before one of its system calls it is held, while the keeper's worker is killed
 * and the next one, of which nobody is a client yet, takes its first turn: memory that nobody
 * shows just then is sealed, and the program goes on in other memory. So for the FIRSTth call
 * of the program's, the FIRST+STRIDEth, ..., and every one once stores had to wait; and each of
 * them twice: once its first store after that is its last one, and comes to the file; once it
 * goes on, and the keeper has what it stores to.
 *
 * HOW:
 *   written     what was sealed is written, and let go of
 *   unwritten   or cannot be: the disk is full, with FILLER, until the end
 *   taken       and before the program goes on, another client has joined, and stores
 *   superseded  and there is room, what it stored is confirmed, and it left
 *   alone       unwritten; and no keeper is to be had until the program went on, which it
 *               always does
 *   parted      the same, but another client, for which there is one, has joined, stored to
 *               another page, had that confirmed, and left
 *   dropped     the same as alone, and it unmaps the memory without another word
 *   crowded     the same, but the keeper has no descriptor left to take the copy with
 *   elsewhere   or has it from another client, which it gave other memory. Either way the
 *               log says so, and the content is in memory and comes to the file when FILE is
 *               mapped again and the keeper can. One such copy does.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <pinstage.h>

#include "client.h"
#include "inject.h"
#include "keepers.h"

#define SIZE (64 * KIB)
#define AT   (SIZE - sizeof(uint64_t)) /* is stored to: where a few blocks do not suffice */

static enum how {
	WRITTEN,
	UNWRITTEN,
	TAKEN,
	SUPERSEDED,
	ALONE,
	PARTED,
	DROPPED,
	CROWDED,
	ELSEWHERE,
	HOWS
} how;
static const char *const hows[] = { "written", "unwritten", "taken",   "superseded", "alone",
				    "parted",  "dropped",   "crowded", "elsewhere" };
static const char *path, *keeper, *filler;
static bool full;		 /* the disk */
static bool as_meant, took_part; /* a round as HOW says; another client */
static unsigned char *map;
static volatile uint64_t *word;
static unsigned point, copies;
static bool drawn; /* the curtain, once */
static long fired;
static struct client_file file;

/* In a page of its own, of the program and of who watches it. */
struct shared {
	atomic_bool staged, joined, go, stop, returned, seen;
	atomic_bool ends;    /* with the first store after `go` */
	atomic_bool refused; /* nobody takes the copy; then: */
	atomic_bool unmapped, taken;
	_Atomic(uint64_t) stored; /* a moment ago, at the latest; others in each round */
	int ret;
};

static struct shared *shared;

static void broken(const char *what, long value)
{
	printf("point %u, call %d: %s (%ld)\n", point, INJECT_FIRED_CALL(fired), what, value);
	fflush(stdout);
	_exit(1);
}

static void must(int ret, const char *what)
{
	if (ret)
		broken(what, ret);
}

/* Not by a call that counts. */
static bool comes(bool (*done)(void *), void *arg)
{
	const uint64_t end = now_ms() + 60000;

	while (!done(arg)) {
		if (now_ms() > end)
			return false;
		usleep(2000);
	}
	return true;
}

static bool is_set(void *arg)
{
	return atomic_load((atomic_bool *)arg);
}

static void wait_until(atomic_bool *what, const char *missing)
{
	if (!comes(is_set, what))
		broken(missing, 0);
}

/* ---- the program ---- */

static void *store_on(void *arg)
{
	uint64_t n = shared->stored;
	bool last;

	do {
		last = shared->go && shared->ends;
		*word = ++n;
		shared->stored = n;
		/* A store that waited for the curtain was before `go`, and is done after. */
		last |= shared->go && shared->ends;
		if (!last)
			usleep(100);
	} while (!last && !shared->stop);
	if (last)
		kill(getpid(), SIGKILL);
	return arg;
}

/* What no keeper would take is what the file's content is. */
static void map_again(int fd)
{
	shared->unmapped = true;
	wait_until(&shared->taken, "nobody can take it");
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(map == MAP_FAILED ? errno : 0, "mmap again");
	word = (void *)(map + AT);
	if (*word != shared->stored)
		broken("not in memory when it is mapped again", (long)*word);
	if (differs(map, AT, 0, NEW) >= 0)
		broken("nor what had been there", differs(map, AT, 0, NEW));
	*word = ++shared->stored;
	must(msync(map, SIZE, MS_SYNC) ? errno : 0, "msync");
}

static void program(void)
{
	struct io_uring ring;
	pthread_t thread;
	int fd;

	fd = open(path, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || map == MAP_FAILED || io_uring_queue_init(8, &ring, 0) < 0)
		broken("cannot set up", errno);
	must(register_one(&ring, map, SIZE), "register");
	must(io_uring_unregister_buffers(&ring), "unregister");
	fill(map, SIZE, 0, NEW);
	word = (void *)(map + AT);
	must(pthread_create(&thread, NULL, store_on, NULL), "pthread_create");
	shared->staged = true;
	wait_until(&shared->joined, "nobody joins");
	shared->ret = pinstage_release(map, SIZE);
	if (inject_disarm() && shared->ends)
		pthread_join(thread, NULL);
	shared->stop = true;
	pthread_join(thread, NULL);
	shared->returned = true;
	wait_until(&shared->seen, "nobody looks");
	*word = ++shared->stored;
	if (how == ALONE || how == PARTED)
		must(msync(map, SIZE, MS_SYNC) ? errno : 0, "msync");
	if (how >= DROPPED)
		must(munmap(map, SIZE) ? errno : 0, "munmap");
	if (shared->refused)
		map_again(fd);
	exit(0);
}

/* ---- the disk ---- */

static void make_room(void)
{
	if (!full)
		return;
	must(unlink(filler), "unlink");
	must(syncfs(file.fd), "syncfs");
	full = false;
}

/* Not one block is left, and the file is one that has none. */
static void fill_disk(void)
{
	int fd;

	close(file.fd);
	(void)unlink(path);
	(void)unlink(filler);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(fd < 0 || ftruncate(fd, SIZE) || syncfs(fd), "make the file");
	close(fd);
	must(client_open(&file, path), "open the file");
	fd = open(filler, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (off_t at = 0, len = 64 * MIB; len >= 4096;) {
		if (fallocate(fd, 0, at, len) == 0)
			at += len;
		else
			len /= 2;
	}
	close(fd);
	full = true;
}

/* ---- who watches it ---- */

static pid_t worker;

static int become(uint64_t number)
{
	const int sock = client_become(keeper, number, 60000, &worker);

	must(sock < 0, "no keeper");
	return sock;
}

static bool is_held(void *arg)
{
	(void)arg;
	fired = inject_ask();
	return fired || shared->returned;
}

static bool stored_is_there(void *arg)
{
	uint64_t n = 0;

	(void)arg;
	must(syscall(SYS_pread64, file.fd, &n, sizeof(n), AT) != (long)sizeof(n), "read");
	return n >= shared->stored && n <= shared->stored + 1;
}

static bool stores_wait(void)
{
	const uint64_t before = shared->stored;

	usleep(10000);
	return shared->stored == before;
}

/* Answered when the first pass is over. */
static void next_worker_takes_its_turn(void)
{
	const pid_t first = worker;
	int sock;

	kill(worker, SIGKILL);
	sock = become(2);
	must(worker == first, "the worker lives on");
	(void)client_say(sock, MSG_SYNC, &file, 0);
	close(sock);
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	must(fstat(fd, &st), "fstat");
	return st.st_ino;
}

/* The program has returned, and stores no more for now. */
static void look_at_it(int memory, bool sealed)
{
	const int sock = become(3);
	int fds[PROTO_FDS] = { -1, -1, -1 }, err;
	uint64_t id, n = 0;

	err = client_take(sock, MSG_JOIN, &file, &id, fds);
	if (shared->ret) {
		must(err, "goes on in memory that no keeper has");
		must(pread(fds[0], &n, sizeof(n), AT) != (ssize_t)sizeof(n), "read");
		if (n != shared->stored)
			broken("the keeper has other memory", (long)n);
		if (sealed && inode_of(fds[0]) != inode_of(memory))
			copies += as_meant;
	}
	close(sock);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* With nobody to ask it would take the keeper a minute. */
static void try_again(void)
{
	int sock;

	make_room();
	sock = become(4);
	(void)client_say(sock, MSG_SYNC, &file, 0);
	close(sock);
}

static const char theirs[] = "theirs";
/* In the same page, or another one. */
#define THEIRS_AT (how == PARTED ? 4096 : AT - sizeof(theirs))

static bool is_let_go(void *sock)
{
	return client_say(*(int *)sock, MSG_SYNC, &file, 0) == -ENOENT;
}

/* Another client takes part, with the next worker; the conversation, or -1. Once it has left,
 * what nobody shows is let go of, unless a thread of the program that is not held has told of
 * it. */
static int take_part(bool sealed)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, sock, err;
	uint64_t id;

	sock = become(5);
	err = client_take(sock, MSG_JOIN, &file, &id, fds);
	as_meant = took_part = err != -ENOENT; /* there may be room just now */
	if (took_part) {
		must(err, "the other one's JOIN");
		must(pwrite(fds[0], theirs, sizeof(theirs), THEIRS_AT) != sizeof(theirs),
		     "their store");
		close(fds[0]);
		close(fds[1]);
	}
	if (took_part && how == TAKEN)
		return sock;
	if (took_part) {
		make_room();
		must(client_say(sock, MSG_SYNC, &file, 0), "SYNC");
		(void)client_say(sock, MSG_RELEASE, &file, id);
		as_meant = sealed && poll_until(is_let_go, &sock, 3000);
	}
	close(sock);
	return -1;
}

static bool theirs_is_there(void)
{
	char got[sizeof(theirs)];

	must(syscall(SYS_pread64, file.fd, got, sizeof(got), THEIRS_AT) != (long)sizeof(got),
	     "read");
	return memcmp(got, theirs, sizeof(got)) == 0;
}

/* A directory that others may write to is not trusted. */
static void hide_keeper(bool hidden)
{
	char dir[128];

	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(keeper, '/') - keeper), keeper);
	if (how >= ALONE)
		must(chmod(dir, hidden ? 0777 : 0700), "chmod");
}

static bool maps_other_memory(pid_t pid, int memory)
{
	const uint64_t known = inode_of(memory);
	char name[64], line[512];
	bool other = false;
	unsigned long ino;
	FILE *maps;

	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	maps = fopen(name, "re");
	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "pinstage:") && sscanf(line, "%*s %*s %*s %*s %lu", &ino) == 1)
			other |= ino != known;
	if (maps)
		fclose(maps);
	return other;
}

/* Of the worker: as many as it takes to be told, and none to open the file with. */
static void leave_descriptors(unsigned n)
{
	const unsigned most = 1024;
	struct rlimit files;
	char name[64];
	rlim_t fd = 0;

	must(prlimit(worker, RLIMIT_NOFILE, NULL, &files) ? errno : 0, "getrlimit");
	for (unsigned left = n; left && fd < most; fd++) {
		snprintf(name, sizeof(name), "/proc/%d/fd/%lu", worker, fd);
		left -= access(name, F_OK) != 0;
	}
	files.rlim_cur = n ? fd : files.rlim_max;
	must(prlimit(worker, RLIMIT_NOFILE, &files, NULL) ? errno : 0, "setrlimit");
}

static bool log_tells(void)
{
	static unsigned before;
	const unsigned now = log_lines("no keeper can be had; what was changed there");
	const bool more = now > before;

	before = now;
	return more;
}

/* The keeper is there again, and cannot take the copy when the program unmaps it. */
static void refuse_copy(void)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, sock = become(6);
	uint64_t id;

	make_room();
	if (how == CROWDED) {
		/* What it has of the file it must not have open. */
		if (!poll_until(is_let_go, &sock, 30000))
			broken("the sealed memory is not let go of", 0);
		leave_descriptors(4);
	} else {
		must(client_take(sock, MSG_JOIN, &file, &id, fds), "the other one's JOIN");
	}
	shared->refused = shared->seen = true;
	wait_until(&shared->unmapped, "it does not unmap");
	if (!log_tells())
		broken("the log does not tell that nobody took it", 0);
	if (how == CROWDED) {
		leave_descriptors(0);
	} else {
		close(fds[0]);
		close(fds[1]);
		(void)client_say(sock, MSG_RELEASE, &file, id);
		if (!poll_until(is_let_go, &sock, 30000))
			broken("the other one's memory is not let go of", 0);
	}
	close(sock);
	shared->taken = true;
}

static int one(bool ends)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, sock, other = -1, status;
	static uint64_t round;
	bool sealed = false, copied;
	uint64_t id;
	pid_t pid;

	kill_keepers(); /* after many deaths the guardian would take its time */
	memset(shared, 0, sizeof(*shared));
	as_meant = took_part = false;
	shared->ends = ends;
	shared->stored = ++round << 32;
	if (how != WRITTEN)
		fill_disk();
	pid = fork();
	if (pid == 0)
		program();
	wait_until(&shared->staged, "not staged");
	sock = become(1);
	must(client_take(sock, MSG_JOIN, &file, &id, fds), "JOIN");
	inject_arm(INJECT_PROGRAM, point, INJECT_HOLD);
	shared->joined = true;
	if (!comes(is_held, NULL))
		broken("it hangs", 0);
	if (fired) {
		drawn |= stores_wait();
		next_worker_takes_its_turn();
		sealed = fcntl(fds[0], F_GET_SEALS) & F_SEAL_WRITE;
		/* What an earlier round had may have been freed after the disk was filled. */
		as_meant = !full || !stored_is_there(NULL);
		if (as_meant && (how == TAKEN || how == SUPERSEDED || how == PARTED))
			other = take_part(sealed);
		hide_keeper(true);
		shared->go = true;
		inject_go_on();
	}
	if (!fired || !ends) {
		wait_until(&shared->returned, "it does not return");
		if (fired)
			hide_keeper(false);
		if (how < ALONE)
			look_at_it(fds[0], sealed);
		copied = how >= ALONE && as_meant && sealed && shared->ret;
		if (how >= CROWDED) {
			copied &= maps_other_memory(pid, fds[0]);
			if (copied)
				refuse_copy();
		}
		copies += copied;
		make_room();
		shared->seen = true;
	}
	close(sock);
	must(waitpid(pid, &status, 0) != pid, "waitpid");
	if (full)
		try_again();
	printf("%u: call %d: %ssealed, %d, status %#x%s\n", point, INJECT_FIRED_CALL(fired),
	       sealed ? "" : "not ", shared->ret, status, as_meant ? "" : ", not as meant");
	fflush(stdout);
	if (!poll_until(stored_is_there, NULL, 30000))
		broken("stored and not in the file", (long)shared->stored);
	if (took_part && !theirs_is_there())
		broken("what another one stored is not in the file", 0);
	if (other >= 0)
		close(other);
	close(fds[0]);
	close(fds[1]);
	return fired ? status != (ends ? SIGKILL : 0) : status;
}

int main(int argc, char **argv)
{
	unsigned stride;

	if (argc != 7)
		return 2;
	while (strcmp(hows[how], argv[1]))
		if (++how == HOWS)
			return 2;
	point = (unsigned)atoi(argv[2]);
	stride = (unsigned)atoi(argv[3]);
	keeper = argv[4];
	path = argv[5];
	filler = argv[6];
	must(client_open(&file, path), path);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	for (;; point += drawn ? 1 : stride) {
		if (how < ALONE)
			must(one(true), "it ended otherwise");
		must(one(false), "it ended otherwise");
		if (how >= CROWDED && copies)
			break;
		if (!fired && (copies || stride == 1))
			break;
		if (!fired) { /* every one, then: a stride may be over all that matter */
			point = 0;
			stride = 1;
		}
	}
	must(!copies, "it never went on in other memory");
	return 0;
}
