// SPDX-License-Identifier: MIT
/*
 * faults WHAT WHOSE FIRST STRIDE VARIANT FILE
 *
 * Under inject, with the shim. Does WHAT (register, msync, release, or cold: register with a
 * keeper that has to be started; last_register, last_write, last_release: see run_last()) again
 * and again, each time with another of the system calls failing that it takes, of the program
 * or of the keeper: the FIRSTth, the FIRST+STRIDEth, ... until there are no more. After each:
 * the answer is one that the kernel could have given, memory and file hold what was stored, the
 * same again works, and nothing is left behind. VARIANT chooses among the errors of a call.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include <pinstage.h>

#include "inject.h"
#include "keepers.h"
#include "testlib.h"

#define SIZE (64 * KIB)

static const char *path;
static struct io_uring ring;
static unsigned char *map;
static int file;
static unsigned seed; /* of what was stored last */

static long fired;
static unsigned point;

static void broken(const char *what, long value)
{
	printf("point %u, call %d, errno %d: %s (%ld)\n", point, INJECT_FIRED_CALL(fired),
	       INJECT_FIRED_ERR(fired), what, value);
	fflush(stdout);
	_exit(1);
}

static void must(int ret, const char *what)
{
	if (ret)
		broken(what, ret);
}

/* What is left behind would be descriptors, mappings of the file or of staged memory, threads.
 */
struct holdings {
	size_t fds, maps, ours, threads;
};

static size_t entries(const char *name)
{
	DIR *dir = opendir(name);
	size_t n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static struct holdings count_holdings(void)
{
	struct holdings h = { .fds = entries("/proc/self/fd"),
			      .threads = entries("/proc/self/task") };
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		h.maps++;
		h.ours += strstr(line, "pinstage:") || strstr(line, path);
	}
	if (maps)
		fclose(maps);
	return h;
}

/* A thread that was joined is still among the tasks for a moment, now or when they were counted
 * before; and a worker of the ring's may have gone since. */
static bool threads_as(void *arg)
{
	const struct holdings *before = arg;

	return entries("/proc/self/task") <= before->threads;
}

static void nothing_left(struct holdings *before)
{
	struct holdings now;

	(void)poll_until(threads_as, before, 10000);
	now = count_holdings();
	if (now.fds != before->fds)
		broken("descriptors left", (long)now.fds - (long)before->fds);
	if (now.ours != before->ours)
		broken("mappings of file or stage left", (long)now.ours - (long)before->ours);
	if (now.maps != before->maps)
		broken("mappings left", (long)now.maps - (long)before->maps);
	if (now.threads > before->threads)
		broken("threads left", (long)now.threads - (long)before->threads);
}

static void store(void)
{
	fill(map, SIZE, 0, ++seed);
}

static void memory_holds(void)
{
	if (differs(map, SIZE, 0, seed) >= 0)
		broken("memory has changed", differs(map, SIZE, 0, seed));
}

/* Past the library, which would have it written first. */
static void file_holds(void)
{
	static unsigned char content[SIZE];
	const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_pread64, fd, content, SIZE, 0) != (long)SIZE)
		broken("cannot read the file", errno);
	syscall(SYS_close, fd);
	if (differs(content, SIZE, 0, seed) >= 0)
		broken("not in the file", differs(content, SIZE, 0, seed));
}

static int register_it(void)
{
	return register_one(&ring, map, SIZE);
}

static int msync_it(void)
{
	return msync(map, SIZE, MS_SYNC) ? -errno : 0;
}

static int release_it(void)
{
	return pinstage_release(map, SIZE);
}

/* One that the kernel itself might give: for the memory, for want of memory, or what we made of
 * its own. */
static bool native_answer(int ret)
{
	return ret == 0 || ret == -EFAULT || ret == -ENOMEM ||
	       (INJECT_FIRED_CALL(fired) == SYS_io_uring_register &&
		ret == -INJECT_FIRED_ERR(fired));
}

