/* SPDX-License-Identifier: MIT */
/* Publishing which files have a stage; see common/board.h. Lock held, but for board_start() and
 * turns. */
#include "common/board.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "keeper/keeper.h"
#include "keeper/outsiders.h"

static struct board *board;
static uint32_t files, count[BOARD_SLOTS];
static bool settled;
static int turns = -1;	    /* its descriptor */
static int where = -1;	    /* the directory */
static int error = -ENOENT; /* why there is none */

/*
 * The holder of the lock is the only writer. What a killed keeper left there stays until we
 * know what we have inherited: no file is missing in between.
 */
static int make(int dir)
{
	cleanup_fd int fd = board_open(dir);
	void *p;
	int err;

	where = dir;
	if (fd < 0)
		return fd;
	err = posix_fallocate(fd, 0, sizeof(struct board)); /* a store finds room for it */
	if (err)
		return -err;
	p = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	board = p;
	turns = steal_fd(&fd);
	settled = false;
	return 0;
}

int board_start(int dir)
{
	error = make(dir);
	return error;
}

void board_settle(void)
{
	if (!board)
		return;
	settled = true;
	atomic_store(&board->files, files);
	for (unsigned i = 0; i < BOARD_SLOTS; i++)
		atomic_store(&board->slot[i], count[i]);
}

/* What stood in the way at the start (no room, no descriptors) may be over. */
int board_error(void)
{
	if (!board && board_start(where) == 0)
		board_settle();
	return error;
}

/* The sum comes first and goes last: it is what is asked first. */
void board_list(struct inode_key key)
{
	const unsigned at = board_slot(key);

	files++;
	count[at]++;
	if (!board)
		return;
	if (settled || !atomic_load(&board->files))
		atomic_store(&board->files, files);
	if (settled || !atomic_load(&board->slot[at]))
		atomic_store(&board->slot[at], count[at]);
}

void board_unlist(struct inode_key key)
{
	const unsigned at = board_slot(key);

	files--;
	count[at]--;
	if (!board || !settled)
		return;
	atomic_store(&board->slot[at], count[at]);
	atomic_store(&board->files, files);
}

/* Several threads may read and write one file side by side; the turn is theirs together. */
static void take(struct stage *s)
{
	if (s->in_turn++ == 0 && turns >= 0)
		board_take_turn(turns, s->key, TURN_LENGTH, true);
}

static void give(struct stage *s)
{
	if (--s->in_turn == 0 && turns >= 0)
		board_give_turn(turns, s->key, TURN_LENGTH);
}

void board_begin_read(struct stage *s)
{
	pthread_mutex_lock(&s->turn);
	take(s);
	pthread_mutex_unlock(&s->turn);
}

void board_end_read(struct stage *s)
{
	pthread_mutex_lock(&s->turn);
	give(s);
	pthread_mutex_unlock(&s->turn);
}

void board_begin_write(struct stage *s)
{
	pthread_mutex_lock(&s->turn);
	take(s);
	if (s->writing++ == 0)
		outsiders_write_begins(s);
	pthread_mutex_unlock(&s->turn);
}

void board_end_write(struct stage *s)
{
	pthread_mutex_lock(&s->turn);
	if (--s->writing == 0)
		outsiders_write_ends(s);
	give(s);
	pthread_mutex_unlock(&s->turn);
}
