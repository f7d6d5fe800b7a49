/* SPDX-License-Identifier: MIT */
#include "lib/board.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/rendezvous.h"
#include "lib/real.h"

static const struct board empty;
const struct board *board = &empty;

/* By a mapping, for a limit on file sizes would come as a signal. The order is
 * board_unlist()'s.
 */
static void clear(int fd)
{
	struct board *p =
		real.mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return;
	memset(p->slot, 0, sizeof(p->slot));
	atomic_store(&p->files, 0);
	real.munmap(p, sizeof(*p));
}

/* What keepers left that were killed together: nothing is staged with nobody, and all of the
 * user's programs would ask for ever. A keeper that begins meanwhile waits for the lock. */
static void clear_if_nobodys(int dir, int fd)
{
	const int lock =
		real.openat(dir, RENDEZVOUS_LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (lock < 0)
		return;
	if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
		clear(fd);
		(void)flock(lock, LOCK_UN); /* a copy that is being made may have it, too */
	}
	real.close(lock);
}

void board_map(void)
{
	int dir = rendezvous_open(geteuid(), 1), fd = -1;
	void *p = MAP_FAILED;

	if (dir >= 0)
		fd = board_open(dir);
	if (fd >= 0)
		p = real.mmap(NULL, sizeof(struct board), PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) {
		board = p;
		if (board_has_any())
			clear_if_nobodys(dir, fd);
	}
	if (fd >= 0)
		real.close(fd);
	if (dir >= 0)
		real.close(dir);
}
