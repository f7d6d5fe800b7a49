/* SPDX-License-Identifier: MIT */
/* sanitizers: no (their own code would be stepped through) */
/* links: shim/keeper/words.c */
/* links: shim/keeper/merge.c shim/keeper/segment.c shim/common/proto.c shim/common/sys.c */
/* links: shim/keeper/engine.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/parts.c shim/keeper/thread.c shim/keeper/aside.c */
/*
 * A keeper that is killed while it brings what others wrote into the memory, and the next one.
 * It goes step by step, and is killed after one of its stores to what outlives it, every few
 * of them, or with EACH_STORE set each.
 */
#include "unit.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/ptrace.h>

#include "keeper/outsiders.h"
#include "keeper_no_turns.h"
#include "keeper_parts.h"

#define THEIRS 0x7468656972730000UL /* others wrote */
#define STORED 0x73746f7265640000UL /* the program stored, when the keeper was dead */
#define AT     200		    /* word, not one of theirs */

struct keeper keeper = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* They are more than are noted at once (LEDGER_WORDS), and not neighbours. */
static const unsigned first = 3, stride = 3, last = 498;
static const unsigned all = 166;

void stage_hear(struct stage *s)
{
	(void)s;
}

static void only_at_full_speed(void)
{
	const char *preload = getenv("LD_PRELOAD");

	if (preload && strstr(preload, "vgpreload")) {
		print_message("skipped: valgrind knows no single steps\n");
		skip();
	}
#ifndef __x86_64__
	print_message("skipped: only for x86-64\n");
	skip();
#endif
}

/* A page of the file in memory; then others write to the file. */
static struct segment *begin_stage(struct stage *s)
{
	const uint64_t page = page_size();
	struct segment *g;
	uint64_t word;

	*s = (struct stage){ .fd = unnamed_file(), .ear = -1 };
	assert_int_equal(ftruncate(s->fd, (off_t)page), 0);
	assert_int_equal(segment_create(s, 0, page, &g), 0);
	g->state = g->ledger->state = SEGMENT_LIVE;
	LIST_INSERT_HEAD(&s->segments, g, link);
	engine_record_bases(g);
	for (unsigned i = first; i <= last; i += stride) {
		word = THEIRS + i;
		assert_int_equal(pwrite(s->fd, &word, sizeof(word), i * sizeof(word)),
				 sizeof(word));
	}
	return g;
}

/* As merge_outside() would, without the many steps that change nothing. */
static pid_t start_taking(struct stage *s, struct segment *g)
{
	static unsigned char old[4096], new[4096];
	int status;
	pid_t pid;

	memcpy(old, g->mem, sizeof(old));
	assert_int_equal(pread(s->fd, new, sizeof(new), 0), sizeof(new));
	pid = fork();
	if (!pid) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		words_take(g, 0, old, new);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

static bool changed(const struct segment *g, unsigned char *before)
{
	const size_t page = page_size();

	if (!memcmp(before, g->mem, page) && !memcmp(before + page, g->ledger, 2 * page))
		return false;
	memcpy(before, g->mem, page);
	memcpy(before + page, g->ledger, 2 * page);
	return true;
}

/* False: it came to its end before. */
static bool kill_after_store(struct stage *s, struct segment *g, unsigned n)
{
	unsigned char *before = xcalloc(3, page_size());
	const pid_t pid = start_taking(s, g);
	int status;

	(void)changed(g, before);
	do {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	} while (WIFSTOPPED(status) && (!changed(g, before) || --n));
	free(before);
	if (WIFEXITED(status))
		return false;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return true;
}

static void store_in_memory(const struct segment *g)
{
	uint64_t *mem =
		mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);

	assert_ptr_not_equal(mem, MAP_FAILED);
	mem[AT] = STORED;
	munmap(mem, page_size());
}

static struct segment *next_keeper(struct stage *s, struct segment *old)
{
	struct segment *g;
	struct msg m;

	msg_init(&m, MSG_ATTACH);
	m.len = page_size();
	assert_int_equal(segment_adopt(s, &m, old->memfd, old->ledger_fd, &g), 0);
	LIST_REMOVE(old, link);
	segment_free(old);
	LIST_INSERT_HEAD(&s->segments, g, link);
	return g;
}

static unsigned theirs(const uint64_t *words)
{
	unsigned n = 0;

	for (unsigned i = first; i <= last; i += stride)
		n += words[i] == THEIRS + i;
	return n;
}

/* What others wrote is in the file and in memory, all of it; and what was stored. Only if that
 * came between two notes, memory's version is kept, and that is said. */
static void both_have_all(struct stage *s, const struct segment *g, bool stored)
{
	uint64_t file[512];

	assert_int_equal(pread(s->fd, file, sizeof(file), 0), sizeof(file));
	assert_memory_equal(file, g->mem, sizeof(file));
	if (!stored || !said)
		assert_int_equal(theirs(file), all);
	else
		assert_int_equal(theirs(file) % LEDGER_WORDS, 0);
	assert_int_equal(file[AT], stored ? STORED : 0);
}

static void killed_after_stores(bool stored)
{
	struct segment *g;
	struct stage s;
	const unsigned every = getenv("EACH_STORE") ? 1 : 31;
	bool killed = true;
	unsigned n;

	only_at_full_speed();
	for (n = 1; killed; n += every) {
		g = begin_stage(&s);
		killed = kill_after_store(&s, g, n);
		if (stored)
			store_in_memory(g);
		g = next_keeper(&s, g);
		said = 0;
		merge_outside(&s, TOUCHED_ANYWHERE, 0, UINT64_MAX);
		assert_int_equal(engine_sync(g, 0, UINT64_MAX), 0);
		both_have_all(&s, g, stored);
		segment_free(g);
		close(s.fd);
	}
	assert_true(n > all); /* the steps were seen */
}

static void merge__killed(void **state)
{
	(void)state;
	killed_after_stores(false);
}

static void merge__killed_and_the_program_stores(void **state)
{
	(void)state;
	killed_after_stores(true);
}

/* What is zeroed by calloc(), and not by the kernel, is zeroed in many steps. */
static int before(void **state)
{
	(void)state;
	return mallopt(M_MMAP_THRESHOLD, 64 * 1024) ? 0 : -1;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(merge__killed),
	cmocka_unit_test(merge__killed_and_the_program_stores),
};

UNIT_MAIN(tests, before, NULL)
