// SPDX-License-Identifier: MIT
/* Preloaded to a keeper: its random numbers are all alike but for the last byte, $NUMBER. So
 * two keepers are not the same, and number what they have in the same way. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

ssize_t getrandom(void *buf, size_t size, unsigned flags)
{
	const char *number = getenv("NUMBER");
	const uint64_t value = 0x70696e7374616700ULL | (number ? strtoul(number, NULL, 10) : 0);

	(void)flags;
	memset(buf, 0, size);
	memcpy(buf, &value, size < sizeof(value) ? size : sizeof(value));
	return (ssize_t)size;
}
