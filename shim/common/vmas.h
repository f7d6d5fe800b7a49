/* SPDX-License-Identifier: MIT */
/* The kernel's own view of an address space: /proc/self/maps and smaps, parsed without libc's
 * stdio and heap. */
#ifndef PINSTAGE_VMAS_H
#define PINSTAGE_VMAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMA_READ     0x001
#define VMA_WRITE    0x002
#define VMA_EXEC     0x004
#define VMA_SHARED   0x008
#define VMA_MAYWRITE 0x010
#define VMA_LOCKED   0x020
#define VMA_DONTFORK 0x040
#define VMA_UFFD     0x080 /* registered with somebody's userfaultfd */
#define VMA_ONFAULT  0x100 /* locked, but not populated for that */
#define VMA_HUGE     0x200 /* MADV_HUGEPAGE */
#define VMA_NOHUGE   0x400
#define VMA_ASKED    0x800 /* what only smaps says is among these */

struct vma {
	uintptr_t start, end;
	uint64_t off;	   /* bytes */
	uint64_t dev, ino; /* as this file has them: not fstat's numbers; ino 0: no file */
	unsigned flags;
	unsigned pkey;
};

/* Which file a mapping is of, as maps have it. */
struct vma_id {
	uint64_t dev, ino;
};

static inline bool vma_is_of(const struct vma *v, struct vma_id id)
{
	return v->dev == id.dev && v->ino == id.ino && v->flags & VMA_SHARED;
}

/* A header line "start-end perms off dev ino path": true if it is one. *ret_path points into
 * `line`, or to its end. */
bool vma_parse_header(const char *line, struct vma *v, const char **ret_path);

/* Any other line of an entry: takes up what it says of v. */
void vma_parse_detail(const char *line, struct vma *v);

#define VMAS_MAPS  "/proc/self/maps"  /* cheap: what the header line says */
#define VMAS_SMAPS "/proc/self/smaps" /* all of struct vma; walks the page tables */

/*
 * Calls each() for every mapping, in order of address; a non-zero return ends the scan and is
 * returned. `path` is valid during the call. *ret_count, if not NULL, is the number of mappings
 * seen. `buf` is working space, at least 16 KiB. -errno.
 */
int vmas_scan(const char *from, char *buf, size_t size,
	      int (*each)(const struct vma *v, const char *path, void *arg), void *arg,
	      size_t *ret_count);

/*
 * The same for the mappings of this process that overlap [start, end) alone, with what a header
 * line says of them. Asks the kernel for each, which it finds in O(log n), and reads maps where
 * it does not answer that (before Linux 6.11).
 */
int vmas_between(uintptr_t start, uintptr_t end, char *buf, size_t size,
		 int (*each)(const struct vma *v, const char *path, void *arg), void *arg);

/*
 * All mappings of this process with what a header line says of them, but for the path, which is
 * "" or not: in a fraction of the time that maps takes where the kernel answers for addresses.
 */
int vmas_outline(char *buf, size_t size,
		 int (*each)(const struct vma *v, const char *path, void *arg), void *arg,
		 size_t *ret_count);

/* The shared mappings of files alone, of any process: `from` is its maps. */
int vmas_shared(const char *from, char *buf, size_t size,
		int (*each)(const struct vma *v, const char *path, void *arg), void *arg);

/* Does the kernel answer for one address (PROCMAP_QUERY)? 0, or -errno of its refusal. */
int vmas_can_ask(void);

#endif
