// SPDX-License-Identifier: MIT
/* sanitizers: no. Their run-time maps, too, and makes mlock() do nothing. */
/* Twins (see twin.h): calls that change what stands where. */
#include <sys/ipc.h>
#include <sys/shm.h>

#include "twin.h"

#define AT(t, page) ((t)->map + (page)*PAGE)

static void unmap_parts(struct twin *t)
{
	store(t, NEW);
	DO(t, munmap(AT(t, 6), 2 * PAGE));
	look(t);
	look_file(t);
	DO(t, munmap(AT(t, 6), 2 * PAGE)); /* a hole: nothing to do */
	DO(t, munmap(AT(t, 5), 4 * PAGE));
	DO(t, munmap(AT(t, 1) + 1, PAGE));
	DO(t, munmap(AT(t, 1), 0));
	DO(t, munmap(AT(t, 1), SIZE_MAX));
	DO(t, munmap(AT(t, 1), SIZE_MAX - PAGE));
	DO(t, munmap(AT(t, 0), 1));
	store(t, NEWER);
	look(t);
	DO(t, munmap(AT(t, 15) - PAGE, 4 * PAGE)); /* beyond the end, into the room */
	look(t);
	look_file(t);
	DO(t, munmap(t->room, ROOM * PAGE));
	look_file(t);
}

static void munmap__as_native(void **state)
{
	(void)state;
	compare(unmap_parts);
}

static void map_over(struct twin *t)
{
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS, rw = PROT_READ | PROT_WRITE;

	store(t, NEW);
	/* What fails changes nothing. */
	DO(t, mmap(AT(t, 2), PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0));
	DO(t, mmap(AT(t, 2), PAGE, rw, MAP_SHARED | MAP_FIXED, -1, 0));
	DO(t, mmap(AT(t, 2), PAGE, rw, MAP_SHARED | MAP_FIXED, t->fd, 123));
	DO(t, mmap(AT(t, 2) + 1, PAGE, rw, MAP_SHARED | MAP_FIXED, t->fd, 0));
	DO(t, mmap(AT(t, 2), 0, rw, MAP_SHARED | MAP_FIXED, t->fd, 0));
	look(t);
	DO(t, mmap(AT(t, 2), PAGE, rw, anon | MAP_FIXED, -1, 0));
	look(t);
	/* The file itself, elsewhere in it, populated; then through a private mapping. */
	DO(t, mmap(AT(t, 4), 3 * PAGE, rw, MAP_SHARED | MAP_FIXED | MAP_POPULATE, t->fd,
		   (off_t)(5 * PAGE)));
	look(t);
	store(t, NEWER);
	look(t);
	DO(t, mmap(AT(t, 8), 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, t->fd, 0));
	store_at(t, AT(t, 8), 2, DEVICE);
	look(t);
	DO(t, fsync(t->fd));
	DO(t, mmap(AT(t, 12), 2 * PAGE, rw, MAP_PRIVATE | MAP_FIXED, t->fd, 0));
	store_at(t, AT(t, 12), 2, OTHER);
	look(t);
	DO(t, mmap(AT(t, 0), PAGES * PAGE, rw, MAP_SHARED | MAP_FIXED, t->fd, 0));
	look(t);
}

static void mmap__over_it_as_native(void **state)
{
	(void)state;
	compare(map_over);
}

static void remap_in_place(struct twin *t)
{
	store(t, NEW);
	DO(t, mremap(AT(t, 0), PAGES * PAGE, 20 * PAGE, 0)); /* the room is in the way */
	DO(t, munmap(AT(t, PAGES), 8 * PAGE));
	DO(t, mremap(AT(t, 0), PAGES * PAGE, 20 * PAGE, 0));
	look(t); /* the file is shorter: SIGBUS */
	DO(t, mremap(AT(t, 0), 20 * PAGE, 10 * PAGE, 0));
	look(t);
	look_file(t);
	DO(t, mremap(AT(t, 0), 10 * PAGE, 12 * PAGE - 5, 0));
	store(t, NEWER);
	look(t);
	DO(t, mremap(AT(t, 0), 12 * PAGE, 12 * PAGE, 0));
	DO(t, mremap(AT(t, 0), 12 * PAGE, 12 * PAGE, MREMAP_MAYMOVE));
	look(t);
}

static void mremap__in_place_as_native(void **state)
{
	(void)state;
	compare(remap_in_place);
}

