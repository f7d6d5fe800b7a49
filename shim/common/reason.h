/* SPDX-License-Identifier: MIT */
/* Why something was not staged: what a person reads, and what to do about it. */
#ifndef PINSTAGE_REASON_H
#define PINSTAGE_REASON_H

#include <errno.h>
#include <stdbool.h>

/* clang-format off */
#define PINSTAGE_REASONS(X) \
	X(NONE, "", "") \
	X(NOT_MAPPED, "the range is not wholly mapped", "register mapped memory only") \
	X(BAD_RANGE, "the range is empty, wraps around or is not readable as an argument", \
		"pass a valid range") \
	X(MIXED, "the range is part file-backed and part other memory", \
		"register the two parts separately") \
	X(READ_ONLY, "the mapping does not allow writing", "map the file with PROT_WRITE") \
	X(NOT_SHARED_FILE, "the range is not a writable shared mapping of a regular file", \
		"see errno for the kernel's own reason") \
	X(EXECUTABLE, "the mapping is executable", "map the file without PROT_EXEC") \
	X(PAST_EOF, "the range reaches past the end of the file", "extend the file first") \
	X(FILE_SYSTEM, "the file system may be shared with other hosts or is unknown", \
		"copy the file to ext4, xfs, btrfs or f2fs, or allow it with PINSTAGE_FS=+NAME") \
	X(NO_DESCRIPTOR, "no descriptor open for reading and writing can be had for the file", \
		"keep the file open, or run the program with the privileges it mapped the file with") \
	X(CHANGED, "the mapping is not what its file was when it was mapped", \
		"do not change mappings by raw system calls") \
	X(STACK, "the calling thread's stack or arguments lie in the range", "use other memory for them") \
	X(FOREIGN_PROCESS, "the process was made without fork()", "register in the parent") \
	X(NO_CURTAIN, "userfaultfd is not available", \
		"allow userfaultfd(2) in the seccomp profile") \
	X(NO_MEMORY, "out of mappings, memory or threads", "raise vm.max_map_count or the limits") \
	X(NO_FILES, "too many open files", "raise RLIMIT_NOFILE") \
	X(IN_USE, "another process or an unfinished operation holds pages of the range", \
		"if other processes map the file, run all of them under pinstage with PINSTAGE_EAGER " \
		"set to its name; or fork them after the registration") \
	X(NATIVE_PIN, "a device reads pages of the range through an MR that cannot be written", \
		"register the range for writing first, or deregister that MR") \
	X(STAGED_ELSEWHERE, "another process has staged the range", \
		"run all processes that map the file under the same user and keeper") \
	X(BUDGET, "the budget for staged memory is used up", "raise PINSTAGE_MAX_BYTES") \
	X(NO_KEEPER, "pinstage-keeper cannot be started", \
		"install it beside libpinstage.so, or start the program with pinstage run") \
	X(RENDEZVOUS, "the keeper's directory is not usable", \
		"make sure that it belongs to you and that others cannot write to it") \
	X(PROTOCOL, "the running keeper is of another version", \
		"end it (pinstage status shows it) or use its version of the library") \
	X(KEEPER_LOST, "the keeper did not answer", "look at its log; the file is as the kernel has it") \
	X(STILL_REFUSED, "the range was staged, and the kernel still refuses it", \
		"see errno; for ENOMEM raise RLIMIT_MEMLOCK") \
	X(WRITE_BACK, "the file cannot be written", "see errno; free space or check the device") \
	X(FILE_SIZE, "the hard limit on the size of files holds for the keeper's memory, too", \
		"raise RLIMIT_FSIZE (ulimit -H -f), or start the keeper where it is not limited") \
	X(CALL_IN_FLIGHT, "a write, copy or truncation of the file by another thread does not end", \
		"register when it has ended") \
	X(NO_PROC, "the program cannot see its mappings in /proc", \
		"mount proc(5) where the program has its root directory")
/* clang-format on */

enum reason {
#define REASON_ENUM(name, text, remedy) REASON_##name,
	PINSTAGE_REASONS(REASON_ENUM)
#undef REASON_ENUM
		REASON_MAX
};

/* Whether an error is the lack of descriptors, of the process or the system. */
static inline bool is_no_files(int err)
{
	return err == -EMFILE || err == -ENFILE;
}

const char *reason_text(enum reason r);
const char *reason_remedy(enum reason r);

#endif
