/* SPDX-License-Identifier: MIT */
/*
 * Who else maps the file? A page that another process maps and has touched is found by
 * eviction; a mapping that it has not touched yet is not, and would show the file where
 * everybody else shows the segment. /proc has the mappings of all processes that we may look
 * into: the user's own, or everybody's for root. Others are outsiders.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/vmas.h"
#include "keeper/keeper.h"

#define FRESH_MS \
	200 /* a process under pinstage that maps the file later has to JOIN, which ends it */

struct look {
	const struct stage *stage;
	char memory[96];   /* how maps calls memory that shadows this file */
	uint64_t dev, ino; /* as maps has them */
	uint64_t off, end;
	uintptr_t probe;
	bool any;   /* any part of the file */
	bool range; /* part of the range */
};

static int probe_each(const struct vma *v, const char *path, void *arg)
{
	struct look *l = arg;

	(void)path;
	l->dev = v->dev;
	l->ino = v->ino;
	return 1;
}

/* Memory that shadows this file, and that we do not have: a keeper before us was killed, and
 * the process has not noticed yet. Its content is the file's truth. */
static bool is_stray(const struct look *l, const struct vma *v, const char *path)
{
	const struct segment *g;
	struct stat st;

	if (strncmp(path, l->memory, strlen(l->memory)) != 0)
		return false;
	LIST_FOREACH(g, &l->stage->segments, link)
		if (fstat(g->memfd, &st) == 0 && st.st_ino == v->ino)
			return false;
	return true;
}

/* Mappings without any access are those that clients keep aside while a segment stands in their
 * place. */
static int mapper_each(const struct vma *v, const char *path, void *arg)
{
	struct look *l = arg;

	if (is_stray(l, v, path))
		return l->any = l->range = true;
	if (v->dev != l->dev || v->ino != l->ino || !(v->flags & (VMA_READ | VMA_WRITE)))
		return 0;
	l->any = true;
	l->range |= v->off < l->end && v->off + (v->end - v->start) > l->off;
	return l->range;
}

static bool maps_range(struct look *l, pid_t pid, char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	l->range = false;
	(void)vmas_shared(path, buf, size, mapper_each, l);
	return l->range;
}

/* A child that only borrows the client's address space for a moment (vfork, and the one that
 * sent us the descriptor) shows the client's own mappings. Who is confined (Landlock) may read
 * what others map, and not compare whose it is: a moment is all there is to tell by then. */
static bool borrows_from(struct look *l, pid_t pid, char *buf, size_t size, pid_t client)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	const long differ = client ? syscall(SYS_kcmp, pid, client, KCMP_VM, 0, 0) : 1;

	if (differ >= 0 || errno != EPERM)
		return differ == 0;
	for (int tries = 0; tries < 40; tries++) {
		if (!maps_range(l, pid, buf, size))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static bool look_around(struct look *l, char *buf, size_t size, pid_t client)
{
	DIR *proc = opendir("/proc");
	bool found = false;
	struct dirent *d;
	pid_t pid;

	while (proc && !found && (d = readdir(proc))) {
		pid = isdigit((unsigned char)d->d_name[0]) ? atoi(d->d_name) : 0;
		if (!pid || pid == client || pid == getpid() || !maps_range(l, pid, buf, size))
			continue;
		/* Looked at once more: a child that has just ended borrows nothing now. */
		found = !borrows_from(l, pid, buf, size, client) &&
			maps_range(l, pid, buf, size);
	}
	if (proc)
		closedir(proc);
	return found;
}

bool mapped_elsewhere(struct stage *s, uint64_t off, uint64_t len, pid_t client)
{
	const size_t size = 64UL * 1024;
	cleanup_free char *buf = xcalloc(1, size);
	struct look l = { .stage = s, .off = off, .end = off + len };
	const uint64_t begun = now_ms();
	void *probe;

	if (s->unmapped_at && begun - s->unmapped_at < FRESH_MS)
		return false;
	probe = mmap(NULL, page_size(), PROT_NONE, MAP_SHARED, s->fd, (off_t)off);
	if (probe == MAP_FAILED)
		return true;
	l.probe = (uintptr_t)probe;
	snprintf(l.memory, sizeof(l.memory), "/memfd:" MEMFD_NAME " ", s->key.dev, s->key.ino);
	(void)vmas_between(l.probe, l.probe + 1, buf, size, probe_each, &l);
	munmap(probe, page_size());
	if (look_around(&l, buf, size, client))
		return true;
	s->unmapped_at = l.any ? 0 : begun;
	return false;
}

static int memory_each(const struct vma *v, const char *path, void *arg)
{
	const struct stat *memory = arg;

	return v->ino == memory->st_ino && strncmp(path, "/memfd:", strlen("/memfd:")) == 0;
}

bool memory_mapped_elsewhere(const struct segment *g)
{
	const size_t size = 64UL * 1024;
	cleanup_free char *buf = xcalloc(1, size);
	DIR *proc = opendir("/proc");
	bool found = !proc;
	struct stat memory;
	struct dirent *d;
	char path[64];
	pid_t pid;

	found |= fstat(g->memfd, &memory) < 0;
	while (!found && (d = readdir(proc))) {
		pid = isdigit((unsigned char)d->d_name[0]) ? atoi(d->d_name) : 0;
		if (!pid || pid == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
		found = vmas_shared(path, buf, size, memory_each, &memory) > 0;
	}
	if (proc)
		closedir(proc);
	return found;
}
