/* SPDX-License-Identifier: MIT */
/*
 * Several processes of one user that stage files when they are mapped (PINSTAGE_EAGER): all
 * meet in one stage from the start.
 */
#include "testlib.h"

#include <pinstage.h>
#include <sched.h>
#include <stdatomic.h>

#define SIZE (256 * KIB)

/* How other processes see the case; they get the shim's settings of this one. */
static pid_t partner(const char *part)
{
	return start_part(part);
}

static void must_end_well(pid_t pid)
{
	assert_int_equal(wait_for(pid), 0);
}

#define RANKS 12
#define SLICE (8 * KIB) /* RLIMIT_MEMLOCK counts all pins of a user */

static void be_eager(void)
{
	assert_int_equal(setenv("PINSTAGE_EAGER", "*/data*", 1), 0);
}

static unsigned rank(void)
{
	return (unsigned)atoi(getenv("RANK"));
}

static pid_t start_rank(const char *part, unsigned r)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", r);
	assert_int_equal(setenv("RANK", text, 1), 0);
	return partner(part);
}

/* Memory that the ranks share beside the file: counters, one per step. */
struct steps {
	_Atomic unsigned at[8];
};

static struct steps *steps(void)
{
	return map_file("steps", sizeof(struct steps));
}

static bool all_there(void *counter)
{
	return atomic_load((_Atomic unsigned *)counter) >= RANKS;
}

static void meet(_Atomic unsigned *counter)
{
	atomic_fetch_add(counter, 1);
	if (!poll_until(all_there, counter, 60000))
		_exit(20);
}

static void part_registers_all(void **state)
{
	struct steps *s = steps();
	unsigned char *map = map_file("data", RANKS * SLICE);
	unsigned r = rank();
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, RANKS * SLICE));
	fill(map + r * SLICE, SLICE, r * SLICE, NEW + r);
	meet(&s->at[0]);
	for (unsigned i = 0; i < RANKS; i++)
		if (differs(map + i * SLICE, SLICE, i * SLICE, NEW + i) >= 0)
			_exit(11);
	_exit(0);
}

/* False where the kernel's own refusal had to show, and did. */
static bool all_end_well(pid_t *pid, int killed)
{
	const bool refused = kernel_refuses() && !with_shim();

	for (int i = 0; i < RANKS; i++)
		assert_int_equal(wait_for(pid[i]), refused	 ? EFAULT
						   : i == killed ? -SIGKILL
								 : 0);
	return !refused;
}

/* Unrelated processes, started at once, that map and register the same file. */
static void eager__a_dozen_at_once(void **state)
{
	pid_t pid[RANKS];

	(void)state;
	make_file("data", RANKS * SLICE);
	make_sparse("steps", sizeof(struct steps));
	be_eager();
	for (unsigned i = 0; i < RANKS; i++)
		pid[i] = start_rank("registers_all", i);
	if (!all_end_well(pid, -1))
		return;
	for (unsigned i = 0; i < RANKS; i++)
		assert_in_file("data", i * SLICE, SLICE, NEW + i);
}

static void part_overlaps(void **state)
{
	struct steps *s = steps();
	unsigned r = rank();
	int fd = open_file("data", O_RDWR);
	struct io_uring ring;
	unsigned char *map;

	(void)state;
	meet(&s->at[0]);
	/* Two slices; each is also the next one's. */
	map = map_fd(fd, 2 * SLICE, r * SLICE);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map, 2 * SLICE));
	fill(map, SLICE, r * SLICE, NEW + r);
	meet(&s->at[1]);
	if (r + 1 < RANKS && differs(map + SLICE, SLICE, (r + 1) * SLICE, NEW + r + 1) >= 0)
		_exit(11);
	meet(&s->at[2]);
	_exit(0);
}

static void eager__overlapping_ranges_at_once(void **state)
{
	pid_t pid[RANKS];

	(void)state;
	make_file("data", (RANKS + 1) * SLICE);
	make_sparse("steps", sizeof(struct steps));
	be_eager();
	for (unsigned i = 0; i < RANKS; i++)
		pid[i] = start_rank("overlaps", i);
	if (!all_end_well(pid, -1))
		return;
	for (unsigned i = 0; i < RANKS; i++)
		assert_in_file("data", i * SLICE, SLICE, NEW + i);
	assert_in_file("data", RANKS * SLICE, SLICE, OLD);
}

