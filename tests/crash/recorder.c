// SPDX-License-Identifier: MIT
/*
 * recorder FILE COUNTS [HOW]
 *
 * The program that gets killed: writes the records of record.h into a mapping of FILE, whose
 * size is RECORDS_FILE, with the shim preloaded or not; has them confirmed by msync(); says in
 * COUNTS, a file that it maps, how far it came. With `-` instead of COUNTS it says so on
 * standard output, a line 'WRITER CONFIRMED HOW .' at a time.
 *
 * HOW they are confirmed is msync unless given: one of confirmations[], or `each`, which takes
 * another one for each batch. With `none` and `async` they are not, and only said to be. Where
 * one is named nothing is given back, as that would write everything to the disk.
 *
 * Runs until it is told to stop or is killed. Exit status 3 if the kernel refuses the
 * registration, 4 if something else went wrong (COUNTS has the error).
 */
#include <pthread.h>
#include <sched.h>
#include <sys/uio.h>
#include <time.h>

#include <pinstage.h>

#include "record.h"
#include "testlib.h"

enum how { MSYNC, FSYNC, FDATASYNC, SYNCFS, SYNC, DSYNC, DURABLE, NONE = DURABLE, ASYNC, HOWS };
static const char *const confirmations[HOWS] = { "msync", "fsync", "fdatasync", "syncfs",
						 "sync",  "dsync", "none",	"async" };

static unsigned char *map;
static int file = -1; /* of the mapping, where a descriptor is needed to confirm */
static enum how the_how;
static bool each, swaps = true;
static struct counts *counts;
static bool say;
static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;

static void failed(int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&counts->error, &none, err ? err : EIO);
	if (say) {
		printf("error %s\n", strerror(err));
		fflush(stdout);
	}
	_exit(4);
}

/* How many records may still be written; 0: it is time to end. */
static uint64_t next_batch(unsigned writer, unsigned *seed)
{
	const uint64_t done = atomic_load(&counts->of[writer].stored);
	uint64_t n = 1 + (uint64_t)rand_r(seed) % BATCH;

	while (done == RECORDS_EACH && !atomic_load(&counts->stop))
		usleep(1000);
	if (atomic_load(&counts->stop))
		return 0;
	if (n > RECORDS_EACH - done)
		n = RECORDS_EACH - done;
	atomic_store(&counts->of[writer].ahead, done + n);
	return n;
}

static enum how next_how(unsigned *seed)
{
	return each ? (enum how)((unsigned)rand_r(seed) % DURABLE) : the_how;
}

static int sync_pages(unsigned writer, uint64_t from, uint64_t n, int flags)
{
	const uintptr_t page = page_size() - 1;
	const uintptr_t start = (uintptr_t)map + record_offset(writer, from),
			end = (uintptr_t)map + record_offset(writer, from + n - 1) + RECORD;

	return msync((void *)(start & ~page), ((end + page) & ~page) - (start & ~page), flags);
}

static int make_durable(unsigned writer, uint64_t from, uint64_t n, enum how how)
{
	switch (how) {
	case FSYNC:
		return fsync(file);
	case FDATASYNC:
		return fdatasync(file);
	case SYNCFS:
		return syncfs(file);
	case SYNC:
		sync();
		return 0;
	case DSYNC: /* the writes did it */
		return 0;
	case NONE:
		usleep(20000);
		return 0;
	case ASYNC:
		usleep(20000);
		return sync_pages(writer, from, n, MS_ASYNC);
	default:
		return sync_pages(writer, from, n, MS_SYNC);
	}
}

static void confirm(unsigned writer, uint64_t from, uint64_t n, enum how how)
{
	if (make_durable(writer, from, n, how) < 0)
		failed(errno);
	atomic_store(&counts->of[writer].confirmed, from + n);
	if (!say)
		return;
	pthread_mutex_lock(&saying);
	printf("%u %lu %s .\n", writer, from + n, confirmations[how]);
	fflush(stdout);
	pthread_mutex_unlock(&saying);
}

static void write_durably(unsigned writer, uint64_t number)
{
	unsigned char record[RECORD] __attribute__((aligned(8)));
	const struct iovec iov = { record, RECORD };

	record_store(record, writer, number);
	if (pwritev2(file, &iov, 1, (off_t)record_offset(writer, number), RWF_DSYNC) !=
	    (ssize_t)RECORD)
		failed(errno);
}