static void after_register(int ret)
{
	if (!native_answer(ret))
		broken("not an answer of the kernel's", ret);
	memory_holds();
	if (ret)
		must(register_it(), "the next registration fails");
	memory_holds();
	if (pinstage_query(map, SIZE) != PINSTAGE_STAGED)
		broken("not staged", pinstage_query(map, SIZE));
	store();
	must(msync_it(), "msync");
	file_holds();
	must(io_uring_unregister_buffers(&ring), "unregister");
	must(release_it(), "release");
	memory_holds();
}

static void before_msync(void)
{
	must(register_it(), "register");
	store();
}

static void after_msync(int ret)
{
	memory_holds();
	if (ret)
		must(msync_it(), "the next msync fails");
	file_holds();
	must(io_uring_unregister_buffers(&ring), "unregister");
	must(release_it(), "release");
	memory_holds();
}

static void before_release(void)
{
	must(register_it(), "register");
	store();
	must(io_uring_unregister_buffers(&ring), "unregister");
}

static void after_release(int ret)
{
	memory_holds();
	if (ret)
		must(release_it(), "the next release fails");
	if (pinstage_query(map, SIZE) != PINSTAGE_NATIVE)
		broken("still staged", pinstage_query(map, SIZE));
	memory_holds();
	file_holds();
}

static const struct what {
	const char *name;
	void (*before)(void);
	int (*act)(void);
	void (*after)(int ret);
	enum { WARM, COLD, LAST } how;
} whats[] = {
	{ "register", store, register_it, after_register, WARM },
	{ "cold", store, register_it, after_register, COLD },
	{ "msync", before_msync, msync_it, after_msync, WARM },
	{ "release", before_release, release_it, after_release, WARM },
	{ "last_register", store, register_it, NULL, LAST },
	{ "last_write", store, register_it, NULL, LAST },
	{ "last_release", before_release, release_it, NULL, LAST },
};

