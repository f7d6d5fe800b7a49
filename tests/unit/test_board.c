// SPDX-License-Identifier: MIT
/* links: shim/keeper/words.c shim/keeper/digest.c shim/keeper/digest_avx2.c */
/* links: shim/keeper/board.c shim/keeper/registry.c shim/keeper/segment.c */
/* links: shim/common/board.c shim/common/sys.c */
/* The board: what the keeper publishes and every process sees. */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/board.h"
#include "keeper/outsiders.h"
#include "keeper_parts.h"

/* No file is written here. */
void outsiders_write_begins(struct stage *s)
{
	(void)s;
}

void outsiders_write_ends(struct stage *s)
{
	(void)s;
}

static char name[64];

/* A directory that stands for the keeper's. */
static int new_dir(void)
{
	snprintf(name, sizeof(name), "/tmp/board.XXXXXX");
	assert_non_null(mkdtemp(name));
	return open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_dir(int dir)
{
	(void)unlinkat(dir, BOARD_NAME, 0);
	close(dir);
	assert_int_equal(rmdir(name), 0);
}

static const struct board *look_at(int dir)
{
	int fd = openat(dir, BOARD_NAME, O_RDONLY | O_CLOEXEC);
	const struct board *b;

	assert_true(fd >= 0);
	b = mmap(NULL, sizeof(*b), PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(b, MAP_FAILED);
	close(fd);
	return b;
}

/* A process that came before there was a keeper sees what the keeper publishes. */
static void board__made_by_whoever_comes_first(void **state)
{
	const struct inode_key key = { 7, 4711 }, other = { 7, 4712 };
	int dir = new_dir(), fd = board_open(dir);
	const struct board *b;
	struct stage *s;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	b = look_at(dir);
	assert_int_equal(board_start(dir), 0);
	assert_int_equal(board_error(), 0);
	board_settle();
	assert_int_equal(b->files, 0);
	s = stage_find(key, true);
	assert_int_equal(b->files, 1);
	assert_int_equal(b->slot[board_slot(key)], 1);
	assert_ptr_equal(stage_find(key, true), s);
	assert_int_equal(b->files, 1);
	assert_int_equal(b->slot[board_slot(other)], 0);
	stage_drop_if_unused(s);
	assert_int_equal(b->files, 0);
	assert_int_equal(b->slot[board_slot(key)], 0);
	remove_dir(dir);
}

/* What a killed keeper published stays until its successor knows what it inherited. */
static void board__another_keeper(void **state)
{
	const struct inode_key kept = { 7, 4711 }, lost = { 7, 4712 };
	const struct board *b;
	int dir = new_dir(), fd = board_open(dir);
	struct board *left;
	struct stage *s;

	(void)state;
	assert_true(fd >= 0);
	left = mmap(NULL, sizeof(*left), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(left, MAP_FAILED);
	close(fd);
	left->files = 2;
	left->slot[board_slot(kept)] = 1;
	left->slot[board_slot(lost)] = 1;
	b = look_at(dir);
	assert_int_equal(board_start(dir), 0);
	assert_int_equal(b->slot[board_slot(lost)], 1);
	s = stage_find(kept, true);
	assert_int_equal(b->slot[board_slot(kept)], 1);
	assert_int_equal(b->files, 2);
	board_settle();
	assert_int_equal(b->files, 1);
	assert_int_equal(b->slot[board_slot(kept)], 1);
	assert_int_equal(b->slot[board_slot(lost)], 0);
	stage_drop_if_unused(s);
	assert_int_equal(b->files, 0);
	remove_dir(dir);
}

static int make_under_limit(void *arg)
{
	const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_FSIZE, &none) < 0)
		return 2;
	if (board_open(*(int *)arg) != -EFBIG)
		return 1;
	return board_start(*(int *)arg) == -EFBIG && board_error() == -EFBIG ? 0 : 3;
}

/* The limit comes as a signal, which would end the program. */
static void board__not_made_under_a_limit_on_file_sizes(void **state)
{
	int dir = new_dir();

	(void)state;
	assert_int_equal(in_child(make_under_limit, &dir), 0);
	remove_dir(dir);
}

static void board__no_link(void **state)
{
	int dir = new_dir();

	(void)state;
	assert_int_equal(symlinkat("/tmp/elsewhere", dir, BOARD_NAME), 0);
	assert_int_equal(board_open(dir), -ELOOP);
	remove_dir(dir);
}

struct taker { /* that wants a turn */
	int fd;
	struct inode_key key;
	enum board_turn what;
	atomic_bool has_it;
	pthread_t thread;
};

static void *take(void *arg)
{
	struct taker *c = arg;

	board_take_turn(c->fd, c->key, c->what, false);
	c->has_it = true;
	return NULL;
}

static struct taker *client(int dir, uint64_t inode, enum board_turn what)
{
	struct taker *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->fd = board_open(dir);
	assert_true(c->fd >= 0);
	c->key = (struct inode_key){ 7, inode };
	c->what = what;
	assert_int_equal(pthread_create(&c->thread, NULL, take, c), 0);
	return c;
}

static void end_client(struct taker *c)
{
	pthread_join(c->thread, NULL);
	assert_true(c->has_it);
	close(c->fd);
	free(c);
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

/* One at a time; and each file, and each kind, has turns of its own. */
static void turn__of_clients(void **state)
{
	struct taker *first, *second;
	int dir = new_dir();

	(void)state;
	first = client(dir, 1, TURN_WRITE);
	pthread_join(first->thread, NULL);
	second = client(dir, 1, TURN_WRITE);
	end_client(client(dir, 2, TURN_WRITE));
	end_client(client(dir, 1, TURN_LENGTH));
	pause_ms(50);
	assert_false(second->has_it);
	board_give_turn(first->fd, first->key, TURN_WRITE);
	end_client(second);
	close(first->fd);
	free(first);
	remove_dir(dir);
}

/* The keeper's threads share theirs, with a client none. */
static void turn__of_keeper_and_client(void **state)
{
	struct taker *c;
	int dir = new_dir();
	struct stage *s;

	(void)state;
	assert_int_equal(board_start(dir), 0);
	s = stage_find((struct inode_key){ 7, 1 }, true);
	board_begin_write(s);
	board_begin_write(s);
	end_client(client(dir, 1, TURN_WRITE));
	c = client(dir, 1, TURN_LENGTH);
	board_end_write(s);
	pause_ms(50);
	assert_false(c->has_it);
	board_end_write(s);
	end_client(c);
	board_begin_write(s); /* it went with the client's descriptor */
	board_begin_read(s);
	board_end_write(s);
	c = client(dir, 1, TURN_LENGTH);
	pause_ms(50);
	assert_false(c->has_it);
	board_end_read(s);
	end_client(c);
	stage_drop_if_unused(s);
	remove_dir(dir);
}

static void turn__ends_with_the_process(void **state)
{
	const struct inode_key key = { 7, 1 };
	int dir = new_dir(), ready[2], status;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = board_open(dir);

		board_take_turn(fd, key, TURN_WRITE, false);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(pid, SIGKILL);
	end_client(client(dir, 1, TURN_WRITE));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(ready[0]);
	close(ready[1]);
	remove_dir(dir);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(board__made_by_whoever_comes_first),
	cmocka_unit_test(board__another_keeper),
	cmocka_unit_test(board__not_made_under_a_limit_on_file_sizes),
	cmocka_unit_test(board__no_link),
	cmocka_unit_test(turn__of_clients),
	cmocka_unit_test(turn__of_keeper_and_client),
	cmocka_unit_test(turn__ends_with_the_process),
};

UNIT_MAIN(tests, NULL, NULL)
