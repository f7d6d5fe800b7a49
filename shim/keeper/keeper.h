/* SPDX-License-Identifier: MIT */
/*
 * The keeper's data. The main thread talks (server.c) and never touches a file; workers
 * (lane.c) do what touches files. Everything below is under `keeper.lock`, except that the
 * worker which has a stage `busy` may read and write the contents of that stage's segments
 * without it; membership of lists always takes the lock.
 */
#ifndef PINSTAGE_KEEPER_H
#define PINSTAGE_KEEPER_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

#include "common/ledger.h"
#include "common/proto.h"

#define INTERVAL_MOST_MS (24 * 3600 * 1000UL) /* that anybody may ask for */

/* A process, known by the number that its conversations share. */
struct client {
	LIST_ENTRY(client) link;
	uint64_t token;
	uint64_t pid; /* as it sees itself */
	pid_t seen;   /* as we do, or 0 */
	uint64_t run; /* of `pinstage run`, or 0 */
	uint64_t interval_ms;
	uint64_t budget;  /* bytes */
	bool fate_shared; /* we would end with it */
	unsigned conversations;
};

struct conversation {
	int fd;
	pid_t pid;	       /* as we see it; 0: not at all */
	unsigned refs;	       /* epoll's one, and one per request under way */
	struct client *client; /* after HELLO */
	LIST_ENTRY(conversation) link;
	struct msg *hello; /* leave.c: that is not answered yet */
	bool gone;
};

struct use { /* a client shows a segment */
	LIST_ENTRY(use) link;
	struct client *client;
};

struct segment {
	LIST_ENTRY(segment) link;
	struct stage *stage;
	uint64_t id;
	uint64_t run;
	uint64_t off, len;
	int memfd;		  /* read-write: only for seals and repairs */
	const unsigned char *mem; /* read-only mapping from a read-only reopen */
	int ledger_fd;
	struct ledger_header *ledger;
	size_t ledger_size; /* bytes */
	LIST_HEAD(, use) users;
	enum segment_state state;
	atomic_uint kept_by; /* guarded.c: which guardian has it */
	bool ending;	     /* the guardian must not hear of it any more */
	bool replaced;	     /* the memory is another one than clients may have */
	bool parted;	     /* the ledger is a copy: what there is belongs to other memory */
	/* evict.c, while it is filled: */
	uint64_t recorded;     /* pages: copied, and their bases recorded */
	unsigned char *stayed; /* per page, or NULL: 1: of the old ones after an eviction */
	uint64_t interval_ms;  /* of whoever brought it */
	uint64_t dirty;	       /* bytes found changed by the last pass */
	uint64_t retry_ms;     /* between two tries of the last word */
	uint64_t next_try;     /* ms, CLOCK_MONOTONIC */
	uint64_t refused_at;   /* ms, or 0: the last time it was refused */
	uint64_t changed;      /* bytes found changed, in all */
	uint64_t rest_since;   /* ms, or 0: ending.c, since when that is rest_changed */
	uint64_t rest_changed;
};

struct job {
	STAILQ_ENTRY(job) link;
	struct conversation *from; /* NULL: the keeper's own */
	struct msg m;
	int fd[PROTO_ASKS]; /* that came with it; -1: none. Closed with the job */
	enum { JOB_REQUEST, JOB_PASS } kind;
};

/* Whether others may have written to a file since its pages were last compared. */
enum touched {
	UNTOUCHED,
	TOUCHED_RESIDENT, /* nothing tells; a look at the page cache costs no reading */
	TOUCHED_ANYWHERE,
};

struct stamp { /* of a file */
	struct timespec written, changed;
};

/* What shadows one inode. */
struct stage {
	LIST_ENTRY(stage) link;
	struct inode_key key;
	char name[256];
	int fd;	   /* our own description of the file, or -1 while there is none yet */
	int aside; /* another one, or none (0, -1): stage_aside() */
	bool overlay;
	atomic_uint writes;   /* ours to the file, how many */
	bool gently;	      /* nobody waits for this pass: it keeps to one processor */
	pthread_mutex_t turn; /* of board_begin_read() and board_begin_write() */
	unsigned in_turn;     /* threads that read or write */
	unsigned writing;     /* threads */
	bool unflushed; /* fdatasync() failed; until one succeeds after all was written again */
	bool to_flush;	/* when all is written */
	LIST_HEAD(, segment) segments;
	STAILQ_HEAD(, job) jobs;
	TAILQ_ENTRY(stage) ready;
	bool queued, busy;
	struct lane *lane;
	uint64_t idle_us;     /* what passes that found nothing cost of late */
	uint64_t next_pass;   /* ms, CLOCK_MONOTONIC; UINT64_MAX: nothing has set it yet */
	uint64_t not_before;  /* ms: no pass for whoever comes with a shorter interval */
	uint64_t last_good;   /* ms: start of the last pass that wrote all there was */
	int error;	      /* of the last try, until all of it is written */
	unsigned failed;      /* passes, one after the other */
	uint64_t unmapped_at; /* ms: when nobody else had any of the file mapped */