/* An MPI-like segment: flags in the file itself, on which the others spin; every rank registers
 * its own part. */
struct segment_head {
	_Atomic unsigned arrived, turn;
};

static void spin_until(_Atomic unsigned *flag, unsigned value)
{
	uint64_t end = now_ms() + 60000;

	while (atomic_load(flag) < value) {
		if (now_ms() > end)
			_exit(20);
		sched_yield();
	}
}

static void part_mpi_rank(void **state)
{
	unsigned char *map = map_file("data", (RANKS + 1) * SLICE);
	struct segment_head *head = (void *)map;
	unsigned r = rank();
	unsigned char *mine = map + (r + 1) * SLICE;
	struct io_uring ring;

	(void)state;
	atomic_fetch_add(&head->arrived, 1);
	spin_until(&head->arrived, RANKS);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, mine, SLICE));
	/* In turn: each sees what the device brought to the one before. */
	spin_until(&head->turn, r);
	if (r > 0 && differs(mine - SLICE, SLICE, 0, DEVICE) >= 0)
		_exit(11);
	read_fixed(&ring, open_file("source", O_RDONLY), mine, SLICE, 0, 0);
	atomic_store(&head->turn, r + 1);
	spin_until(&head->turn, RANKS);
	_exit(0);
}

static void make_segment(void)
{
	make_sparse("data", (RANKS + 1) * SLICE);
	close(make_source(SLICE, DEVICE));
	be_eager();
}

static void eager__ranks_spin_on_flags(void **state)
{
	pid_t pid[RANKS];

	(void)state;
	make_segment();
	for (unsigned i = 0; i < RANKS; i++)
		pid[i] = start_rank("mpi_rank", i);
	if (!all_end_well(pid, -1))
		return;
	for (unsigned i = 0; i < RANKS; i++)
		assert_true(
			in_file_at("data", (i + 1) * SLICE, SLICE, (i + 1) * SLICE, DEVICE));
}

static void part_dies_in_the_middle(void **state)
{
	unsigned char *map = map_file("data", (RANKS + 1) * SLICE);
	struct segment_head *head = (void *)map;
	unsigned r = rank();
	struct io_uring ring;

	(void)state;
	atomic_fetch_add(&head->arrived, 1);
	spin_until(&head->arrived, RANKS);
	ring_init(&ring);
	must_stage_in_part(register_one(&ring, map + (r + 1) * SLICE, SLICE));
	fill(map + (r + 1) * SLICE, SLICE, (r + 1) * SLICE, NEW + r);
	spin_until(&head->turn, r);
	atomic_store(&head->turn, r + 1);
	if (r == RANKS / 2)
		raise(SIGKILL);
	spin_until(&head->turn, RANKS);
	for (unsigned i = 0; i < RANKS; i++)
		if (differs(map + (i + 1) * SLICE, SLICE, (i + 1) * SLICE, NEW + i) >= 0)
			_exit(11);
	_exit(0);
}

static void eager__one_is_killed_in_the_middle(void **state)
{
	pid_t pid[RANKS];

	(void)state;
	make_segment();
	for (unsigned i = 0; i < RANKS; i++)
		pid[i] = start_rank("dies_in_the_middle", i);
	if (!all_end_well(pid, RANKS / 2))
		return;
	for (unsigned i = 0; i < RANKS; i++)
		assert_reaches_file("data", (i + 1) * SLICE, SLICE, NEW + i);
}

static void part_reads_first(void **state)
{
	int fd = open_file("data", O_RDONLY);
	unsigned char *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	(void)state;
	if (map == MAP_FAILED || differs(map, SIZE, 0, OLD) >= 0)
		_exit(10);
	reached("mapped");
	wait_reached("stored");
	_exit(differs(map, SIZE, 0, NEW) >= 0 ? 11 : 0);
}

/* Whoever maps it first, also one that only reads. */
static void eager__a_reader_first(void **state)
{
	pid_t reader, writer;

	(void)state;
	make_file("data", SIZE);
	be_eager();
	reader = partner("reads_first");
	wait_reached("mapped");
	writer = partner("stores");
	must_end_well(writer);
	must_end_well(reader);
}

