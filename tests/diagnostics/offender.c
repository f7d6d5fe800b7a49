/* SPDX-License-Identifier: MIT */
/*
 * offender FILE [COUNT [fork | PLUGIN]]
 *
 * A program with known call sites: map_buffer() maps FILE, register_buffer() registers it COUNT
 * times as a fixed buffer, and prints what the kernel said each time. With `fork` a child does
 * so, too; with a PLUGIN it is loaded, and does it all from its constructor. The script looks
 * the lines up by their comments. As a plugin: -DPLUGIN. With -DINLINED the three functions are
 * a part of their callers. With -DMARKED the mapping is locked, and not for children.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (256ul * 1024)

#ifdef INLINED
#define FUNCTION static inline __attribute__((always_inline))
#else
#define FUNCTION static __attribute__((noinline))
#endif

static struct io_uring ring;

FUNCTION void *map_buffer(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *p;

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return MAP_FAILED;
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); /* line: map */
	close(fd);
#ifdef MARKED
	if (p != MAP_FAILED && (mlock(p, SIZE) < 0 || madvise(p, SIZE, MADV_DONTFORK) < 0))
		return MAP_FAILED;
#endif
	return p;
}

FUNCTION int register_buffer(void *p)
{
	struct iovec range = { p, SIZE };
	int ret;

	ret = io_uring_register_buffers(&ring, &range, 1); /* line: register */
	if (ret == 0)
		io_uring_unregister_buffers(&ring);
	return ret;
}

FUNCTION int offend(const char *path, int count)
{
	void *p = map_buffer(path); /* line: offend */
	int ret = 0;

	if (p == MAP_FAILED || io_uring_queue_init(4, &ring, 0) < 0)
		return 1;
	for (int i = 0; i < count; i++) {
		ret = register_buffer(p); /* line: loop */
		puts(ret ? strerror(-ret) : "registered");
	}
	io_uring_queue_exit(&ring);
	munmap(p, SIZE);
	return 0;
}

#ifdef PLUGIN
__attribute__((constructor)) static void loaded(void)
{
	const char *path = getenv("OFFENDER_FILE");

	if (path)
		offend(path, 1); /* line: plugin */
}
#else
int main(int argc, char **argv)
{
	const char *more = argc > 3 ? argv[3] : "";
	int count = argc > 2 ? atoi(argv[2]) : 1, status = 0;
	pid_t child;

	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strchr(more, '/')) {
		setenv("OFFENDER_FILE", argv[1], 1);
		if (!dlopen(more, RTLD_NOW | RTLD_LOCAL)) {
			fputs(dlerror(), stderr);
			return 2;
		}
		return 0;
	}
	status = offend(argv[1], count); /* line: main */
	if (!strcmp(more, "fork")) {
		child = fork();
		if (child == 0)
			exit(offend(argv[1], count));
		waitpid(child, &status, 0);
	}
	return status;
}
#endif
