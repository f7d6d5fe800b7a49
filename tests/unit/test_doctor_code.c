/* SPDX-License-Identifier: MIT */
/* links: shim/command/doctor_code.c */
/* io_uring_register() in machine code. */
#include "unit.h"

#include <elf.h>

#include "command/doctor.h"

static bool found(unsigned machine, const void *code, size_t n)
{
	/* What lies beside it must not be looked at: valgrind and ASan see that. */
	void *exact = malloc(n ? n : 1);
	bool yes;

	assert_non_null(exact);
	memcpy(exact, code, n);
	yes = code_registers(machine, exact, n);
	free(exact);
	return yes;
}

#define FOUND(machine, code) found(machine, code, sizeof(code) - 1)

static void x86__number_then_call(void **state)
{
	(void)state;
	assert_true(FOUND(EM_X86_64, "\xb8\xab\x01\x00\x00\x0f\x05"));
	/* As liburing 2.3 has it: mov $427,%eax; xor %edx,%edx; mov $1,%esi; syscall */
	assert_true(FOUND(EM_X86_64, "\x90\xb8\xab\x01\x00\x00\x31\xd2\xbe\x01\x00\x00\x00"
				     "\x0f\x05\x85\xc0"));
	assert_true(FOUND(EM_X86_64, "\x48\xc7\xc0\xab\x01\x00\x00\x0f\x05"));
	/* A first one without a call hides no second. */
	assert_true(FOUND(EM_X86_64, "\xb8\xab\x01\x00\x00\xc3"
				     "................................"
				     "................................"
				     "\xb8\xab\x01\x00\x00\x0f\x05"));
}

static void x86__anything_else(void **state)
{
	(void)state;
	assert_false(found(EM_X86_64, "", 0));
	assert_false(FOUND(EM_X86_64, "\xb8"));
	assert_false(FOUND(EM_X86_64, "\xb8\xab\x01\x00\x00"));
	assert_false(FOUND(EM_X86_64, "\xb8\xab\x01\x00\x00\x0f"));
	/* mov $427,%edi, as before a call of syscall() */
	assert_false(FOUND(EM_X86_64, "\xbf\xab\x01\x00\x00\x0f\x05"));
	/* io_uring_enter() is 426; and 427 in two bytes is not all of the number */
	assert_false(FOUND(EM_X86_64, "\xb8\xaa\x01\x00\x00\x0f\x05"));
	assert_false(FOUND(EM_X86_64, "\xb8\xab\x01\x01\x00\x0f\x05"));
	assert_false(FOUND(EM_X86_64, "\xab\x01\x00\x00\x0f\x05"));
	assert_false(FOUND(EM_X86_64, "\xb8\xab\x01\x00\x00"
				      "................................"
				      "................................"
				      "\x0f\x05"));
	assert_false(FOUND(EM_386, "\xb8\xab\x01\x00\x00\x0f\x05"));
	assert_false(FOUND(EM_AARCH64, "\xb8\xab\x01\x00\x00\x0f\x05"));
}

#define MOVE_X8 "\x68\x35\x80\xd2"
#define MOVE_W8 "\x68\x35\x80\x52"
#define MOVE_X0 "\x60\x35\x80\xd2"
#define CALL	"\x01\x00\x00\xd4"
#define NOP	"\x1f\x20\x03\xd5"

static void arm64__number_then_call(void **state)
{
	(void)state;
	assert_true(FOUND(EM_AARCH64, MOVE_X8 CALL));
	assert_true(FOUND(EM_AARCH64, NOP MOVE_W8 NOP NOP CALL NOP));
	assert_true(FOUND(EM_AARCH64, CALL MOVE_W8 CALL));
}

static void arm64__anything_else(void **state)
{
	(void)state;
	assert_false(FOUND(EM_AARCH64, ""));
	assert_false(FOUND(EM_AARCH64, MOVE_X8));
	assert_false(FOUND(EM_AARCH64, MOVE_X8 "\x01\x00\x00"));
	assert_false(FOUND(EM_AARCH64, CALL MOVE_X8));
	assert_false(FOUND(EM_AARCH64, MOVE_X0 CALL));
	assert_false(FOUND(EM_AARCH64, "." MOVE_X8 CALL "..."));
	assert_false(FOUND(
		EM_AARCH64,
		MOVE_X8 NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP CALL));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(x86__number_then_call),
	cmocka_unit_test(x86__anything_else),
	cmocka_unit_test(arm64__number_then_call),
	cmocka_unit_test(arm64__anything_else),
};

UNIT_MAIN(tests, NULL, NULL)