static void set_up(void)
{
	file = open(path, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (file < 0 || map == MAP_FAILED || io_uring_queue_init(8, &ring, 0) < 0)
		broken("cannot set up", errno);
}

static void one(const struct what *w, enum inject_whose whose, unsigned variant)
{
	int ret;

	w->before();
	inject_arm(whose, point, variant);
	ret = w->act();
	fired = inject_disarm();
	printf("%u: call %d errno %d: %d\n", point, INJECT_FIRED_CALL(fired),
	       INJECT_FIRED_ERR(fired), ret);
	fflush(stdout);
	if (!fired)
		must(ret, "it fails by itself");
	w->after(ret);
}

/* The first of all finds out what is held after one that nothing disturbed. */
static void cold_child(const struct what *w, enum inject_whose whose, unsigned variant,
		       struct holdings *clean)
{
	set_up();
	one(w, whose, variant);
	if (!point)
		*clean = count_holdings();
	nothing_left(clean);
	printf("%s", fired || !point ? "" : "last\n");
	fflush(stdout);
	_exit(fired || !point ? 0 : 77);
}

static int run_cold(const struct what *w, enum inject_whose whose, unsigned first,
		    unsigned stride, unsigned variant)
{
	struct holdings *clean = mmap(NULL, sizeof(*clean), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	for (point = 0;; point += point ? stride : first) {
		kill_keepers();
		if (fork() == 0)
			cold_child(w, whose, variant, clean);
		if (wait(&status) < 0 || !WIFEXITED(status))
			return 1;
		if (WEXITSTATUS(status))
			return WEXITSTATUS(status) == 77 ? 0 : 1;
	}
}

static int run_warm(const struct what *w, enum inject_whose whose, unsigned first,
		    unsigned stride, unsigned variant)
{
	struct holdings before;

	set_up();
	/* Twice without any failing: threads have left their stacks for the next ones. */
	for (int i = 0; i < 2; i++)
		one(w, whose, variant);
	before = count_holdings();
	for (point = first;; point += stride) {
		one(w, whose, variant);
		nothing_left(&before);
		if (!fired)
			return 0;
	}
}

/* In a page of its own, shared with the child that stores. */
struct last {
	_Atomic(uint64_t) stored; /* a moment ago, at the latest */
	bool writes;		  /* its last act is write(), beside what was stored */
	atomic_bool wrote;
	long fired;
};

#define WRITTEN_AT 100
#define WRITTEN	   0xee

/* Stores while it can. The first store after the call has failed is the program's last one:
 * where it waited for a curtain, that is the moment when this opens. */
static void *store_until_it_fails(void *arg)
{
	struct last *last = arg;
	uint64_t n = 0;

	do {
		*(volatile uint64_t *)map = ++n;
		atomic_store(&last->stored, n);
		last->fired = inject_ask();
	} while (!last->fired);
	if (last->writes)
		last->wrote = pwrite(file, &(unsigned char){ WRITTEN }, 1, WRITTEN_AT) == 1;
	kill(getpid(), SIGKILL);
	return NULL;
}

static void last_child(const struct what *w, enum inject_whose whose, unsigned variant,
		       struct last *last)
{
	pthread_t thread;

	set_up();
	w->before();
	inject_arm(whose, point, variant);
	if (pthread_create(&thread, NULL, store_until_it_fails, last))
		broken("no thread", EAGAIN);
	(void)w->act();
	if (inject_disarm())
		pthread_join(thread, NULL);
	_exit(77);
}

static bool stored_is_there(void *arg)
{
	const struct last *last = arg;
	const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	unsigned char written = 0;
	uint64_t n = 0;

	if (fd < 0 || syscall(SYS_pread64, fd, &n, sizeof(n), 0) != (long)sizeof(n) ||
	    syscall(SYS_pread64, fd, &written, 1, WRITTEN_AT) != 1)
		broken("cannot read the file", errno);
	syscall(SYS_close, fd);
	return n >= atomic_load(&last->stored) && (!last->wrote || written == WRITTEN);
}

static bool keepers_at_rest(void *arg)
{
	(void)arg;
	return system("\"$BUILD\"/pinstage status | grep -q \"$TEST_DIR\"") != 0;
}

/* The keeper's worker is killed while the program stores, and then, with its very next store
 * done, the program. The guardian's next worker has what was stored. */
static int run_last(const struct what *w, enum inject_whose whose, unsigned first,
		    unsigned stride, unsigned variant)
{
	struct last *last = mmap(NULL, sizeof(*last), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	last->writes = !strcmp(w->name, "last_write");
	for (point = first;; point += stride) {
		kill_keepers(); /* after many deaths the guardian would take its time */
		atomic_store(&last->stored, 0);
		last->fired = 0;
		last->wrote = false;
		if (fork() == 0)
			last_child(w, whose, variant, last);
		if (wait(&status) < 0)
			return 1;
		fired = last->fired;
		printf("%u: call %d: ended with status %#x\n", point, INJECT_FIRED_CALL(fired),
		       status);
		fflush(stdout);
		/* What comes later must not undo it. */
		if (last->writes && !poll_until(keepers_at_rest, NULL, 10000))
			broken("still staged", 0);
		if (!poll_until(stored_is_there, last, 10000))
			broken("stored and not in the file", (long)atomic_load(&last->stored));
		if (WIFEXITED(status))
			return WEXITSTATUS(status) == 77 ? 0 : 1;
	}
}

int main(int argc, char **argv)
{
	const struct what *w = whats;
	enum inject_whose whose;
	unsigned first, stride, variant;

	if (argc != 7)
		return 2;
	while (strcmp(w->name, argv[1]))
		if (++w == whats + ARRAY_SIZE(whats))
			return 2;
	whose = strcmp(argv[2], "keeper") ? INJECT_PROGRAM : INJECT_KEEPER;
	first = (unsigned)atoi(argv[3]);
	stride = (unsigned)atoi(argv[4]);
	variant = (unsigned)atoi(argv[5]);
	path = argv[6];
	return (w->how == COLD	 ? run_cold
		: w->how == LAST ? run_last
				 : run_warm)(w, whose, first, stride, variant);
}
