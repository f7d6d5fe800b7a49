/* SPDX-License-Identifier: MIT */
/* What the benchmark programs share. Each prints lines "question variant value", in the unit
 * that tests/bench/questions says; tests/bench/run starts them in turn and compares. */
#ifndef BENCH_H
#define BENCH_H

#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static inline void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(1);
}

static inline double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Of this thread: what a call costs that waits for nobody, however busy the machine is. */
static inline double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A file of `len` bytes, written in pieces of `step`, clean and in the page cache. */
static inline int make_file(const char *path, size_t len, size_t step)
{
	char *buf = malloc(step);
	size_t done;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || !buf)
		die(path);
	for (done = 0; done < len; done += step) {
		memset(buf, (int)(done / step % 255) + 1, step);
		if (write(fd, buf, step) != (ssize_t)step)
			die(path);
	}
	free(buf);
	if (fsync(fd) < 0)
		die(path);
	return fd;
}

static inline void *map_shared(int fd, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static inline void ring_open(struct io_uring *ring)
{
	if (io_uring_queue_init(4, ring, 0) < 0)
		die("io_uring");
}

/* One fixed buffer for each GiB, the most that the kernel takes. */
static inline void pin(struct io_uring *ring, void *p, size_t len)
{
	const size_t most = 1UL << 30;
	struct iovec iov[64];
	unsigned n = 0;
	int err;

	for (size_t at = 0; at < len && n < 64; at += most)
		iov[n++] = (struct iovec){ (char *)p + at, len - at < most ? len - at : most };
	err = io_uring_register_buffers(ring, iov, n);
	if (err < 0) {
		fprintf(stderr, "register: %s\n", strerror(-err));
		exit(1);
	}
}

static inline void unpin(struct io_uring *ring)
{
	if (io_uring_unregister_buffers(ring) < 0)
		die("unregister");
}

#endif
