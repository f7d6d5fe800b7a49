// SPDX-License-Identifier: MIT
/* links: shim/keeper/board.c shim/keeper/registry.c shim/keeper/segment.c */
/* links: shim/common/board.c shim/common/sys.c */
/* The board: what the keeper publishes and every process sees. */
#include "unit.h"

#include <sys/resource.h>

#include "common/board.h"
#include "keeper_parts.h"

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

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(board__made_by_whoever_comes_first),
	cmocka_unit_test(board__another_keeper),
	cmocka_unit_test(board__not_made_under_a_limit_on_file_sizes),
	cmocka_unit_test(board__no_link),
};

UNIT_MAIN(tests, NULL, NULL)
