/* SPDX-License-Identifier: MIT */
/*
 * Getting hold of a descriptor for a mapped file without harm: the keeper needs one, and the
 * program may have closed its own long ago. Closing any descriptor of a file drops all POSIX
 * locks that the process holds on it, so none is ever opened in the program's own table.
 */
#ifndef PINSTAGE_CUSTODY_H
#define PINSTAGE_CUSTODY_H

#include <errno.h>

#include "common/proto.h"
#include "common/vmas.h"
#include "lib/scratch.h"
#include "lib/space.h"

struct custody {
	struct inode_key key;
	uint64_t size;
	long fs_type;
	bool dax; /* mapped without a page cache: pins fail with EOPNOTSUPP */
	/* how custody_send() comes by it: */
	int fd;		  /* the program's own, or */
	bool lent;	  /* one that is another thread's, perhaps, to close at any moment */
	int lot;	  /* parked in flight, or */
	const char *path; /* by name, */
	bool named;	  /* by the program, that is: */
	int dir;	  /* as it would be found from there */
	bool anew; /* and then opens the file once more, for a description that is nobody's; */
	bool or_as_it_is; /* or sends what it has, if it may not */
};

/* Finds a descriptor, open for reading and writing, of the file behind mapping v, and proves
 * that it is that file by mapping a page of it and comparing what the kernel says of both. `f`
 * is what the records say, or NULL. Lock held. */
int custody_find(struct custody *c, const struct vma *v, const char *path, struct file *f,
		 struct scratch *scratch, enum reason *ret_why);

/* For keeper_call_via(): sends m with the descriptor. `arg` is the struct custody. */
int custody_send(int sock, struct msg *m, void *arg);

/* The same with more descriptors behind it. */
int custody_send_with(int sock, struct msg *m, const struct custody *c, const int *more,
		      size_t n);

/* Whether the keeper answered that it may not open the file. */
static inline bool custody_denied(int err, enum reason why)
{
	return (err == -EACCES || err == -EPERM) && why == REASON_NO_DESCRIPTOR;
}

/* Whether what was found has gone since, or its number stands for something else: then there is
 * to be looked once more, a few times. */
static inline bool custody_vanished(const struct custody *c, int err, int *tries)
{
	return c->lent && (err == -EBADF || err == -ESTALE) && (*tries)++ < 8;
}

/* The program is about to close its descriptor of f: keep one in flight for as long as there
 * are mappings that were made from it. Lock held. */
void custody_park(struct file *f, int fd);

#endif