static void part_stores(void **state)
{
	int fd = open_file("data", O_RDWR);
	unsigned char *map = map_fd(fd, SIZE, 0);
	struct io_uring ring;

	(void)state;
	ring_init(&ring);
	if (kernel_refuses() && with_shim() && register_one(&ring, map, SIZE) != 0)
		_exit(12);
	fill(map, SIZE, 0, NEW);
	reached("stored");
	_exit(0);
}

/* A file that is not one of those is left alone until it is registered. */
static void eager__other_files_are_left_alone(void **state)
{
	unsigned char *map;

	(void)state;
	make_file("other", SIZE);
	be_eager();
	must_end_well(partner("maps_other"));
	assert_not_staged();
	map = map_file("other", SIZE);
	assert_content(map, SIZE, 0, NEW);
}

static void part_maps_other(void **state)
{
	(void)state;
	fill(map_file("other", SIZE), SIZE, 0, NEW);
	_exit(0);
}

/* The file ends in a page of its own half. */
#define END (SIZE / 2 + 100)

static sigjmp_buf before_fault;

static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(before_fault, 1);
}

static bool gives_bus_error(const volatile unsigned char *at)
{
	struct sigaction action = { .sa_handler = on_bus_error }, before;
	volatile bool faulted = true;

	sigaction(SIGBUS, &action, &before);
	if (sigsetjmp(before_fault, 1) == 0) {
		(void)*at;
		faulted = false;
	}
	sigaction(SIGBUS, &before, NULL);
	return faulted;
}

/* Of the mapping, what the file has is staged and the rest is the kernel's. */
static unsigned char *map_too_much(void)
{
	const size_t end = (END + page_size() - 1) & ~(page_size() - 1);
	unsigned char *map = map_file("data", SIZE);

	if (with_shim() && kernel_refuses() &&
	    (pinstage_query(map, end) != PINSTAGE_STAGED ||
	     pinstage_query(map + end, SIZE - end) != PINSTAGE_NATIVE))
		_exit(10);
	if (differs(map, END, 0, OLD) >= 0 || map[END] || map[end - 1])
		_exit(11);
	if (gives_bus_error(map + end - 1) || !gives_bus_error(map + end) ||
	    !gives_bus_error(map + SIZE - 1))
		_exit(12);
	return map;
}

static void part_grows_file(void **state)
{
	unsigned char *map = map_too_much();
	int fd = open_file("data", O_RDWR);

	(void)state;
	wait_reached("watching");
	if (ftruncate(fd, SIZE) < 0 || map[END] || gives_bus_error(map + SIZE - 1))
		_exit(13);
	fill(map, SIZE, 0, NEW);
	reached("grown");
	wait_reached("stored");
	_exit(differs(map, SIZE, 0, NEWER) >= 0 ? 14 : 0);
}

static void part_watches_file(void **state)
{
	unsigned char *map = map_too_much();

	(void)state;
	reached("watching");
	wait_reached("grown");
	if (gives_bus_error(map + SIZE - 1) || differs(map, SIZE, 0, NEW) >= 0)
		_exit(15);
	fill(map, SIZE, 0, NEWER);
	reached("stored");
	_exit(0);
}

/* Behind the end there is nothing to stage: SIGBUS, until one of them makes the file longer. */
static void eager__mapping_longer_than_file(void **state)
{
	pid_t grows, watches;

	(void)state;
	make_file("data", END);
	be_eager();
	grows = partner("grows_file");
	watches = partner("watches_file");
	must_end_well(watches);
	must_end_well(grows);
	assert_int_equal(file_size("data"), SIZE);
	assert_reaches_file("data", 0, SIZE, NEWER);
}

static const struct test cases[] = {
	TEST(eager__a_dozen_at_once),	       TEST(eager__overlapping_ranges_at_once),
	TEST(eager__ranks_spin_on_flags),      TEST(eager__one_is_killed_in_the_middle),
	TEST(eager__a_reader_first),	       TEST(eager__other_files_are_left_alone),
	TEST(eager__mapping_longer_than_file), { 0 },
};

#define PART(f)                             \
	{                                   \
		.name = #f, .run = part_##f \
	}

static const struct test parts[] = {
	PART(maps_other),
	PART(reads_first),
	PART(stores),
	PART(registers_all),
	PART(overlaps),
	PART(mpi_rank),
	PART(dies_in_the_middle),
	PART(grows_file),
	PART(watches_file),
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases, parts);
}