	/* outsiders.c */
	bool heard, ear_tells; /* there is a watch; and it tells others from us */
	int ear;	       /* fanotify or inotify, or -1 */
	bool deaf;	       /* to what comes while a worker has the stage */
	enum touched touched;
	struct stamp stamp;  /* when it was last looked at, or written by ourselves */
	struct stamp before; /* when this pass began */
	unsigned writes_before;
	bool moved;	 /* the times, by others, between our own writes */
	bool stored;	 /* by others, since a pass has merged all; through a mapping, maybe */
	unsigned looks;	 /* so many passes more compare all of it */
	bool look_again; /* what others did may hide behind our own writes */
	uint64_t quiet_until; /* ms: no pass for others' sake before that */
	uint64_t merge_next;  /* ms: nor a merge while a client waits */
};

/* A file system's queue: one that is stuck delays nobody else. */
struct lane {
	LIST_ENTRY(lane) link;
	uint64_t dev;
	TAILQ_HEAD(, stage) ready;
	pthread_cond_t wake;
	unsigned threads, idle;
};

struct waiter { /* `pinstage run` waits for the end of what it started */
	LIST_ENTRY(waiter) link;
	struct conversation *from;
	uint64_t run;
	uint64_t deadline;
};

struct keeper {
	pthread_mutex_t lock;
	LIST_HEAD(, stage) stages;
	LIST_HEAD(, client) clients;
	LIST_HEAD(, lane) lanes;
	LIST_HEAD(, waiter) waiters;
	uint64_t staged;   /* bytes, all segments */
	uint64_t refusals; /* of STAGE and COMMIT */
	uint64_t failures; /* passes that could not write all there was */
	uint64_t next_id;
	uint64_t instance; /* tells this keeper from the next */
	int event;	   /* eventfd: tells the main thread that something changed */
	unsigned conversations;
	uint64_t files;	     /* descriptors that we may have */
	bool filtered;	     /* not every system call may be allowed (seccomp) */
	bool leaving;	     /* for somebody who may have more */
	bool durable_passes; /* we are to end: on the device, not only in the file */
};

extern struct keeper keeper;

uint64_t now_ms(void);
void keeper_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *xcalloc(size_t n, size_t size); /* never NULL: a keeper without memory waits for it */

/* registry.c; lock held */
struct stage *stage_find(struct inode_key key, bool create);
void stage_drop_if_unused(struct stage *s);
struct segment *segment_by_id(uint64_t id);
struct segment *segment_meant(const struct msg *m); /* by RETIRE or RELEASE, or NULL */
void stage_close(struct stage *s);

bool stage_is_filling(const struct stage *s);
struct segment *segment_overlapping(struct stage *s, uint64_t off, uint64_t len);
bool segment_used_by(const struct segment *g, const struct client *c);
void segment_use(struct segment *g, struct client *c);
void segment_unuse(struct segment *g, const struct client *c);
/* The last word, when nobody uses it any more: next time; or not within a second of the last
 * try, for whoever unmaps a range may do so again and again under a pin. */
void segment_try_now(struct segment *g);
void segment_try_soon(struct segment *g);
void segment_unlink(struct segment *g); /* to be freed when the lock is given back */

/* board.c: a stage is on the board for as long as it is registered; lock held */
int board_start(int dir); /* no lock; -errno */
void board_settle(void);  /* what was inherited is registered */
int board_error(void);	  /* why it cannot be used, or 0 */
void board_list(struct inode_key key);
void board_unlist(struct inode_key key);

/* No lock: around reading the file, and around looking at its length and writing up to it.
 * Btrfs may show what was cut off once more if somebody reads the file just then. */
void board_begin_read(struct stage *s);
void board_end_read(struct stage *s);
void board_begin_write(struct stage *s);
void board_end_write(struct stage *s);

/* budget.c: bytes that this client may yet stage, or one of which nothing is known; lock held
 */
uint64_t budget_left(const struct client *c);

/* Clients can write the ledger, too. What says where things lie, and how many there are, is
 * therefore never read from its header once that was checked. */
static inline uint64_t segment_pages(const struct segment *g)
{
	return g->len / page_size();
}

static inline uint8_t *segment_flags(const struct segment *g)
{
	return ledger_flags(g->ledger, segment_pages(g));
}

/* aside.c: for waiting until the file is written, other than by fdatasync(): who waits takes
 * the error off the description that it asks, and would not hear of it again. Where no second
 * one can be had it is s->fd after all; who waits says when. By the worker. */
