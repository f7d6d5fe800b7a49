// SPDX-License-Identifier: MIT
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include <pinstage.h>

static const struct op {
	const char *name;
	void (*perform)(void);
	unsigned weight, needs;
} ops[] = {
#define OP(name, weight, needs) { #name, op_##name, weight, needs },
#include "ops.h"
#undef OP
};
#define NOPS (sizeof(ops) / sizeof(ops[0]))

/* How this run goes about it; the same for all subsets of its operations. */
static struct {
	unsigned weight[NOPS], total;
	unsigned maps_every, read_every;
	bool thread;
	unsigned end;
} style;

static void *idle(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* Each run does without some operations and is fond of others. */
static void draw_weight(unsigned i)
{
	static const unsigned factor[] = { 0, 1, 1, 2, 2, 2, 6, 12 };
	unsigned by = factor[below(8)];

	if (!by && (ops[i].perform == op_store || ops[i].perform == op_mmap ||
		    ops[i].perform == op_register))
		by = 1;
	if (!(ops[i].needs & (shared->set.features | F_ALWAYS)))
		by = 0;
	style.weight[i] = ops[i].weight * by;
	style.total += style.weight[i];
}

static bool for_several(unsigned i)
{
	return ops[i].needs & (F_SEVERAL | F_COMMAND);
}

static void draw_style(void)
{
	static const unsigned every[] = { 1, 1, 1, 3, 10 }, read_every[] = { 1, 4, 16, 64 };

	choices_begin(shared->seed, UINT32_MAX);
	style.total = 0;
	for (unsigned i = 0; i < NOPS; i++) {
		if (!for_several(i))
			draw_weight(i);
	}
	style.maps_every = every[below(5)];
	style.read_every = read_every[below(4)];
	style.thread = one_in(3);
	style.end = below(4);
	if (!several())
		return;
	for (unsigned i = 0; i < NOPS; i++) {
		if (for_several(i))
			draw_weight(i);
	}
	/* Each of them ends in a way of its own. */
	style.end = (style.end + program) % 4;
}

static const struct op *draw_op(void)
{
	unsigned at = below(style.total);
	const struct op *op = ops;

	while (at >= style.weight[op - ops])
		at -= style.weight[op++ - ops];
	return op;
}

static void perform_one(unsigned number)
{
	const struct op *op;

	shared->number = number;
	choices_begin(shared->seed, number);
	op = draw_op();
	shared->times[op - ops]++;
	say("%5u ", number);
	if (several())
		say("%c ", 'A' + (int)program);
	say("%d %s", (int)getpid(), op->name);
	op->perform();
	if (shared->lines < MAX_OPS - 2)
		shared->lines++;
	compare_size();
	if (one_in(style.maps_every))
		compare_maps();
	if (one_in(style.read_every))
		compare_read();
	if (shared->depth == 0)
		shared->pending[program] = transfers_pending();
}

bool several(void)
{
	return shared->set.programs > 1;
}

void perform_next(unsigned n)
{
	while (n-- > 0 && shared->next < shared->nops && !shared->failed)
		perform_one(shared->list[shared->next++]);
}

static void begin(void)
{
	int fd = open(file_path(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t size;
	unsigned char *content;

	choices_begin(shared->seed, UINT32_MAX - 1);
	size = one_in(8) ? 0 : draw_size();
	model_begin(size);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		wrong("cannot make %s: errno %d", file_path(), errno);
	/* Some pages have content from the start. */
	content = malloc(MAX_SIZE);
	for (unsigned i = below(8); size && content && i > 0; i--) {
		size_t at, len;

		draw_range(size, &at, &len);
		draw_content(content, at, len);
		if (pwrite(fd, content, len, (off_t)at) != (ssize_t)len)
			wrong("cannot write: errno %d", errno);
		model_write(at, content, len);
	}
	free(content);
	close(fd);
}

/* What one of several programs sees after another one's turn. */
static void look(void)
{
	choices_begin(shared->seed, shared->number | (program + 1) << 24);
	for (unsigned i = 0; i < nmaps; i++) {
		if (pinstage_query(maps[i].addr, maps[i].len) > 0) {
			shared->met++;
			break;
		}
	}
	compare_maps();
	if (one_in(style.read_every))
		compare_read();
}

/* One of several programs: does what the supervisor says, until that is to end. */
static void serve(int life)
{
	char what = TURN;

	/* That it is there; if it came by an operation, that that is done. */
	while (write(life, &what, 1) == 1) {
		if (read(life, &what, 1) != 1)
			break;
		if (what == END)
			return;
		if (what == LOOK)
			look();
		else
			perform_next(1);
	}
	wrong("the supervisor is gone: errno %d", errno);
}

static void end(void)
{
	compare_maps();
	compare_read();
	shared->finished = true;
	if (style.end == 3 && (shared->set.features & F_KILL) && !shared->keeper_killed) {
		shared->killed = true;
		kill(getpid(), SIGKILL);
	}
	if (style.end == 2)
		rings_exit();
	if (style.end == 1)
		_exit(0);
	exit(0);
}

int perform(void)
{
	pthread_t thread;

	fcntl(atoi(getenv("MODEL_SHARED")), F_SETFD, FD_CLOEXEC);
	fcntl(atoi(getenv("MODEL_LIFE")), F_SETFD, FD_CLOEXEC);
	program = (unsigned)atoi(getenv("MODEL_PROGRAM"));
	guard_install();
	draw_style();
	if (!shared->begun)
		begin();
	shared->begun = true;
	if (style.thread)
		pthread_create(&thread, NULL, idle, NULL);
	if (several())
		serve(atoi(getenv("MODEL_LIFE")));
	else
		perform_next(UINT32_MAX);
	end();
	return 0;
}

const char *op_name(unsigned i)
{
	return i < NOPS ? ops[i].name : NULL;
}
