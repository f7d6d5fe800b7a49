// SPDX-License-Identifier: MIT
/*
 * recordcheck FILE CONFIRMED...
 *
 * After a power cut, without the shim: does FILE, which recorder wrote, hold the records below
 * CONFIRMED of each writer, all of them whole? Says how many it found, and how many of the
 * confirmed ones are missing; the exit status is 1 if any is.
 *
 * A writer begins a batch when the one before it was confirmed, whether or not anybody got to
 * hear of that. So whatever there is of its last batch says that all before it were confirmed.
 */
#include "record.h"
#include "testlib.h"

static unsigned char content[RECORDS_FILE];

static uint64_t confirmed_for_sure(unsigned writer, uint64_t told)
{
	uint64_t last = RECORDS_EACH;

	while (last > 0 && record_state(content + record_offset(writer, last - 1), writer,
					last - 1) == RECORD_EMPTY)
		last--;
	return last > told + BATCH ? last - BATCH : told;
}

int main(int argc, char **argv)
{
	uint64_t told, sure, missing = 0, whole = 0, total = 0, untold = 0;
	int fd;

	if (argc != 2 + WRITERS)
		return 2;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, content, sizeof(content), 0) != (ssize_t)sizeof(content)) {
		perror(argv[1]);
		return 2;
	}
	for (unsigned w = 0; w < WRITERS; w++) {
		told = strtoul(argv[2 + w], NULL, 10);
		if (told > RECORDS_EACH)
			return 2;
		sure = confirmed_for_sure(w, told);
		total += told;
		untold += sure - told;
		for (uint64_t i = 0; i < RECORDS_EACH; i++) {
			const enum record_state is =
				record_state(content + record_offset(w, i), w, i);

			whole += is == RECORD_WHOLE;
			if (is == RECORD_WHOLE || i >= sure)
				continue;
			if (missing++ < 3)
				printf("writer %u: record %lu is %s\n", w, i,
				       is == RECORD_TORN ? "torn" : "missing");
		}
	}
	printf("%lu records reported, %lu more confirmed, %lu missing, %lu there\n", total,
	       untold, missing, whole);
	return missing > 0;
}
