// SPDX-License-Identifier: MIT
/*
 * filecheck FILE OFFSET LEN BASE SEED
 *
 * Exit status 0 if a process that knows nothing of the shim finds the pattern of SEED in
 * FILE, both with read() and through a mapping; see fill() in testlib.h.
 */
#include "testlib.h"

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;

	off_t offset = atoll(argv[2]);
	size_t len = strtoul(argv[3], NULL, 10);
	uint64_t at = (uint64_t)(offset - atoll(argv[4]));
	unsigned seed = (unsigned)atoi(argv[5]);
	off_t start = offset & ~((off_t)page_size() - 1);
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	unsigned char *buf = malloc(len + 1);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !buf)
		return 2;
	if (offset + (off_t)len > st.st_size)
		return 1;
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, buf + done, len - done, offset + (off_t)done);

		if (n <= 0)
			return 2;
		done += (size_t)n;
	}
	if (differs(buf, len, at, seed) >= 0)
		return 1;
	if (len == 0)
		return 0;

	unsigned char *map =
		mmap(NULL, len + (size_t)(offset - start), PROT_READ, MAP_SHARED, fd, start);

	if (map == MAP_FAILED)
		return 2;
	return differs(map + (offset - start), len, at, seed) >= 0;
}
