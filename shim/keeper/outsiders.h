/* SPDX-License-Identifier: MIT */
/* What others do to a staged file, and what that does to the memory. */
#ifndef PINSTAGE_KEEPER_OUTSIDERS_H
#define PINSTAGE_KEEPER_OUTSIDERS_H

#include "keeper/keeper.h"
#include "keeper/pace.h"

/* Before any stage is made. */
void outsiders_begin(void);

/* Main thread: a descriptor that is readable when somebody opened or changed a staged file, and
 * what to do then: a pass, now or soon. Lock held for the latter. */
int outsiders_fd(void);
void outsiders_heard(void);

/* When a worker is done with the stage; lock held. */
void outsiders_listen_again(struct stage *s);

/* From before the first segment is filled; by the worker that has the stage. */
void outsiders_watch(struct stage *s);

/* Around everything that writes the file: is there a hint that others did (s->touched)? */
void outsiders_before(struct stage *s);
void outsiders_after(struct stage *s);
/* Around our own writes; those of several threads together. */
void outsiders_write_begins(struct stage *s);
void outsiders_write_ends(struct stage *s);
void outsiders_pass_soon(struct stage *s); /* as soon as a pass is due for others; lock held */
void outsiders_pass_done(struct stage *s, struct effort e); /* lock held */

/*
 * merge.c: takes what others wrote to [off, off+len) of the file into the memory, where memory
 * has not changed: word by word from the old to the new content, so that no concurrent store is
 * lost. A page that both changed keeps memory's version, and one line says so.
 */
void merge_outside(struct stage *s, enum touched how, uint64_t off, uint64_t len);

/* words.c: memory's page p has `old`, which is used up, and gets `new`. What cannot be mapped
 * for writing is left. */
void words_take(struct segment *g, uint64_t p, unsigned char *old, const unsigned char *new);
/* What the keeper before has begun of that. -ENOMEM: another time. */
int words_go_on(struct segment *g);

#endif