static void *cpu_writer(void *arg)
{
	const unsigned writer = (unsigned)(uintptr_t)arg;
	unsigned seed = writer + (unsigned)getpid();
	uint64_t at = 0, n;
	enum how how;

	while ((n = next_batch(writer, &seed))) {
		how = next_how(&seed);
		for (uint64_t i = at; i < at + n; i++) {
			if (how == DSYNC)
				write_durably(writer, i);
			else
				record_store(map + record_offset(writer, i), writer, i);
			atomic_store(&counts->of[writer].stored, i + 1);
		}
		confirm(writer, at, n, how);
		at += n;
	}
	return NULL;
}

/* The pattern source: the device's records side by side. */
static int make_pattern(void)
{
	const size_t size = RECORDS_EACH * RECORD;
	int fd = memfd_create("pattern", MFD_CLOEXEC);
	unsigned char *p;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		failed(errno);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		failed(errno);
	for (uint64_t i = 0; i < RECORDS_EACH; i++)
		record_store(p + i * RECORD, DEVICE_WRITER, i);
	munmap(p, size);
	return fd;
}

static void device_reads(struct io_uring *ring, int source, uint64_t at, uint64_t n)
{
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;

	for (uint64_t i = at; i < at + n; i++) {
		sqe = io_uring_get_sqe(ring);
		if (!sqe)
			abort();
		io_uring_prep_read_fixed(sqe, source, map + record_offset(DEVICE_WRITER, i),
					 RECORD, i * RECORD, 0);
	}
	if (io_uring_submit(ring) != (int)n)
		failed(EIO);
	for (uint64_t i = 0; i < n; i++) {
		if (io_uring_wait_cqe(ring, &cqe) < 0 || cqe->res != (int)RECORD)
			failed(EIO);
		io_uring_cqe_seen(ring, cqe);
	}
}

static void *device_writer(void *arg)
{
	struct io_uring *ring = arg;
	unsigned seed = (unsigned)getpid();
	int source = make_pattern();
	uint64_t at = 0, n;
	enum how how;

	while ((n = next_batch(DEVICE_WRITER, &seed))) {
		device_reads(ring, source, at, n);
		atomic_store(&counts->of[DEVICE_WRITER].stored, at + n);
		how = next_how(&seed);
		confirm(DEVICE_WRITER, at, n, how == DSYNC ? MSYNC : how);
		at += n;
	}
	return NULL;
}

/* Exchanges fail while keepers are killed; the program then has what the kernel says. */
static void *swapper(void *arg)
{
	struct io_uring ring;

	(void)arg;
	if (io_uring_queue_init(2, &ring, 0) < 0)
		failed(EIO);
	while (!atomic_load(&counts->stop)) {
		if (register_one(&ring, map + AREA, AREA) == 0) {
			(void)io_uring_unregister_buffers(&ring);
			(void)pinstage_release(map + AREA, AREA);
			atomic_fetch_add(&counts->swaps, 1);
		}
		sched_yield();
	}
	io_uring_queue_exit(&ring);
	return NULL;
}

static void *shared(const char *path, size_t size)
{
	int fd = strcmp(path, "-") ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	if (p == MAP_FAILED) {
		perror(path);
		exit(4);
	}
	if (fd >= 0)
		close(fd);
	return p;
}

static bool understand_how(const char *name)
{
	each = swaps = !strcmp(name, "each");
	while (!each && the_how < HOWS && strcmp(name, confirmations[the_how]))
		the_how++;
	return the_how < HOWS;
}

int main(int argc, char **argv)
{
	pthread_t thread[WRITERS + 1];
	struct io_uring ring;
	uintptr_t i;

	if (argc < 3 || argc > 4 || (argc == 4 && !understand_how(argv[3])))
		return 2;
	if (argc == 4) {
		file = open(argv[1], O_RDWR | O_CLOEXEC);
		if (file < 0)
			return 4;
	}
	say = !strcmp(argv[2], "-");
	counts = shared(argv[2], sizeof(*counts));
	map = shared(argv[1], RECORDS_FILE);
	if (io_uring_queue_init(BATCH, &ring, 0) < 0)
		failed(EIO);
	/* A keeper that is killed over it refuses; the next one may not. */
	for (i = 0; register_one(&ring, map, AREA) < 0; i++)
		if (i == 20)
			return 3;
	atomic_store(&counts->ready, 1);
	for (i = 0; i < WRITERS; i++)
		if (pthread_create(&thread[i], NULL,
				   i == DEVICE_WRITER ? device_writer : cpu_writer,
				   i == DEVICE_WRITER ? (void *)&ring : (void *)i))
			failed(EAGAIN);
	if (swaps && pthread_create(&thread[i++], NULL, swapper, NULL))
		failed(EAGAIN);
	while (i--)
		pthread_join(thread[i], NULL);
	return 0;
}
