/* SPDX-License-Identifier: MIT */
#include "common/board.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/sys.h"

/* Never smaller than it was, for it is mapped. A limit on file sizes would come as a signal. */
static int make_room(int fd)
{
	struct rlimit limit;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return -EPERM;
	if ((st.st_mode & 07777) != 0600 && fchmod(fd, 0600) < 0)
		return -errno;
	if ((uint64_t)st.st_size >= sizeof(struct board))
		return 0;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < sizeof(struct board))
		return -EFBIG;
	return ftruncate(fd, sizeof(struct board)) < 0 ? -errno : 0;
}

int board_open(int dir)
{
	int fd = openat(dir, BOARD_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err = fd < 0 ? -errno : make_room(fd);

	if (!err)
		return fd;
	if (fd >= 0)
		sys_close(fd);
	return err;
}

#define TURN_MS	   15000
#define PAUSE_MOST 2000 /* us */

static int set_lock(int fd, struct inode_key key, enum board_turn what, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_len = 1 };

	l.l_start = (off_t)(board_hash(key) >> 3 | 1ULL << 61);
	if (what == TURN_LENGTH)
		l.l_start |= 1LL << 62;
	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

void board_take_turn(int fd, struct inode_key key, enum board_turn what, bool shared)
{
	const short type = shared ? F_RDLCK : F_WRLCK;
	long us = 20, waited = 0;

	while (set_lock(fd, key, what, type) == -EAGAIN && waited < TURN_MS * 1000L) {
		nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
		waited += us;
		us = MIN(us * 2, (long)PAUSE_MOST);
	}
}

void board_give_turn(int fd, struct inode_key key, enum board_turn what)
{
	(void)set_lock(fd, key, what, F_UNLCK);
}
