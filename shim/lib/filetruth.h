/* SPDX-License-Identifier: MIT */
/*
 * One truth for file and memory: what the hooks on files have in common. What a call reads from
 * a staged file is carried there first; what it changes is changed in memory, too.
 */
#ifndef PINSTAGE_FILETRUTH_H
#define PINSTAGE_FILETRUTH_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/board.h"
#include "lib/inflight.h"
#include "lib/scratch.h"
#include "lib/space.h"
#include "lib/sync.h"
#include "lib/touch.h"

#define CURRENT ((off_t)-1) /* at the file's own position */

/* By us or by other processes of the user: two loads. */
static inline bool anything_staged(void)
{
	return atomic_load_explicit(&space.staged, memory_order_relaxed) != 0 ||
	       board_has_any();
}

/*
 * Around a call that changes the file behind fd and is made on the file alone. file_enter()
 * says whether that will do: false if the file is staged, with its key. Otherwise no thread of
 * this process stages the file until file_leave(), which says whether somebody else may have:
 * then memory has to be looked at again. Neither costs a system call where nothing is staged,
 * and both together one fstat() where something is.
 */
static inline bool file_enter(int fd, struct inode_key *ret_key)
{
	*ret_key = SYNC_NOT_ASKED;
	inflight_begin(fd);
	return likely(!anything_staged()) || sync_fd_enter(fd, ret_key);
}

static inline bool file_leave(int fd, struct inode_key key)
{
	const bool others = unlikely(anything_staged()) && sync_fd_listed(fd, key);

	inflight_end();
	return others;
}

/* From and to memory of the program, which may be behind a curtain. False: it is bad. */
bool file_copy_in(void *dst, const void *src, size_t n);
bool file_copy_out(void *dst, const void *src, size_t n);

/* Carries to the file what memory has of [off, off + n), if fd is one of a staged file. */
void file_before_read(int fd, size_t n, off_t off);

/*
 * A call's list of buffers, read once, as the kernel does: the program may change it, or have
 * it in one of them. What cannot be read stays what the program gave, for the kernel to say.
 */
struct file_list {
	struct iovec few[16];
	struct scratch many;
	bool mapped; /* many */
};

const struct iovec *file_list_take(struct file_list *l, const struct iovec *iov, int n);
void file_list_drop(struct file_list *l);

/* How many bytes a list asks for; SSIZE_MAX if that cannot be known. The list may be bad: that
 * is for the kernel to say. What it would refuse is not looked at. */
size_t file_total(const struct iovec *iov, int n);

/*
 * The pages that these lie in, not at their beginnings: what others wrote to them is brought to
 * memory before memory is changed in part, which from then on wins. Before each call that
 * changes the file from or up to there. Lock held.
 */
void file_meet(struct inode_key key, uint64_t a, uint64_t b, uint64_t c);

/* The program wrote `left` bytes from these buffers to the file at `off`: so does the memory.
 * Only what the kernel has just read from them is read again. Lock held. */
void file_take(struct inode_key key, const struct iovec *iov, int n, size_t left, off_t off);

/* The program read `left` bytes into these buffers from the file at `off`, which could not be
 * brought up to date: what this process has staged of it comes from memory. */
void file_give(struct inode_key key, const struct iovec *iov, int n, size_t left, off_t off);

/* The file reads zero in [off, end) now: so does the memory, and the keeper knows. Lock held.
 */
void file_clear(struct file *f, uint64_t off, uint64_t end);

/* A descriptor that the file can be read from: fd, or another one that the program has of it;
 * or -1. Lock held. */
int file_reader(int fd, struct inode_key key);

/* After a call that changed [off, end) of the file behind fd, while another process may have
 * staged it: the staging saw none of that, all, or a part. Memory gets all of it. */
void file_look_again(int fd, uint64_t off, uint64_t end);

/* Whether there is an exchange that these buffers would meet, and that can be waited for: by
 * space_exchange_between(). */
bool file_meets_exchange(const struct touch *buffers);

static inline bool file_exchange_now(unsigned now, const struct touch *buffers)
{
	return unlikely(now & 1) && file_meets_exchange(buffers);
}

/* A call that an exchange came into, and that has moved something. */
struct cut {
	int fd;
	struct touch buffers;
	unsigned before;
	off_t at; /* where the rest is, or CURRENT */
	bool writes;
};

/*
 * Whether `ret` of such a call may be short for that reason: then the rest, which begins in
 * this buffer, is to be moved. Only of regular files: what else has little to give at a time,
 * whoever waits for more of it may wait for ever.
 */
bool file_cut_short(const struct cut *c, ssize_t ret, struct iovec *ret_rest);

#endif