static void remap_fixed(struct twin *t)
{
	unsigned char *to = t->room + 40 * PAGE;

	store(t, NEW);
	DO(t, mremap(AT(t, 0), PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	look(t);
	store_at(t, to, PAGES, NEWER);
	/* Shorter, and in part; then longer than the file. */
	DO(t, mremap(to, PAGES * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 0)));
	look(t);
	look_file(t);
	DO(t, mremap(AT(t, 2), 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	store_at(t, to, 8, DEVICE);
	look(t);
	DO(t, mremap(to, 6 * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, t->room));
	look(t);
}

static void mremap__fixed_as_native(void **state)
{
	(void)state;
	compare(remap_fixed);
}

/* Onto part of the staged range itself, and from memory that is not the file's. */
static void remap_onto(struct twin *t)
{
	const int rw = PROT_READ | PROT_WRITE;
	unsigned char *anon = t->room;

	store(t, NEW);
	DO(t, mmap(anon, 4 * PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	store_at(t, anon, 4, OTHER);
	DO(t, mremap(anon, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 4)));
	look(t);
	look_file(t);
	DO(t, mremap(AT(t, 9), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 12)));
	look(t);
	store(t, NEWER);
	look(t);
	DO(t, mremap(AT(t, 2), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 0)));
	look(t);
	/* The same once more, over itself: the target goes first. */
	DO(t, mremap(AT(t, 0), 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 0)));
	look(t);
	DO(t, mremap(AT(t, 1), 0, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 1)));
	look(t);
	store(t, DEVICE);
	look(t);
}

static void mremap__onto_it_as_native(void **state)
{
	(void)state;
	compare(remap_onto);
}

/* Onto the beginning of the mapping that the part is of: what is left of it has another one. */
static void remap_onto_beginning(struct twin *t)
{
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	store(t, NEW);
	DO(t, mremap(AT(t, 8), 4 * PAGE, 4 * PAGE, fixed, AT(t, 0)));
	look(t);
	store(t, NEWER);
	look(t);
	look_file(t);
	DO(t, mremap(AT(t, 6), 2 * PAGE, 3 * PAGE, fixed, AT(t, 3)));
	store(t, DEVICE);
	look(t);
	look_file(t);
	DO(t, mremap(AT(t, 14), 2 * PAGE, PAGE, fixed, AT(t, 12)));
	look(t);
	DO(t, munmap(t->room, ROOM * PAGE));
	look_file(t);
}

static void mremap__onto_its_beginning_as_native(void **state)
{
	(void)state;
	compare(remap_onto_beginning);
}

