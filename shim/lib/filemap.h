/* SPDX-License-Identifier: MIT */
/* The file's own mapping, made once more where the program wants it: from the one that is kept
 * aside, without a descriptor. */
#ifndef PINSTAGE_FILEMAP_H
#define PINSTAGE_FILEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/vmas.h"
#include "lib/areas.h"

/* What the mapping of [start, end) is like. -EFAULT if it is not all alike: the kernel would
 * have several mappings there even without us. */
int filemap_like(uintptr_t start, uintptr_t end, struct vma *ret);

/* The file from where addr, in area a, shows it and `skip` bytes on, at `at` in place of what
 * is there, with the properties of `like`. */
bool filemap_at(const struct area *a, uintptr_t addr, uintptr_t at, size_t skip, size_t len,
		const struct vma *like);

#endif
