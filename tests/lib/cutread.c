// SPDX-License-Identifier: MIT
/*
 * cutread FILE ROUNDS
 *
 * A fault of btrfs (Linux 6.18), without pinstage: one process cuts FILE off at the end of a
 * page and has it grow again by fallocate(), another one reads an earlier page meanwhile. Now
 * and then the first page behind the cut has its old content again. Says how often; exit status
 * 1 if it did.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define BEFORE (72 * 1024)
#define CUT    (48 * 1024)
#define AFTER  (80 * 1024)
#define READ   (36 * 1024)

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static int make(const char *name)
{
	const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		die(name);
	return fd;
}

static pid_t start_reader(int fd)
{
	const pid_t pid = fork();
	char page[4096];

	if (pid < 0)
		die("fork");
	while (!pid)
		if (pread(fd, page, sizeof(page), READ) < 0)
			_exit(1);
	return pid;
}

int main(int argc, char **argv)
{
	static char content[BEFORE];
	const volatile unsigned char *map;
	unsigned rounds, bad = 0;
	char name[4096];
	int fd, source;
	pid_t reader;

	if (argc != 3)
		return 2;
	rounds = (unsigned)atoi(argv[2]);
	snprintf(name, sizeof(name), "%s.source", argv[1]);
	source = make(name);
	fd = make(argv[1]);
	memset(content, 0xa3, sizeof(content));
	if (pwrite(source, content, sizeof(content), 0) != BEFORE || fsync(source) < 0)
		die(name);
	map = mmap(NULL, AFTER, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	reader = start_reader(fd);
	for (unsigned i = 0; i < rounds; i++) {
		/* All of it on the disk again, at once. */
		if (ioctl(fd, FICLONE, source) < 0)
			die("FICLONE");
		if (i % 2)
			(void)map[CUT];
		if (ftruncate(fd, CUT) < 0 || fallocate(fd, 0, CUT - 512, AFTER - CUT) < 0)
			die("ftruncate, fallocate");
		bad += map[CUT] != 0;
	}
	kill(reader, SIGKILL);
	printf("old content in %u of %u rounds\n", bad, rounds);
	unlink(name);
	unlink(argv[1]);
	return bad > 0;
}