static void remap_bad(struct twin *t)
{
	unsigned char *to = t->room + 40 * PAGE;
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	store(t, NEW);
	DO(t, mremap(AT(t, 0) + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
	DO(t, mremap(AT(t, 0), PAGE, 0, MREMAP_MAYMOVE));
	DO(t, mremap(AT(t, 0), 0, PAGE, 0));
	DO(t, mremap(AT(t, 0), PAGE, PAGE, MREMAP_FIXED, to));
	DO(t, mremap(AT(t, 0), PAGE, PAGE, fixed, to + 1));
	DO(t, mremap(AT(t, 0), 4 * PAGE, 4 * PAGE, fixed, AT(t, 2)));
	DO(t, mremap(AT(t, 4), 4 * PAGE, 4 * PAGE, fixed, AT(t, 2)));
	DO(t, mremap(AT(t, 0), PAGE, PAGE, 64));
	DO(t, mremap(AT(t, 0), PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
	DO(t, mremap(AT(t, 0), PAGE, PAGE, MREMAP_DONTUNMAP));
	DO(t, mremap(AT(t, 0), PAGES * PAGE, SIZE_MAX / 2, MREMAP_MAYMOVE));
	DO(t, mremap(AT(t, 0), PAGES * PAGE, SIZE_MAX - 3 * PAGE, MREMAP_MAYMOVE));
	DO(t, mremap(AT(t, 0), PAGE, PAGE, fixed, (void *)(UINTPTR_MAX - PAGE + 1)));
	/* More than the mapping, and across a hole. */
	DO(t, munmap(AT(t, PAGES), PAGE));
	DO(t, mremap(AT(t, 0), (PAGES + 1) * PAGE, (PAGES + 4) * PAGE, MREMAP_MAYMOVE));
	DO(t, munmap(AT(t, 7), PAGE));
	DO(t, mremap(AT(t, 0), PAGES * PAGE, (PAGES + 4) * PAGE, MREMAP_MAYMOVE));
	DO(t, mremap(AT(t, 7), PAGE, 2 * PAGE, MREMAP_MAYMOVE));
	look(t);
}

static void mremap__errors_as_native(void **state)
{
	(void)state;
	compare(remap_bad);
}

static void remap_anywhere(struct twin *t)
{
	unsigned char *p, *q;

	store(t, NEW);
	/* Where to is the kernel's choice. */
	p = mremap(AT(t, 0), PAGES * PAGE, 20 * PAGE, MREMAP_MAYMOVE);
	note(t, "moved: %d\n", p != MAP_FAILED && p != AT(t, 0));
	look_at(t, "moved", p, 20);
	store_at(t, p, 20, NEWER);
	look_at(t, "moved", p, 20);
	q = mremap(p, 0, 12 * PAGE, MREMAP_MAYMOVE);
	note(t, "again: %d\n", q != MAP_FAILED && q != p);
	store_at(t, q, 12, DEVICE);
	look_at(t, "moved", p, 20);
	look_at(t, "second", q, 12);
	look_file(t);
	DO(t, munmap(p, 20 * PAGE));
	look_at(t, "second", q, 12);
	DO(t, munmap(q, 12 * PAGE));
}

static void mremap__moved_as_native(void **state)
{
	(void)state;
	compare(remap_anywhere);
}

static void remap_dontunmap(struct twin *t)
{
	unsigned char *to = t->room + 40 * PAGE;

	store(t, NEW);
	DO(t, mremap(AT(t, 0), PAGES * PAGE, PAGES * PAGE,
		     MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, to));
	look(t);
	store_at(t, to, PAGES, NEWER);
	look(t);
	store(t, DEVICE);
	look(t);
	DO(t, munmap(to, PAGES * PAGE));
	look(t);
}

static void mremap__dontunmap_as_native(void **state)
{
	(void)state;
	compare(remap_dontunmap);
}

/* Protections go along with what is moved. */
static void remap_protected(struct twin *t)
{
	unsigned char *to = t->room + 40 * PAGE;

	store(t, NEW);
	DO(t, mprotect(AT(t, 0), PAGES * PAGE, PROT_READ));
	DO(t, mremap(AT(t, 0), PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	store_at(t, to, PAGES, NEWER);
	look(t);
	DO(t, mprotect(to, PAGES * PAGE, PROT_READ | PROT_WRITE));
	DO(t, mprotect(to + 4 * PAGE, 4 * PAGE, PROT_NONE));
	DO(t,
	   mremap(to + 4 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(t, 0)));
	look(t);
	/* Two sorts of protection are two mappings, which do not grow as one. */
	DO(t, mprotect(to, 2 * PAGE, PROT_READ));
	DO(t, mremap(to, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE));
	look(t);
}

/* What is made smaller, or moves as it is (since Linux 6.17), may be several mappings, and not
 * all of them the file's. */
static void remap_several(struct twin *t)
{
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
	const size_t all = 4 + PAGES + 4;
	unsigned char *to = t->room + 40 * PAGE;

	store(t, NEW);
	DO(t, mremap(AT(t, 0), (PAGES + 4) * PAGE, (PAGES + 2) * PAGE, 0)); /* into the room */
	look(t);
	DO(t, mremap(AT(t, 0), (PAGES + 2) * PAGE, (PAGES - 2) * PAGE, MREMAP_MAYMOVE));
	look(t);
	DO(t, mremap(AT(t, 10), 20 * PAGE, 3 * PAGE, fixed, t->room));
	look(t);
	DO(t, munmap(AT(t, 4), PAGE)); /* a hole */
	DO(t, mremap(AT(t, 0) - 4 * PAGE, all * PAGE, all * PAGE, fixed, to));
	look(t);
	store_at(t, to, all, NEWER);
	look(t);
	look_file(t);
	DO(t, mremap(to + 4 * PAGE, 20 * PAGE, 10 * PAGE, fixed, t->room));
	look(t);
	store_at(t, t->room, 10, DEVICE);
	look(t);
	look_file(t);
	DO(t, mremap(t->room, 12 * PAGE, 2 * PAGE, 0));
	DO(t, mremap(t->room + 11 * PAGE, 12 * PAGE, 2 * PAGE, 0)); /* begins with a hole */
	look(t);
}

static void mremap__several_as_native(void **state)
{
	(void)state;
	compare(remap_several);
}

static void mremap__protections_as_native(void **state)
{
	(void)state;
	compare(remap_protected);
}

static void protect(struct twin *t)
{
	store(t, NEW);
	DO(t, mprotect(AT(t, 3), 6 * PAGE, PROT_READ));
	store(t, NEWER);
	DO(t, mprotect(AT(t, 6), 6 * PAGE, PROT_NONE));
	store(t, DEVICE);
	look(t);
	DO(t, mprotect(AT(t, 0) + 1, PAGE, PROT_READ));
	DO(t, mprotect(AT(t, 0), PAGE, 0x100));
	DO(t, mprotect(AT(t, 0), PAGE, PROT_READ | PROT_GROWSDOWN));
	DO(t, mprotect(AT(t, 0), 0, PROT_NONE));
	DO(t, mprotect(AT(t, 0), SIZE_MAX - PAGE, PROT_NONE));
	DO(t, pkey_mprotect(AT(t, 0), PAGE, PROT_READ, -1));
	DO(t, pkey_mprotect(AT(t, 0), PAGE, PROT_READ, 99));
	store(t, OTHER);
	DO(t, munmap(AT(t, 13), PAGE));
	DO(t, mprotect(AT(t, 0), PAGES * PAGE, PROT_READ | PROT_WRITE)); /* up to the hole */
	store(t, OTHER);
	look(t);
}

static void mprotect__as_native(void **state)
{
	(void)state;
	compare(protect);
}

/* A mapping of a descriptor that cannot write never becomes writable. */
static void protect_read_only(struct twin *t)
{
	int fd = open_file(t->name, O_RDONLY);

	DO(t, mmap(t->room, PAGES * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	DO(t, mprotect(t->room, PAGES * PAGE, PROT_READ | PROT_WRITE));
	store_at(t, t->room, 2, NEW);
	DO(t, mprotect(t->room, PAGES * PAGE, PROT_NONE));
	DO(t, madvise(t->room, PAGES * PAGE, MADV_REMOVE));
	DO(t, madvise(t->room, PAGES * PAGE, MADV_POPULATE_WRITE));
	look(t);
	close(fd);
}

static void mprotect__read_only_as_native(void **state)
{
	(void)state;
	compare(protect_read_only);
}

static void remap_pages(struct twin *t)
{
	store(t, NEW);
	DO(t, remap_file_pages(AT(t, 0), 2 * PAGE, 0, 8, 0));
	look(t);
	store(t, NEWER);
	look(t);
	DO(t, remap_file_pages(AT(t, 6), 4 * PAGE, 0, 1, MAP_NONBLOCK));
	look(t);
	store(t, DEVICE);
	DO(t, remap_file_pages(AT(t, 0), 2 * PAGE, PROT_READ, 8, 0));
	DO(t, remap_file_pages(AT(t, 14), 4 * PAGE, 0, 0, 0));
	look(t);
}

static void remap_file_pages__as_native(void **state)
{
	(void)state;
	compare(remap_pages);
}

static void attach_over(struct twin *t)
{
	int id = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);

	assert_true(id >= 0);
	store(t, NEW);
	DO(t, shmat(id, AT(t, 6), 0));
	DO(t, shmat(id, AT(t, 6), SHM_REMAP));
	look(t);
	store(t, NEWER);
	look(t);
	look_file(t);
	DO(t, shmdt(AT(t, 6)));
	look(t);
	DO(t, shmdt(AT(t, 0)));
	shmctl(id, IPC_RMID, NULL);
}

static void shmat__over_it_as_native(void **state)
{
	(void)state;
	compare(attach_over);
}

static void past_end(struct twin *t)
{
	const off_t page = (off_t)PAGE;

	store(t, NEW);
	look(t);
	DO(t, ftruncate(t->fd, 14 * page));
	look(t);
	store(t, NEWER);
	look_file(t);
	DO(t, ftruncate(t->fd, 3 * page + 100));
	store(t, DEVICE);
	look(t);
	look_file(t);
	DO(t, ftruncate(t->fd, 12 * page));
	look(t);
	store(t, OTHER);
	look(t);
}

/* Memory under a pin cannot be taken away: what a truncation cuts off reads zero there instead
 * of SIGBUS. So nothing is pinned here. */
static void sigbus__past_the_end_as_native(void **state)
{
	const struct layout layouts[] = { { 0, 8, false }, { 0, 10, false }, { 2, 4, false } };

	(void)state;
	if (page_size() != PAGE)
		skip_test("only for pages of 4 KiB");
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		if (!compare_layout(past_end, 9 * PAGE + 100, &layouts[i]))
			return;
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(munmap__as_native),
		TEST(mmap__over_it_as_native),
		TEST(mremap__in_place_as_native),
		TEST(mremap__fixed_as_native),
		TEST(mremap__onto_it_as_native),
		TEST(mremap__onto_its_beginning_as_native),
		TEST(mremap__errors_as_native),
		TEST(mremap__moved_as_native),
		TEST(mremap__dontunmap_as_native),
		TEST(mremap__several_as_native),
		TEST(mremap__protections_as_native),
		TEST(mprotect__as_native),
		TEST(mprotect__read_only_as_native),
		TEST(remap_file_pages__as_native),
		TEST(shmat__over_it_as_native),
		TEST(sigbus__past_the_end_as_native),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
