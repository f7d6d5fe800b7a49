/* SPDX-License-Identifier: MIT */
/* pinstage-keeper: a guardian and a worker; owns the stages of one user and outlives the
 * programs that made them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "keeper/activation.h"
#include "keeper/guarded.h"
#include "keeper/outsiders.h"
#include "keeper/thread.h"

#define IDLE_EXIT_MS 10000

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void keeper_say(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "pinstage-keeper[%d]: %s\n", (int)getpid(), line);
	syslog(LOG_ERR, "%s", line);
}

void *xcalloc(size_t n, size_t size)
{
	void *p;

	while (!(p = calloc(n, size)))
		usleep(100 * 1000);
	return p;
}

/* A program may have offered itself to the OOM killer; we are not to go with it. */
static void forget_oom_offer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char text[16] = "";

	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0 && atoi(text) > 0)
		(void)!pwrite(fd, "0", 1, 0);
	close(fd);
}

/* What the program that started us had set for itself is not for us. */
static void shed(int keep)
{
	const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit files;
	cpu_set_t cpus;
	sigset_t empty;
	int i;

	for (i = 1; i < NSIG; i++)
		signal(i, i == SIGPIPE || i == SIGXFSZ || i == SIGHUP || i == SIGINT ? SIG_IGN
										     : SIG_DFL);
	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	umask(077);
	(void)!chdir("/");
	(void)setpriority(PRIO_PROCESS, 0, 0);
	sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
	memset(&cpus, 0xff, sizeof(cpus));
	(void)sched_setaffinity(0, sizeof(cpus), &cpus);
	(void)syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
	forget_oom_offer();
	/* A soft limit can always be raised to the hard one; that one only by root. */
	for (i = 0; i < (int)RLIM_NLIMITS; i++) {
		struct rlimit r;

		if (i == RLIMIT_CORE || i == RLIMIT_NOFILE || setrlimit(i, &none) == 0)
			continue;
		if (getrlimit(i, &r) == 0) {
			r.rlim_cur = r.rlim_max;
			(void)setrlimit(i, &r);
		}
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	(void)close_range(keep < 3 ? 3 : (unsigned)keep + 1, ~0U, 0);
}

/* Standard descriptors point at nothing, but for the log, which is beside the socket. */
static void redirect(int dir)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log = openat(dir, RENDEZVOUS_LOG,
			 O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(log >= 0 ? log : null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	if (log > STDERR_FILENO)
		close(log);
}

/* The lock is what makes a keeper: only its holder binds the socket. A holder that listens
 * serves whoever started us; one that does not is just beginning, or ending, and is waited for.
 * If the socket is there before us, nobody can reach the holder there: it ends when its clients
 * do, and only then may there be another.
 */
static int become_keeper(int dir, bool activated)
{
	int fd = openat(dir, RENDEZVOUS_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int tries, sock;

	if (fd < 0)
		return -errno;
	if (activated)
		return flock(fd, LOCK_EX) == 0 ? fd : -errno;
	for (tries = 0; tries < 1000; tries++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		sock = rendezvous_connect(dir, geteuid());
		if (sock >= 0) {
			close(sock);
			break;
		}
		usleep(10 * 1000);
	}
	close(fd);
	return -EBUSY;
}

static void usage(FILE *to)
{
	fputs("usage: pinstage-keeper [--ready-fd=N]\n"
	      "Owns staged memory for one user. Started by libpinstage.so when it is needed;\n"
	      "ends by itself when it is not. See pinstage-keeper(8).\n",
	      to);
}

/* Started with 0, 1 or 2 closed, what we open would land there and be overwritten later. */
static void occupy_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* It would be in the way of a keeper that has them. */
static bool has_too_few_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= RENDEZVOUS_FILES)
		return false;
	fprintf(stderr,
		"pinstage-keeper: %lu open files are too few: raise RLIMIT_NOFILE to %d or more "
		"(ulimit -H -n)\n",
		(unsigned long)files.rlim_cur, RENDEZVOUS_FILES);
	return true;
}

/* Takes the keeper's place. -1, or what to exit with. */
static int begin(struct guardian *g, int ready)
{
	LIST_INIT(&g->vault);
	g->dir = rendezvous_open(geteuid(), 1);
	if (g->dir < 0) {
		fprintf(stderr, "pinstage-keeper: the rendezvous directory is not usable: %s\n",
			strerror(-g->dir));
		return 1;
	}
	g->lock = become_keeper(g->dir, g->activated);
	if (g->lock == -EBUSY)
		return 0; /* there is one */
	if (g->lock < 0) {
		fprintf(stderr, "pinstage-keeper: cannot take the lock: %s\n",
			strerror(-g->lock));
		return 1;
	}
	if (!g->activated)
		g->listener = rendezvous_listen(g->dir);
	if (g->listener < 0) {
		keeper_say("cannot listen: %s", strerror(-g->listener));
		return 1;
	}
	redirect(g->dir);
	if (ready >= 0) {
		(void)!write(ready, "r", 1);
		close(ready);
	}
	return -1;
}

static void *nothing(void *arg)
{
	return arg;
}

/* A system call filter that we inherited may not allow what clients would wait for, for ever.
 */
static int try_calls(void)
{
	pthread_t thread;
	int err = thread_start(&thread, nothing, NULL);

	if (!err)
		err = pthread_join(thread, NULL);
	if (!err && fdatasync(-1) < 0 && errno != EBADF)
		err = errno;
	return -err;
}

static int work(struct guardian *g)
{
	struct rlimit files;
	int err;

	openlog("pinstage-keeper", LOG_PID, LOG_DAEMON);
	keeper.files = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
	keeper.filtered = prctl(PR_GET_SECCOMP) != 0;
	/* Random, so that a client of an earlier keeper cannot mean what we have now. */
	if (getrandom(&keeper.instance, sizeof(keeper.instance), 0) < 0 || !keeper.instance)
		keeper.instance = now_ms() | 1;
	keeper.next_id = keeper.instance >> 8;
	keeper.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (keeper.event < 0) {
		keeper_say("cannot begin: %s", strerror(errno));
		return 1; /* the guardian starts another */
	}
	err = board_start(g->dir);
	if (err) /* nothing is staged until it can be made */
		keeper_say("cannot make the board: %s", strerror(-err));
	outsiders_begin();
	guarded_begin(g);
	pthread_mutex_lock(&keeper.lock);
	board_settle();
	pthread_mutex_unlock(&keeper.lock);
	err = server_run(g->listener, IDLE_EXIT_MS);
	guarded_leave(keeper.leaving);
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = { { "ready-fd", required_argument, NULL, 'r' },
					      { "guardian", required_argument, NULL, 'g' },
					      { "help", no_argument, NULL, 'h' },
					      { "version", no_argument, NULL, 'V' },
					      { 0 } };
	struct guardian g = { .pair = -1 };
	int c, ready = -1, err, status;
	bool inherited = false;

	occupy_standard_descriptors();
	guardian_title_room(argc, argv);
	while ((c = getopt_long(argc, argv, "", opts, NULL)) >= 0) {
		switch (c) {
		case 'r':
			ready = atoi(optarg);
			break;
		case 'g': /* only ever from guardian_start_another() */
			if (!guardian_inherit(&g, optarg))
				return 2;
			inherited = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			puts("pinstage-keeper " PINSTAGE_VERSION);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	err = try_calls();
	if (err) {
		fprintf(stderr, "pinstage-keeper: cannot start a thread, or sync: %s\n",
			strerror(-err));
		return 1;
	}
	if (!inherited) {
		g.listener = activation_listener();
		g.activated = g.listener >= 0;
		if (g.listener == -EINVAL) {
			fputs("pinstage-keeper: the socket that it was started with is not one that "
			      "listens for sequential packets\n",
			      stderr);
			return 1;
		}
		shed(g.activated ? g.listener : ready);
		if (has_too_few_files())
			return 1;
		status = begin(&g, ready);
		if (status >= 0)
			return status;
	}
	(void)prctl(PR_SET_DUMPABLE, 0);
	err = guardian_run(&g);
	if (err < 0)
		return work(&g);
	if (err)
		keeper_say("cannot start a worker: %s", strerror(err));
	/* A program that connects from here on finds nobody listening and starts another
	 * keeper, which gets the lock when we are gone. */
	if (!g.activated)
		(void)unlinkat(g.dir, RENDEZVOUS_SOCKET, 0);
	return err ? 1 : 0;
}
