/* SPDX-License-Identifier: MIT */
/* One truth in forked children, too, whenever they were made and whoever goes first. */
#include "testlib.h"

#include <sched.h>

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

static int child_status(pid_t pid)
{
	return wait_for(pid);
}

static void fork__before_staging(void **state)
{
	struct staged s;
	int go[2], done[2];
	pid_t pid;
	char c = 0;

	(void)state;
	open_data(&s, SIZE);
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(done), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* Another process has the range mapped natively: a late stage must be refused.
		 */
		if (differs(s.map, SIZE, 0, OLD) >= 0 || write(done[1], "x", 1) != 1)
			_exit(1);
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(differs(s.map, SIZE, 0, NEW) >= 0 ? 2 : 0);
	}
	assert_int_equal(read(done[0], &c, 1), 1);
	if (kernel_refuses()) {
		assert_int_equal(stage(&s), -EFAULT);
		assert_refused_once();
		if (with_shim() && !log_has("event=refuse", "another process"))
			fail_test("the refusal does not name the other process\n");
	} else {
		assert_int_equal(stage(&s), 0);
	}
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(write(go[1], "x", 1), 1);
	assert_int_equal(child_status(pid), 0);
	assert_in_file("data", 0, SIZE, NEW);
	end(&s);
}

/* The child ended before the pin: nobody else has the range any more. */
static void fork__ended_before_staging(void **state)
{
	struct staged s;
	pid_t pid;

	(void)state;
	open_data(&s, SIZE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fill(s.map, SIZE / 2, 0, NEW);
		_exit(0);
	}
	assert_int_equal(child_status(pid), 0);
	must_stage(stage(&s));
	assert_content(s.map, SIZE / 2, 0, NEW);
	fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEWER);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEWER);
	end(&s);
}

static void fork__after_staging(void **state)
{
	struct staged s;
	int go[2];
	pid_t pid;
	char c;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		if (differs(s.map, SIZE, 0, DEVICE) >= 0)
			_exit(2);
		fill(s.map, SIZE / 2, 0, NEW);
		/* The child has a conversation of its own with the keeper. */
		if (msync(s.map, SIZE, MS_SYNC) < 0)
			_exit(3);
		_exit(in_file("data", 0, SIZE / 2, NEW) ? 0 : 4);
	}
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(write(go[1], "x", 1), 1);
	assert_int_equal(child_status(pid), 0);
	assert_content(s.map, SIZE / 2, 0, NEW);
	assert_content(s.map + SIZE / 2, SIZE / 2, SIZE / 2, DEVICE);
	fill(s.map, SIZE, 0, NEWER);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEWER);
	end(&s);
}

/* The parent goes first; what the child stores afterwards still reaches the file. */
static void forked_parent(void **state)
{
	struct staged s;
	int go[2];
	pid_t pid;
	char c;

	(void)state;
	open_data(&s, SIZE);
	must_stage_in_part(stage(&s));
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(go[1]);
		/* End of file: the parent is gone. */
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		fill(s.map, SIZE, 0, NEW);
		_exit(0);
	}
	exit(0);
}

static void fork__outlives_parent(void **state)
{
	(void)state;
	must_run("forked_parent", 0);
	assert_reaches_file("data", 0, SIZE, NEW);
}

static int in_vfork_child(void *arg)
{
	const char *const argv[] = { "true", NULL };

	(void)arg;
	execv("/bin/true", (char *const *)(uintptr_t)argv);
	_exit(127);
}

/* vfork() runs the child on the parent's memory: its exec must not end the parent's stage. */
static void vfork__child_executes(void **state)
{
	static char stack[64 * KIB] __attribute__((aligned(64)));
	struct staged s;
	pid_t pid;

	(void)state;
	open_data(&s, SIZE);
	must_stage(stage(&s));
	pid = clone(in_vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD,
		    NULL);
	assert_true(pid > 0);
	assert_int_equal(child_status(pid), 0);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	end(&s);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(fork__before_staging),  TEST(fork__ended_before_staging),
		TEST(fork__after_staging),   TEST(fork__outlives_parent),
		TEST(vfork__child_executes), { 0 },
	};
	static const struct test parts[] = { TEST(forked_parent), { 0 } };

	return test_main(argc, argv, cases, parts);
}
