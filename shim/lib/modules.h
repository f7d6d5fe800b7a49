/* SPDX-License-Identifier: MIT */
/*
 * Return addresses as modules and offsets, from /proc/self/maps and the modules' own headers in
 * memory: no lock of the dynamic linker's, no allocation, and bad memory is no trouble.
 */
#ifndef PINSTAGE_MODULES_H
#define PINSTAGE_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/scratch.h"
#include "lib/trace.h"

#define MODULES_MOST   24
#define BUILD_ID_BYTES 32

struct module {
	uint64_t dev, ino;
	uintptr_t base; /* where its ELF header is */
	uintptr_t bias; /* what addresses in memory are more than in the file */
	bool elf;
	unsigned char id[BUILD_ID_BYTES];
	size_t id_len;	  /* 0: none, or unknown */
	const char *path; /* as the kernel has it */
};

/* The modules of some traces. A frame in none of them (code made at run time, or a module that
 * was unloaded) is written as `?`. */
struct modules {
	struct module m[MODULES_MOST];
	size_t n;
};

/* -errno. */
int modules_find(struct modules *ms, const struct trace *const *t, size_t n,
		 struct scratch *scratch);

/* "0+0x1234 1+0xabc ...": number of the module, address in the file (what addr2line(1) wants;
 * of the instruction after the call). The library's own innermost frames are left out. Whole
 * frames only. */
void modules_print_trace(char *dst, size_t size, const struct modules *ms,
			 const struct trace *t);

/* "0:BUILDID:PATH 1:...": with spaces and backslashes in paths escaped once more. Whole
 * modules only. */
void modules_print(char *dst, size_t size, const struct modules *ms);

/* For tests: the build-id in the notes at p, *ret_len 0 if there is none. */
void modules_note_id(const unsigned char *p, size_t n, unsigned char id[BUILD_ID_BYTES],
		     size_t *ret_len);

#endif
