/* SPDX-License-Identifier: MIT */
/* Machine code: what is left of a statically linked liburing when its names are stripped. */
#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include "command/doctor.h"

/* How far behind the number the call may be: other arguments are set in between. */
#define CALL_WITHIN 64

/* mov $427,%eax or %rax, then syscall. */
static bool x86_registers(const unsigned char *code, size_t n)
{
	static const unsigned char number[] = { SYS_io_uring_register & 0xff,
						SYS_io_uring_register >> 8, 0, 0 };
	static const unsigned char call[] = { 0x0f, 0x05 };
	const unsigned char *end = code + n, *at = code + 1, *behind;

	for (; at < end && (at = memmem(at, (size_t)(end - at), number, sizeof(number)));
	     at++) {
		if (at[-1] != 0xb8 &&
		    (at - code < 3 || at[-3] != 0x48 || at[-2] != 0xc7 || at[-1] != 0xc0))
			continue;
		behind = at + sizeof(number);
		n = (size_t)(end - behind);
		if (memmem(behind, n < CALL_WITHIN ? n : CALL_WITHIN, call, sizeof(call)))
			return true;
	}
	return false;
}

/* mov x8 or w8, #427, then svc #0; instructions are little-endian whatever the data is. */
static bool arm64_registers(const unsigned char *code, size_t n)
{
	const uint32_t move = 0x52800008 | SYS_io_uring_register << 5, call = 0xd4000001;
	size_t since = CALL_WITHIN;

	for (size_t i = 0; i + 4 <= n; i += 4, since += 4) {
		const uint32_t word = code[i] | (uint32_t)code[i + 1] << 8 |
				      (uint32_t)code[i + 2] << 16 | (uint32_t)code[i + 3] << 24;

		if ((word & 0x7fffffff) == move)
			since = 0;
		else if (word == call && since < CALL_WITHIN)
			return true;
	}
	return false;
}

bool code_registers(unsigned machine, const void *code, size_t n)
{
	if (machine == EM_X86_64)
		return n && x86_registers(code, n);
	return machine == EM_AARCH64 && arm64_registers(code, n);
}
