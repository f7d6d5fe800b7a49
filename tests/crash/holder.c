// SPDX-License-Identifier: MIT
/*
 * holder FILE
 *
 * Maps all of FILE, registers it, and then does what it is told, a line of standard input at a
 * time, and says what came out, an error by its name:
 *
 *   store SEED    fills the memory with the pattern of SEED
 *   msync, fsync
 *   check SEED    does the memory hold the pattern of SEED?
 *   remap         lets go of the memory and maps the file again
 *   exit
 */
#include "testlib.h"

static unsigned char *map;
static size_t size;
static int fd;

static void say(int ret)
{
	puts(ret ? strerrorname_np(errno) : "ok");
	fflush(stdout);
}

static int remap(struct io_uring *ring)
{
	(void)io_uring_unregister_buffers(ring);
	if (munmap(map, size) < 0)
		return -1;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? -1 : 0;
}

static void obey(struct io_uring *ring, const char *line)
{
	unsigned seed = 0;

	if (sscanf(line, "store %u", &seed) == 1) {
		fill(map, size, 0, seed);
		say(0);
	} else if (sscanf(line, "check %u", &seed) == 1) {
		errno = EILSEQ;
		say(differs(map, size, 0, seed) >= 0);
	} else if (!strcmp(line, "msync\n")) {
		say(msync(map, size, MS_SYNC));
	} else if (!strcmp(line, "fsync\n")) {
		say(fsync(fd));
	} else if (!strcmp(line, "remap\n")) {
		say(remap(ring));
	} else {
		exit(strcmp(line, "exit\n") ? 2 : 0);
	}
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	struct stat st;
	char line[64];

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(argv[1]);
		return 2;
	}
	size = (size_t)st.st_size;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || io_uring_queue_init(8, &ring, 0) < 0)
		return 2;
	errno = -register_one(&ring, map, size);
	say(errno);
	while (fgets(line, sizeof(line), stdin))
		obey(&ring, line);
	return 0;
}
