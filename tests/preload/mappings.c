/* SPDX-License-Identifier: MIT */
/*
 * One truth inside: every mapping of a staged range shows the same bytes, whenever it was made
 * and whichever part of it goes away.
 */
#include "testlib.h"

#include <dirent.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <pinstage.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define SIZE (256 * KIB)

static int stage(struct staged *s)
{
	return register_one(&s->ring, s->map, SIZE);
}

static void end(struct staged *s)
{
	io_uring_queue_exit(&s->ring);
	close(s->fd);
}

static void alias__writable_made_before(void **state)
{
	struct staged s;
	unsigned char *alias;

	(void)state;
	open_data(&s, SIZE);
	alias = map_file("data", SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_content(alias, SIZE, 0, DEVICE);
	fill(alias, SIZE, 0, NEW);
	assert_content(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	fill(alias, SIZE / 2, 0, NEWER);
	assert_int_equal(munmap(alias, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, NEWER);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	end(&s);
}

static void alias__writable_made_after(void **state)
{
	struct staged s;
	unsigned char *alias;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	alias = map_file("data", SIZE);
	assert_content(alias, SIZE, 0, DEVICE);
	fill(alias, SIZE, 0, NEW);
	assert_content(s.map, SIZE, 0, NEW);
	/* A sync through one alias is a sync of the data, not of the alias. */
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	fill(s.map, SIZE, 0, NEWER);
	assert_int_equal(msync(alias, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEWER);
	end(&s);
}

static void check_read_only(struct staged *s, unsigned char *alias)
{
	device_writes(&s->ring, s->map, SIZE, 0);
	assert_content(alias, SIZE, 0, DEVICE);
	fill(s->map, SIZE, 0, NEW);
	assert_content(alias, SIZE, 0, NEW);
}

static void alias__read_only_made_before(void **state)
{
	struct staged s;
	unsigned char *alias;

	(void)state;
	open_data(&s, SIZE);
	alias = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, s.fd, 0);
	assert_ptr_not_equal(alias, MAP_FAILED);
	must_stage(stage(&s));
	check_read_only(&s, alias);
	end(&s);
}

static void alias__read_only_made_after(void **state)
{
	struct staged s;
	unsigned char *alias;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	alias = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, s.fd, 0);
	assert_ptr_not_equal(alias, MAP_FAILED);
	check_read_only(&s, alias);
	end(&s);
}

/* The descriptor may not write; the mapping made from it must still see the stage. */
static void alias__read_only_descriptor(void **state)
{
	unsigned char *before, *after;
	struct staged s;
	int fd;

	(void)state;
	open_data(&s, SIZE);
	fd = open_file("data", O_RDONLY);
	before = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(before, MAP_FAILED);
	must_stage(stage(&s));
	after = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(after, MAP_FAILED);
	check_read_only(&s, before);
	check_read_only(&s, after);
	/* And what may not become writable natively does not now. */
	assert_int_equal(mprotect(before, SIZE, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(mprotect(after, SIZE, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_ptr_equal(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
			 MAP_FAILED);
	assert_int_equal(errno, EACCES);
	close(fd);
	end(&s);
}

/* An alias that covers the end of the staged range and pages beyond it. */
static void alias__different_offset(void **state)
{
	unsigned char *before, *after;
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	before = map_fd(s.fd, SIZE / 2, SIZE / 4);
	must_stage(register_one(&s.ring, s.map, SIZE / 2));
	after = map_fd(s.fd, SIZE / 2, SIZE / 4);
	device_writes(&s.ring, s.map, SIZE / 2, 0);
	for (int i = 0; i < 2; i++) {
		unsigned char *alias = i ? after : before;

		assert_content(alias, SIZE / 4, SIZE / 4, DEVICE);
		assert_content(alias + SIZE / 4, SIZE / 4, SIZE / 2, OLD);
	}
	/* Over the seam, in all directions. */
	fill(before, SIZE / 2, SIZE / 4, NEW);
	assert_content(after, SIZE / 2, SIZE / 4, NEW);
	assert_content(s.map + SIZE / 4, SIZE / 2, SIZE / 4, NEW);
	assert_int_equal(msync(after, SIZE / 2, MS_SYNC), 0);
	assert_in_file("data", SIZE / 4, SIZE / 2, NEW);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 4, DEVICE);
	end(&s);
}

/* Four aliases, as a ring buffer mapped twice would have; all of them are exchanged. */
static void alias__several(void **state)
{
	unsigned char *alias[4];
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	for (int i = 0; i < 4; i++)
		alias[i] = map_fd(s.fd, SIZE, 0);
	must_stage(stage(&s));
	for (unsigned i = 0; i < 4; i++) {
		fill(alias[i], SIZE, 0, NEW + i % 2);
		for (int j = 0; j < 4; j++)
			assert_content(alias[j], SIZE, 0, NEW + i % 2);
	}
	end(&s);
}

/* What is stored after that need not show there: mmap(2) leaves it open. */
static void alias__private_made_after(void **state)
{
	struct staged s;
	unsigned char *alias;
	int ret;

	(void)state;
	ret = open_and_stage(&s, SIZE);
	fill(s.map, SIZE, 0, NEW);
	alias = mmap(NULL, SIZE - page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, s.fd,
		     (off_t)page_size());
	assert_ptr_not_equal(alias, MAP_FAILED);
	assert_content(alias, SIZE - page_size(), page_size(), NEW);
	fill(alias, SIZE - page_size(), 0, NEWER);
	assert_content(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(alias, SIZE - page_size()), 0);
	must_stage(ret);
	end(&s);
}

/* mremap() with an old size of zero makes an alias without any descriptor. */
static void alias__by_mremap(void **state)
{
	unsigned char *before, *after;
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	before = mremap(s.map, 0, SIZE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(before, MAP_FAILED);
	must_stage(stage(&s));
	after = mremap(s.map, 0, SIZE, MREMAP_MAYMOVE);
	if (after == MAP_FAILED)
		fail_test("mremap: %s\n", strerror(errno));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_content(before, SIZE, 0, DEVICE);
	assert_content(after, SIZE, 0, DEVICE);
	end(&s);
}

/* Hard links and other paths are the same file. */
static void alias__hard_link(void **state)
{
	struct staged s;
	unsigned char *alias;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(link(path_of("data"), path_of("linked")), 0);
	alias = map_file("linked", SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_content(alias, SIZE, 0, DEVICE);
	end(&s);
}

static void open_moved(struct staged *s)
{
	unsigned char *moved, *away;

	open_data(s, SIZE);
	away = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	moved = mremap(s->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, away);
	assert_ptr_equal(moved, away);
	s->map = moved;
}

static void mremap__before_registering(void **state)
{
	struct staged s;

	(void)state;
	open_moved(&s);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	end(&s);
}

/* ... and has a name or a descriptor no more. */
static void mremap__closed_and_unlinked_before(void **state)
{
	struct staged s;

	(void)state;
	open_moved(&s);
	assert_int_equal(unlink(path_of("data")), 0);
	close(s.fd);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_content(s.map, SIZE, 0, DEVICE);
	io_uring_queue_exit(&s.ring);
	assert_int_equal(munmap(s.map, SIZE), 0);
}

/* Since Linux 6.17 in one call. What the records say goes along: the second file has neither a
 * name nor a descriptor of the program's any more. */
static void mremap__two_files_before_registering(void **state)
{
	unsigned char *room, *away, *second;
	struct staged s;
	int fd;

	(void)state;
	open_data(&s, SIZE);
	make_file("other", SIZE);
	room = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	away = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open_file("other", O_RDWR);
	assert_ptr_equal(
		mmap(room, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s.fd, 0),
		room);
	assert_ptr_equal(
		mmap(room + SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
		room + SIZE);
	second = away + SIZE;
	if (mremap(room, 2 * SIZE, 2 * SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, away) ==
	    MAP_FAILED) {
		assert_int_equal(errno, EFAULT);
		second = room + SIZE;
	}
	assert_int_equal(unlink(path_of("other")), 0);
	assert_int_equal(close(fd), 0);
	must_stage(register_one(&s.ring, second, SIZE));
	device_writes(&s.ring, second, SIZE, 0);
	assert_content(second, SIZE, 0, DEVICE);
	assert_staged();
	end(&s);
}

static void mremap__moves_staged(void **state)
{
	unsigned char *moved, *away;
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	away = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	moved = mremap(s.map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, away);
	if (moved == MAP_FAILED)
		fail_test("mremap: %s\n", strerror(errno));
	assert_content(moved, SIZE, 0, DEVICE);
	fill(moved, SIZE, 0, NEW);
	assert_int_equal(munmap(moved, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	end(&s);
}

static void mremap__shrinks_and_grows(void **state)
{
	unsigned char *grown;
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	must_stage(register_one(&s.ring, s.map, SIZE / 2));
	device_writes(&s.ring, s.map, SIZE / 2, 0);
	assert_ptr_equal(mremap(s.map, SIZE, SIZE / 4, 0), s.map);
	assert_in_file("data", SIZE / 4, SIZE / 4, DEVICE);
	grown = mremap(s.map, SIZE / 4, SIZE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(grown, MAP_FAILED);
	assert_content(grown, SIZE / 2, 0, DEVICE);
	assert_content(grown + SIZE / 2, SIZE / 2, SIZE / 2, OLD);
	fill(grown, SIZE, 0, NEW);
	assert_int_equal(munmap(grown, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	end(&s);
}

static void munmap__parts(void **state)
{
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	/* The middle, then the end, then what is left at the start. */
	assert_int_equal(munmap(s.map + SIZE / 4, SIZE / 4), 0);
	assert_in_file("data", SIZE / 4, SIZE / 4, DEVICE);
	fill(s.map, SIZE / 4, 0, NEW);
	fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	assert_int_equal(munmap(s.map + SIZE / 2, SIZE / 2), 0);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	assert_int_equal(munmap(s.map, SIZE / 4), 0);
	assert_in_file("data", 0, SIZE / 4, NEW);
	assert_in_file("data", SIZE / 4, SIZE / 4, DEVICE);
	end(&s);
}

/* Parts unmapped before anything was pinned leave the rest to be staged. */
static void munmap__part_before_registering(void **state)
{
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(munmap(s.map, SIZE / 4), 0);
	must_stage(register_one(&s.ring, s.map + SIZE / 4, SIZE / 4));
	device_writes(&s.ring, s.map + SIZE / 4, SIZE / 4, 0);
	assert_int_equal(msync(s.map + SIZE / 4, SIZE / 4, MS_SYNC), 0);
	assert_true(in_file_at("data", SIZE / 4, SIZE / 4, SIZE / 4, DEVICE));
	assert_in_file("data", 0, SIZE / 4, OLD);
	assert_in_file("data", SIZE / 2, SIZE / 2, OLD);
	end(&s);
}

static void munmap__over_several_mappings(void **state)
{
	struct staged s;
	unsigned char *room;

	(void)state;
	open_data(&s, SIZE);
	room = mmap(NULL, 3 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(s.map, SIZE);
	s.map = mmap(room + SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s.fd,
		     0);
	assert_ptr_equal(s.map, room + SIZE);
	must_stage(stage(&s));
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(room, 3 * SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	end(&s);
}

static void mmap_fixed__over_staged(void **state)
{
	struct staged s;
	unsigned char *map;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	/* Anonymous memory replaces the first half: the file's data is not the program's now.
	 */
	map = mmap(s.map, SIZE / 2, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_equal(map, s.map);
	memset(map, 0xee, SIZE / 2);
	fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_reaches_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	end(&s);
}

/* Protections of the program's mapping are the ones it asked for, before and after. */
static void mprotect__of_staged(void **state)
{
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(mprotect(s.map, SIZE / 2, PROT_READ), 0);
	assert_content(s.map, SIZE, 0, DEVICE);
	assert_int_equal(mprotect(s.map, SIZE / 2, PROT_NONE), 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_int_equal(mprotect(s.map, SIZE, PROT_READ | PROT_WRITE), 0);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	end(&s);
}

/* A mapping that may not be written at the moment is made writable, then registered. */
static void mprotect__before_registering(void **state)
{
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	munmap(s.map, SIZE);
	s.map = mmap(NULL, SIZE, PROT_NONE, MAP_SHARED, s.fd, 0);
	assert_ptr_not_equal(s.map, MAP_FAILED);
	assert_int_equal(mprotect(s.map, SIZE, PROT_READ | PROT_WRITE), 0);
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	end(&s);
}

/* Whether all of the range is locked, by the flags of its mappings. */
static bool is_locked(const unsigned char *map, size_t len)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long start = 0, stop = 0;
	size_t locked = 0;
	char line[512];

	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			start = from;
			stop = to;
		}
		if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " lo") &&
		    start >= (uintptr_t)map && stop <= (uintptr_t)map + len)
			locked += stop - start;
	}
	fclose(smaps);
	return locked == len;
}

static void mlock__survives(void **state)
{
	struct staged s;

	(void)state;
	open_data(&s, SIZE);
	if (mlock(s.map, SIZE) < 0)
		skip_test("cannot: the limit on locked memory is for small tests");
	if (!is_locked(s.map, SIZE))
		skip_test("only for builds without address sanitizer, which ignores mlock()");
	must_stage(stage(&s));
	assert_true(is_locked(s.map, SIZE));
	end(&s);
}

static size_t peak_of_memory(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (size_t)u.ru_maxrss * KIB;
}

/* What is mapped from then on is there at once: that must not be all that we may ever need,
 * which would be more than most may lock. */
static void mlockall__of_the_future(void **state)
{
	struct staged s;
	size_t before;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(mlockall(MCL_FUTURE), 0);
	before = peak_of_memory();
	must_stage(stage(&s));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_int_equal(munmap(s.map, SIZE / 2), 0);
	if (peak_of_memory() > before + 8 * MIB)
		fail_test("%zu KiB of memory more\n", (peak_of_memory() - before) / KIB);
	end(&s);
}

/* The kernel tells somebody which pages are written to (Linux 6.7): in memory of ours it would
 * not. As long as he wants to know, the registration fails as it does without pinstage. */
static void track__before_registering(void **state)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 15 /* WP_ASYNC */ };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct staged s;

	(void)state;
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
		skip_test("cannot: this kernel does not track writes to files' mappings");
	open_data(&s, SIZE);
	reg.range = (struct uffdio_range){ (uintptr_t)s.map, SIZE };
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	assert_int_equal(stage(&s), kernel_refuses() ? -EFAULT : 0);
	assert_content(s.map, SIZE, 0, OLD);
	if (kernel_refuses()) {
		assert_int_equal(ioctl(uffd, UFFDIO_UNREGISTER, &reg.range), 0);
		must_stage(stage(&s));
		device_writes(&s.ring, s.map, SIZE, 0);
		assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
		assert_in_file("data", 0, SIZE, DEVICE);
	}
	close(uffd);
	end(&s);
}

#define LOW	 (1UL << 20) /* where the library has something for moments */
#define LOW_SIZE (16 * KIB)

static atomic_ulong low_lost;
static atomic_bool low_stop;

/* As emulators and some just-in-time compilers do. */
static void *use_low_addresses(void *arg)
{
	const int exact = *(int *)arg;
	unsigned char *low;

	while (!low_stop) {
		low = mmap((void *)LOW, LOW_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | exact, -1, 0);
		if (low != (void *)LOW) {
			low_lost++;
			continue;
		}
		for (volatile int i = 0; i < 3000; i++)
			;
		low_lost += madvise(low, LOW_SIZE, MADV_POPULATE_WRITE) != 0;
		munmap(low, LOW_SIZE);
		for (volatile int i = 0; i < 20000; i++)
			;
	}
	return NULL;
}

static void low_addresses(int exact)
{
	const uint64_t until = now_ms() + 700;
	pthread_t thread;
	struct staged s;

	open_data(&s, SIZE);
	must_stage(stage(&s));
	low_stop = false;
	low_lost = 0;
	assert_int_equal(pthread_create(&thread, NULL, use_low_addresses, &exact), 0);
	while (now_ms() < until) {
		assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
		assert_int_equal(munmap(s.map, SIZE), 0);
		s.map = map_file("data", SIZE);
		assert_int_equal(stage(&s), 0);
	}
	low_stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(low_lost, 0);
	end(&s);
}

static void low_addresses__fixed(void **state)
{
	(void)state;
	low_addresses(MAP_FIXED);
}

static void low_addresses__fixed_where_nothing_is(void **state)
{
	(void)state;
	low_addresses(MAP_FIXED_NOREPLACE);
}

static _Atomic(uint32_t) *bell;
static atomic_bool sleeps, awake;

static void *sleeper(void *arg)
{
	(void)arg;
	sleeps = true;
	while (*bell == 0)
		syscall(SYS_futex, bell, FUTEX_WAIT, 0, NULL, NULL, 0);
	awake = true;
	return NULL;
}

static bool is_asleep(void *arg)
{
	char text[64] = "";
	FILE *f = fopen(arg, "re");

	if (!f)
		return false;
	(void)!fgets(text, sizeof(text), f);
	fclose(f);
	return sleeps && strtol(text, NULL, 10) == SYS_futex;
}

static bool is_awake(void *arg)
{
	(void)arg;
	return awake;
}

static const char *only_other_thread(void)
{
	static char path[512];
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *d;

	assert_non_null(tasks);
	while ((d = readdir(tasks)))
		if (d->d_name[0] != '.' && atoi(d->d_name) != getpid())
			snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", d->d_name);
	closedir(tasks);
	return path;
}

/* A thread that sleeps on a futex in the range is found by those who wake it afterwards: after
 * staging, and after the range was given back. */
static void futex__sleepers_are_found(void **state)
{
	struct staged s;
	pthread_t thread;
	char *syscall_of;

	(void)state;
	open_data(&s, SIZE);
	bell = (void *)(s.map + SIZE / 2);
	for (int back = 0; back < 2; back++) {
		if (back)
			must_stage(stage(&s));
		*bell = 0;
		sleeps = awake = false;
		assert_int_equal(pthread_create(&thread, NULL, sleeper, NULL), 0);
		syscall_of = strdup(only_other_thread());
		assert_true(poll_until(is_asleep, syscall_of, 10000));
		free(syscall_of);
		if (!back) {
			int ret = stage(&s);

			if (ret == -EFAULT && !with_shim()) { /* natively nothing changes */
				*bell = 1;
				syscall(SYS_futex, bell, FUTEX_WAKE, 1, NULL, NULL, 0);
				pthread_join(thread, NULL);
				return;
			}
			assert_int_equal(ret, 0);
		} else if (with_shim() && kernel_refuses()) {
			uint64_t until = now_ms() + 10000;
			int ret;

			assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
			do {
				ret = pinstage_release(s.map, SIZE);
			} while (ret == -EBUSY && now_ms() < until);
			assert_int_equal(ret, 0);
		}
		*bell = 1;
		syscall(SYS_futex, bell, FUTEX_WAKE, 1, NULL, NULL, 0);
		assert_true(poll_until(is_awake, NULL, 10000));
		pthread_join(thread, NULL);
		io_uring_unregister_buffers(&s.ring);
	}
	end(&s);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(alias__writable_made_before),
		TEST(alias__writable_made_after),
		TEST(alias__read_only_made_before),
		TEST(alias__read_only_made_after),
		TEST(alias__read_only_descriptor),
		TEST(alias__different_offset),
		TEST(alias__several),
		TEST(alias__private_made_after),
		TEST(alias__by_mremap),
		TEST(alias__hard_link),
		TEST(mremap__before_registering),
		TEST(mremap__closed_and_unlinked_before),
		TEST(mremap__two_files_before_registering),
		TEST(mremap__moves_staged),
		TEST(mremap__shrinks_and_grows),
		TEST(munmap__parts),
		TEST(munmap__part_before_registering),
		TEST(munmap__over_several_mappings),
		TEST(mmap_fixed__over_staged),
		TEST(mprotect__of_staged),
		TEST(mprotect__before_registering),
		TEST(mlock__survives),
		TEST(mlockall__of_the_future),
		TEST(track__before_registering),
		TEST(low_addresses__fixed),
		TEST(low_addresses__fixed_where_nothing_is),
		TEST(futex__sleepers_are_found),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
