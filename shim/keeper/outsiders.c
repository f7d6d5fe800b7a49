/* SPDX-License-Identifier: MIT */
/*
 * Processes without pinstage that open or change a staged file. Their system calls are heard of
 * through fanotify, which tells our own from others' (the process ID of an event is ours, or
 * not); where it is not to be had, through inotify, of what only they do. Stores of one that
 * maps the file show in its times, which are compared with what they were before and after each
 * of our own writes. Nothing of the file is read where none of these hints at a change.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keeper/outsiders.h"

#define QUIET_LEAST_MS 20
#define LOOKS	       2

static int all = -1; /* epoll: the watches of all stages */

void outsiders_begin(void)
{
	all = epoll_create1(EPOLL_CLOEXEC);
}

int outsiders_fd(void)
{
	return all;
}

/* One mark per group, so that there is nothing to tell apart. */
static int hear_by_fanotify(const char *path)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK,
			       O_RDONLY);

	if (fd >= 0 &&
	    fanotify_mark(fd, FAN_MARK_ADD, FAN_MODIFY | FAN_OPEN, AT_FDCWD, path) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int hear_by_inotify(const char *path)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd >= 0 && inotify_add_watch(fd, path, IN_OPEN | IN_CLOSE_WRITE) >= 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Once per event until the next pass: a busy writer does not keep us busy. */
static void listen_to(struct stage *s, int op)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = s };

	if (s->ear >= 0)
		(void)epoll_ctl(all, op, s->ear, &ev);
}

static struct stamp stamp_of(const struct stage *s)
{
	struct stamp now = { 0 };
	struct stat st;

	if (fstat(s->fd, &st) == 0)
		now = (struct stamp){ st.st_mtim, st.st_ctim };
	return now;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
	return same_time(a->written, b->written) && same_time(a->changed, b->changed);
}

void outsiders_watch(struct stage *s)
{
	char path[64];

	if (s->heard || s->fd < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	s->ear = hear_by_fanotify(path);
	s->ear_tells = s->ear >= 0;
	if (s->ear < 0)
		s->ear = hear_by_inotify(path);
	s->heard = true;
	/* What happens before there is a first segment is in what that begins with; what
	 * happened to those of another keeper is not known. */
	s->touched = LIST_EMPTY(&s->segments) ? UNTOUCHED : TOUCHED_ANYWHERE;
	s->stamp = stamp_of(s);
	listen_to(s, EPOLL_CTL_ADD);
}

/* With what identifies the file behind them, events are no multiple of their alignment long. */
static void drain_fanotify(struct stage *s, bool *ret_open)
{
	struct fanotify_event_metadata m;
	char buf[4096];
	ssize_t n, at;

	while ((n = read(s->ear, buf, sizeof(buf))) > 0) {
		for (at = 0; n - at >= (ssize_t)sizeof(m); at += m.event_len) {
			memcpy(&m, buf + at, sizeof(m));
			if (m.event_len < sizeof(m))
				break;
			if (m.pid == getpid())
				continue;
			if (m.mask & (FAN_MODIFY | FAN_Q_OVERFLOW))
				s->touched = TOUCHED_ANYWHERE;
			*ret_open |= (m.mask & FAN_OPEN) != 0;
		}
	}
}

static void drain_inotify(struct stage *s, bool *ret_open)
{
	union {
		char bytes[4096];
		struct inotify_event align;
	} buf;
	const struct inotify_event *e;
	ssize_t n, at;

	while ((n = read(s->ear, buf.bytes, sizeof(buf.bytes))) > 0) {
		for (at = 0; at < n; at += (ssize_t)(sizeof(*e) + e->len)) {
			e = (const struct inotify_event *)(const void *)(buf.bytes + at);
			if (e->mask & (IN_CLOSE_WRITE | IN_Q_OVERFLOW))
				s->touched = TOUCHED_ANYWHERE;
			*ret_open |= (e->mask & IN_OPEN) != 0;
		}
	}
}

/* Whether somebody opened or changed the file since the last time. Lock held. */
static bool drain(struct stage *s)
{
	bool opened = false;

	if (s->ear >= 0 && s->ear_tells)
		drain_fanotify(s, &opened);
	else if (s->ear >= 0)
		drain_inotify(s, &opened);
	return opened || s->touched == TOUCHED_ANYWHERE;
}

void outsiders_pass_soon(struct stage *s)
{
	s->next_pass = MIN(s->next_pass, MAX(s->quiet_until, now_ms() + 1));
}

/* While a worker has the stage, what is heard is most likely ourselves, once per write. */
void outsiders_heard(void)
{
	struct epoll_event got[64];
	struct stage *s;
	int n = epoll_wait(all, got, ARRAY_SIZE(got), 0);

	for (int i = 0; i < n; i++) {
		s = got[i].data.ptr;
		s->deaf = s->busy;
		if (s->busy)
			continue;
		if (!drain(s))
			listen_to(s, EPOLL_CTL_MOD); /* ourselves */
		else if (now_ms() >= s->quiet_until && !s->queued)
			lane_post_pass(s);
		else
			outsiders_pass_soon(s);
	}
}

void outsiders_listen_again(struct stage *s)
{
	if (s->deaf)
		listen_to(s, EPOLL_CTL_MOD);
	s->deaf = false;
}

static bool is_recent(struct timespec t)
{
	const long long tick_ms = 50; /* and more: of the times of a file on an old kernel */
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - t.tv_sec) * 1000LL + (now.tv_nsec - t.tv_nsec) / 1000000 < tick_ms;
}

/*
 * What nobody told of shows in the times alone: stores through a mapping, and the kernel's own
 * asynchronous I/O. It may have left the page cache since, or never been there, and direct I/O
 * changes the times when it begins, not when it is done: a pass that is due later looks once
 * more, after one that may come at once.
 */
void outsiders_before(struct stage *s)
{
	const bool again = s->look_again && s->gently;
	bool moved;

	outsiders_watch(s);
	s->before = stamp_of(s);
	s->writes_before = s->writes;
	moved = s->moved || !same_stamp(&s->before, &s->stamp);
	s->stamp = s->before;
	s->moved = false;
	pthread_mutex_lock(&keeper.lock);
	if (drain(s))
		outsiders_pass_soon(s);
	if (moved || (s->looks && s->gently))
		s->touched = TOUCHED_ANYWHERE;
	else if (again && s->touched == UNTOUCHED)
		s->touched = TOUCHED_RESIDENT;
	pthread_mutex_unlock(&keeper.lock);
	s->stored |= moved;
	if (moved)
		s->looks = LOOKS;
	if (s->gently && s->looks && !stage_is_filling(s))
		s->looks--;
}

/* What our own writes do to the times must not hide what others did between them. */
void outsiders_write_begins(struct stage *s)
{
	const struct stamp now = stamp_of(s);

	s->moved |= !same_stamp(&now, &s->stamp);
}

void outsiders_write_ends(struct stage *s)
{
	s->stamp = stamp_of(s);
}

/* What others did while we wrote may hide behind our own times, as it may where two changes
 * fall into one tick. Only a pass that nobody waits for has looked. */
void outsiders_after(struct stage *s)
{
	if (s->gently)
		s->look_again = false;
	s->look_again |= s->writes != s->writes_before || is_recent(s->before.changed);
}

void outsiders_pass_done(struct stage *s, struct effort e)
{
	const uint64_t quiet = pace(QUIET_LEAST_MS, e, false);

	s->quiet_until = now_ms() + MIN(quiet, (uint64_t)PACE_MOST_MS);
	listen_to(s, EPOLL_CTL_MOD);
}
