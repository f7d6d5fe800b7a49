// SPDX-License-Identifier: MIT
/*
 * directread FILE SOURCE
 *
 * Lets direct I/O read SOURCE, which is on a slow device, into the beginning of a mapping of
 * FILE, and registers all of the mapping meanwhile. Prints `registered`, or the error, when
 * memory has all of SOURCE's pattern (seed 4) and has carried it to FILE; exit status 0. 1:
 * something is missing, or the read was over before the registration began.
 */
#include "testlib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static unsigned char *map;
static size_t size, part;
static int source;
static atomic_int reader;
static _Atomic ssize_t got = -2;

static void *read_slowly(void *arg)
{
	atomic_store(&reader, (int)syscall(SYS_gettid));
	atomic_store(&got, pread(source, map, part, 0));
	return arg;
}

/* In the call, and asleep. */
static bool is_reading(void *arg)
{
	char path[64], text[256] = "";
	const int tid = atomic_load(&reader);
	FILE *f;

	(void)arg;
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	f = tid ? fopen(path, "re") : NULL;
	if (f && !fgets(text, sizeof(text), f))
		*text = '\0';
	if (f)
		fclose(f);
	return atoi(text) == SYS_pread64 && strncmp(text, "running", 7) != 0;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	pthread_t thread;
	struct stat st, slow;
	bool early;
	int fd, ret;

	if (argc != 3)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	source = open(argv[2], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || source < 0 || fstat(fd, &st) < 0 || fstat(source, &slow) < 0 ||
	    io_uring_queue_init(8, &ring, 0) < 0) {
		perror(argv[1]);
		return 2;
	}
	size = (size_t)st.st_size;
	part = (size_t)slow.st_size;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || pthread_create(&thread, NULL, read_slowly, NULL))
		return 2;
	if (!poll_until(is_reading, NULL, 20000)) {
		puts("nothing is read");
		return 1;
	}
	ret = register_one(&ring, map, size);
	early = atomic_load(&got) != -2 && ret < 0;
	pthread_join(thread, NULL);
	if (early || got != (ssize_t)part) {
		printf("the read gave %zd\n", got);
		return 1;
	}
	if (differs(map, part, 0, 4) >= 0 || msync(map, size, MS_SYNC) < 0) {
		printf("in memory something is missing at %zd\n", differs(map, part, 0, 4));
		return 1;
	}
	puts(ret ? strerror(-ret) : "registered");
	return 0;
}
