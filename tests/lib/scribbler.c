// SPDX-License-Identifier: MIT
/*
 * scribbler LEDGER
 *
 * Says "ready", and then, in a ledger, over and over that the segment has very many pages, and
 * as many as it has.
 */
#include "common/ledger.h"
#include "testlib.h"

int main(int argc, char **argv)
{
	volatile struct ledger_header *l;
	uint64_t pages;
	int fd;

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (l == MAP_FAILED || l->magic != LEDGER_MAGIC) {
		printf("%s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	pages = l->pages;
	for (;;) {
		l->pages = 1UL << 40;
		l->pages = pages;
	}
}