int stage_aside(struct stage *s);
void stage_wait_begins(struct stage *s); /* after stage_aside() */
void stage_wait_ends(struct stage *s, int err);
static inline bool wait_denied(int err) /* by a filter (seccomp) */
{
	return err == -ENOSYS || err == -EPERM;
}
int stage_write_out(struct stage *s, uint64_t off, uint64_t len); /* and waits; -errno */

/* segment.c: the segment's memory. -errno */
int segment_create(struct stage *s, uint64_t off, uint64_t len, struct segment **ret);
int segment_adopt(struct stage *s, const struct msg *m, int memfd, int ledger,
		  struct segment **ret);
bool same_inode(int a, int b); /* descriptors */
/* A copy that is not sealed; and that one instead of its own, lock held: a new guardian may
 * just be told of it. */
int segment_copy_memory(const struct segment *g, int *ret_fd, const unsigned char **ret_mem);
void segment_take_memory(struct segment *g, int fd, const unsigned char *mem);
/*
 * Memory that was sealed and could not be written goes on in other memory, with the same
 * ledger, and may still be somewhere when that was written long ago. The ledger says which one
 * is the last, once the guardian has that; what was superseded has nothing that the file has
 * not.
 */
void segment_is_current(struct segment *g);
bool segment_is_superseded(const struct segment *g);
/* Whoever has the other memory may come later. -errno: nothing is changed. */
int segment_part_ledger(struct segment *g);
int segment_share_ledger(struct segment *g); /* once more, as it is in the copy */
/* `fd` came from a client with memory that is said to be a copy of it. Maps it if it was
 * superseded, or *ret is NULL. -errno */
int segment_map_origin(const struct segment *g, int fd, const unsigned char **ret);
/* Written and not known to be on the device, or not even written. */
bool segment_has_unflushed(const struct segment *g);
void segment_unpopulate(struct segment *g); /* our own mapping holds no page any more */
void segment_unmap(struct segment *g);
void segment_free(struct segment *g); /* takes a second for eight GiB */

/* lane.c; lock held */
void lane_post(struct stage *s, struct job *j);
void lane_post_pass(struct stage *s);			/* a background pass, now */
void lane_post_due_pass(struct stage *s, uint64_t now); /* if it is time; not during one */
bool lanes_staffed(void); /* false: a queue has nobody to serve it, yet */

/* engine.c: by the worker that has the stage; no lock */

int engine_sync(struct segment *g, uint64_t off, uint64_t len);
int engine_flush(struct stage *s);  /* fdatasync, and what its failure means */
void engine_doubt(struct stage *s); /* the device failed: as if the flush had said so */
/* Around what may be told of a failed write-back: if we die over it, it is assumed. */
void engine_flushing(struct stage *s, bool flushing);
void engine_write_again(struct segment *g);
void engine_record_bases(struct segment *g);
/* Those of other memory. What was not written, or not flushed, is so still. */
void engine_record_bases_of(struct segment *g, const unsigned char *mem);
void engine_mark_unwritten(struct segment *g);
void engine_record_base(struct segment *g, uint64_t page);
bool engine_forget_bases(struct segment *g, uint64_t off, uint64_t len, bool *ret_differs);

/* evict.c: likewise */
struct window { /* of the file, covers the segment; page-aligned */
	uint64_t off, len;
	uint64_t patience_ms; /* how long lingering pages are waited for */
};
int evict_clean(struct segment *g, const struct window *w);
void evict_before_flush(struct segment *g);
/* passes.c: what has failed so far, for engine_doubt(), without waiting for what is yet to be
 * written */
void stage_hear(struct stage *s);
int stage_flush(struct stage *s); /* passes.c: engine_flush(), with that before */
void evict_copied(struct segment *g, uint64_t off, uint64_t len);
int evict_commit(struct segment *g, const struct window *w);

/* mappers.c: whether another process than `client` has part of [off, off+len) of the stage's
 * file mapped shared; by the worker that has the stage */
bool mapped_elsewhere(struct stage *s, uint64_t off, uint64_t len, pid_t client);

/* Whether another process than we shows the segment's memory. */
bool memory_mapped_elsewhere(const struct segment *g);

/* share.c: whether no client of that run uses the segment; lock held */
bool left_by_run(const struct segment *g, uint64_t run);

/* By a worker, no lock held. requests.c, passes.c */
void request_run(struct stage *s, struct job *j);
void request_pass(struct stage *s);

/* server.c */
int server_run(int listener, uint64_t idle_exit_ms);

bool make_way(void); /* leave.c; no lock held; false: we hold something */

/* clients.c */
void conversation_put(struct conversation *c); /* lock held */
void answer(struct conversation *c, struct msg *m, const int *fds, size_t n);

#endif
