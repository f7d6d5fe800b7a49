/* SPDX-License-Identifier: MIT */
/*
 * The model test: random operations on a file that gets staged, and the same on a plain array.
 *
 *   main.c     the supervisor: runs, the final look from outside, the report
 *   shrink.c   takes operations away from a failing run as long as it fails
 *   several.c  programs that share the file, and take turns
 *   perform.c  one run: the operations in their order
 *   state.c    the model: content, size, holes; random choices; the log of operations
 *   maps.c     what the performer has mapped
 *   views.c    comparisons
 *   ops_*.c    the operations; ops.h lists them
 *
 * An operation draws all its random numbers from its run's seed and its own number, so that
 * any subset of a run's operations can be performed again.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE	  4096ul
#define MAX_PAGES 64ul
#define MAX_SIZE  (MAX_PAGES * PAGE)
#define MAX_OPS	  20000u
#define LINE	  176
#define NAMES	  3 /* the file is renamed from one to another */
#define PROGRAMS  4 /* that share it, at most */

/* What not every version of the shim follows, or not every surrounding allows. */
enum feature {
	F_KEEPER = 1 << 0,    /* kill the keeper */
	F_FALLOCATE = 1 << 1, /* and MADV_REMOVE */
	F_SHAPE = 1 << 2,     /* collapse and insert */
	F_COPY = 1 << 3,      /* copy_file_range, sendfile, splice */
	F_NAME = 1 << 4,      /* truncate() by name, O_TRUNC */
	F_FORK = 1 << 5,
	F_KILL = 1 << 6, /* processes that end by SIGKILL */
	F_EXEC = 1 << 7,
	F_DIRECT = 1 << 8,
	F_HOLES = 1 << 9,     /* holes stay holes */
	F_DONTFORK = 1 << 10, /* mappings that children do not inherit */
	F_SEVERAL = 1 << 11,  /* programs */
	F_COMMAND = 1 << 12,  /* there is one to call */
	F_ALWAYS = 1 << 13,
};

struct settings {
	char dir[256], command[256];
	unsigned features, programs; /* programs: at most */
	bool shim;
	bool refuses; /* the kernel refuses to pin; if not, registering must work without the
			 shim */
};

/* Shared by the supervisor and all processes of a run. */
struct shared {
	struct settings set;
	uint64_t seed;
	unsigned nops, list[MAX_OPS];
	unsigned next;	 /* the position in list of the next operation */
	unsigned number; /* of the operation under way */
	int depth;	 /* of forks */
	/* Which programs have a transfer under way while others have their turn. */
	bool pending[PROGRAMS];

	/* The model. What lies beyond the size is zero. */
	size_t size;
	unsigned char content[MAX_SIZE], saved[MAX_SIZE];
	bool hole[MAX_PAGES]; /* nothing was ever written there */
	int name;
	/* How often each page was cut off or taken away: a pin from before is of no page now.
	 */
	unsigned cut[MAX_PAGES];
	bool cut_forbidden; /* a transfer is under way in a process that waits */

	bool failed, begun, finished, keeper_killed, killed;
	bool dying; /* the program whose turn it is, as it is meant to */
	char failure[1024];
	unsigned staged, refused, transfers, late_transfers, compared;
	unsigned met;	    /* looks of a program at staged memory after another one's turn */
	unsigned times[64]; /* of each operation */
	unsigned lines;
	char log[MAX_OPS][LINE];
};
extern struct shared *shared;
extern unsigned program; /* which of several this is */

/* ---- choices (state.c) ---- */

void choices_begin(uint64_t seed, unsigned number);
uint64_t draw(void);
unsigned below(unsigned n); /* 0 .. n - 1 */
bool one_in(unsigned n);
/* A range of at least one byte in [0, limit), with a liking for edges of pages and of the file.
 */
void draw_range(size_t limit, size_t *ret_at, size_t *ret_len);
size_t draw_size(void); /* a size of the file */
/* New content for [at, at + len) of the file: fresh, or zeroes, or what was there once. */
void draw_content(unsigned char *to, size_t at, size_t len);

/* ---- the model (state.c) ---- */

void model_begin(size_t size);
void model_write(size_t at, const void *from, size_t len); /* extends */
void model_resize(size_t size);
void model_punch(size_t at, size_t len, bool holes); /* within the size */
void model_allocated(size_t at, size_t len);	     /* may be no hole any more */
void model_shift(size_t at, size_t len, bool insert);
size_t page_end(void); /* the end of the page that holds the end of the file */
const char *file_path(void);
const char *name_path(int name);

/* ---- the log (state.c) ---- */

/* Words of the operation under way, before they come true. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A mismatch: ends the run. */
void wrong(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Compares content that was seen with the model's. */
void must_equal(const char *what, const void *seen, size_t at, size_t len);

/* ---- what is mapped (maps.c) ---- */

/* Pages that are mapped alike; neighbours may be of one mapping. */
struct map {
	unsigned char *addr;
	size_t len, at; /* at: where in the file */
	int prot;
	bool may_write; /* the file was open for writing */
	bool not_inherited, locked;
};
#define MAX_MAPS 28
extern struct map maps[MAX_MAPS];
extern unsigned nmaps;

void maps_add(struct map map);
/* Calls for the part of each record in [addr, addr + len), which becomes a record of its own.
 */
void maps_split(unsigned char *addr, size_t len);
void maps_remove(unsigned char *addr, size_t len);
struct map *map_at(const unsigned char *addr);
struct map *any_map(void);
bool any_locked(const unsigned char *addr, size_t len);
/* One that can be loaded from or stored to and begins before the end of the file, or NULL. */
struct map *usable_map(bool for_writing);
/* Of a map, the bytes before the end of the file (of its page, with whole_page). */
size_t usable_len(const struct map *map, bool whole_page);
/* A range of pages: within a record, or beyond it into neighbours. */
bool draw_pages(unsigned char **ret_addr, size_t *ret_len);

/* ---- comparisons (views.c) ---- */

void compare_maps(void);
void compare_read(void);
void compare_size(void);
/* The file as a process without the shim sees it, now. */
void compare_raw(size_t at, size_t len, const char *after);
void guard_install(void);
/* Faults that nobody expected end the run. */
/* What a load does: 0, or the signal that it raises. */
int try_load(const volatile unsigned char *addr, unsigned char *ret_byte);
int try_store(volatile unsigned char *addr, unsigned char byte);
ssize_t raw_pread(int fd, void *buf, size_t len, off_t at);

/* ---- descriptors (ops_file.c) ---- */

struct file {
	int fd, flags;
};
#define MAX_FILES 5
extern struct file files[MAX_FILES];
struct file *file_for(bool reading, bool writing); /* opens one where there is none */
void files_close_all(void);
/* A scratch file without a name: memory. */
int scratch_file(void);

/* ---- devices (ops_device.c) ---- */

/*
 * To be called before pages of the file [at, at + len) are cut off or taken away: transfers
 * under way that touch them are completed, later ones avoid them. False if it may not be done
 * now.
 */
bool may_cut(size_t at, size_t len);
bool transfers_pending(void);
void rings_forget(void); /* in a forked child */
void rings_exit(void);

/* ---- processes ---- */

int perform(void);	       /* perform.c; returns only where the run is over */
void perform_next(unsigned n); /* performs up to n operations */
bool several(void);	       /* whether other programs share the file */

/* What the supervisor tells one of several programs to do, by one byte over a socket; it
 * answers with one when that is done. */
enum { TURN = 't', LOOK = 'l', END = 'e' };

#define OP(name, weight, needs) void op_##name(void);
#include "ops.h"
#undef OP

#endif
