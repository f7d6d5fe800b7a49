// SPDX-License-Identifier: MIT
/*
 * Changes of the address space that no hook sees: system calls made inline, and processes made
 * by clone(2) behind fork()'s back. Nothing is done on the word of records that they made
 * wrong.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include <pinstage.h>

#include "testlib.h"

#define SIZE (256 * KIB)

/* What a program does that has no libc, or a runtime with system calls of its own. */
static long inline_call(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#else
	long ret;

	(void)nr, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	skip_test("only for x86-64");
	return ret = -1;
#endif
}

static unsigned char *anonymous_at(unsigned char *at, size_t len)
{
	return (unsigned char *)inline_call(SYS_mmap, (long)at, (long)len,
					    PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* Other memory stands where the records know a segment: giving the range back must not put the
 * file there. */
static void munmap__unseen_then_released(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(inline_call(SYS_munmap, (long)s.map, SIZE, 0, 0, 0, 0), 0);
	assert_ptr_equal(anonymous_at(s.map, SIZE), s.map);
	memset(s.map, 0xee, SIZE);
	if (with_shim())
		(void)pinstage_release(s.map, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(s.map[i], 0xee);
	assert_reaches_file("data", 0, SIZE, DEVICE);
	/* Truncation takes back what is staged, too. */
	assert_int_equal(ftruncate(s.fd, 0), 0);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(s.map[i], 0xee);
	assert_int_equal(munmap(s.map, SIZE), 0);
	io_uring_queue_exit(&s.ring);
}

static atomic_bool enough;

static void *open_and_close(void *arg)
{
	int fd;

	while (!atomic_load(&enough)) {
		fd = open(path_of("data"), O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
	}
	return arg;
}

/* What another thread has open, and closes again, is found, and is gone when it is used. */
static void register__descriptor_of_another_thread(void **state)
{
	struct io_uring ring;
	pthread_t thread;
	unsigned char *map;
	int fd;

	(void)state;
	make_file("data", SIZE);
	fd = open_file("data", O_RDWR);
	map = (unsigned char *)inline_call(SYS_mmap, 0, SIZE, PROT_READ | PROT_WRITE,
					   MAP_SHARED, fd, 0);
	assert_int_equal(close(fd), 0);
	ring_init(&ring);
	assert_int_equal(pthread_create(&thread, NULL, open_and_close, NULL), 0);
	for (int i = 0; i < 200; i++) {
		must_stage(register_one(&ring, map, SIZE));
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
		if (with_shim())
			(void)pinstage_release(map, SIZE);
	}
	atomic_store(&enough, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	io_uring_queue_exit(&ring);
}

/* Where memory was moved to unseen, msync() carries what it shows all the same. */
static void mremap__unseen_then_msync(void **state)
{
	unsigned char *to = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct staged s;

	(void)state;
	assert_ptr_not_equal(to, MAP_FAILED);
	must_stage(open_and_stage(&s, SIZE));
	assert_ptr_equal((void *)inline_call(SYS_mremap, (long)s.map, SIZE, SIZE,
					     MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0),
			 to);
	fill(to, SIZE, 0, NEW);
	assert_int_equal(msync(to, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	fill(to + SIZE / 2, SIZE / 4, SIZE / 2, NEWER);
	assert_int_equal(msync(to + SIZE / 2, SIZE / 4, MS_SYNC), 0);
	assert_in_file("data", SIZE / 2, SIZE / 4, NEWER);
	assert_int_equal(munmap(to, SIZE), 0);
	io_uring_queue_exit(&s.ring);
}

/* In part: the rest stays staged, and is moved and given back without what came between. */
static void mmap__unseen_over_part(void **state)
{
	unsigned char *moved;
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_ptr_equal(anonymous_at(s.map + SIZE / 2, SIZE / 4), s.map + SIZE / 2);
	memset(s.map + SIZE / 2, 0xee, SIZE / 4);
	assert_int_equal(madvise(s.map, SIZE / 4, MADV_REMOVE), 0);
	moved = mremap(s.map, SIZE / 2, SIZE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(moved, MAP_FAILED);
	for (size_t i = 0; i < SIZE / 4; i++) {
		assert_int_equal(moved[i], 0);
		assert_int_equal(s.map[SIZE / 2 + i], 0xee);
	}
	assert_content(moved + SIZE / 4, SIZE - SIZE / 4, SIZE / 4, DEVICE);
	fill(moved, SIZE, 0, NEW);
	assert_content(s.map + 3 * SIZE / 4, SIZE / 4, 3 * SIZE / 4, NEW);
	assert_int_equal(munmap(moved, SIZE), 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
}

/* The same file, mapped anew where it was staged, can be registered like the first time. */
static void mmap__unseen_of_same_file(void **state)
{
	struct staged s;
	long at;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	at = inline_call(SYS_mmap, (long)s.map, SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, s.fd, 0);
	assert_ptr_equal((void *)at, s.map);
	assert_content(s.map, SIZE, 0, DEVICE);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(register_one(&s.ring, s.map, SIZE), 0);
	assert_content(s.map, SIZE, 0, NEW);
	device_writes(&s.ring, s.map, SIZE / 2, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEW);
	io_uring_queue_exit(&s.ring);
}

/* Where the kernel put what we keep aside, the program maps something of its own. */
static void kept_mapping__overwritten(void **state)
{
	unsigned long start, end, inode, pages = 0;
	unsigned char *kept = NULL;
	char line[512], perms[5];
	struct staged s;
	struct stat st;
	FILE *maps;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	if (!kernel_refuses())
		skip_test("not on tmpfs: nothing is staged there");
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(fstat(s.fd, &st), 0);
	maps = fopen("/proc/self/maps", "re");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, perms, &inode) == 4 &&
		    strncmp(perms, "---s", 4) == 0 && strstr(line, "/data")) {
			kept = (unsigned char *)start;
			pages = (end - start) / page_size();
		}
	fclose(maps);
	assert_non_null(kept);
	assert_int_equal(pages * page_size(), SIZE);
	assert_ptr_equal(anonymous_at(kept, SIZE), kept);
	memset(kept, 0xee, SIZE);
	/* Nothing to put back: it stays staged. */
	assert_int_not_equal(pinstage_release(s.map, SIZE), 0);
	assert_content(s.map, SIZE, 0, DEVICE);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(kept[i], 0xee);
	assert_reaches_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
}

/* ---- the heap ---- */

static unsigned char *after_the_heap(void)
{
	const uintptr_t page = page_size();

	return (unsigned char *)(((uintptr_t)sbrk(0) + page - 1) & ~(page - 1));
}

/* The heap grows over what was unmapped unseen. Nothing that is done with the records of what
 * stood there may touch it: not msync(), not a staging elsewhere, not giving back. */
static void brk__over_unmapped(void **state)
{
	struct io_uring ring;
	unsigned char *heap, *map, *more, *end;
	int fd;

	(void)state;
	make_file("data", SIZE);
	make_file("other", SIZE);
	fd = open_file("data", O_RDWR);
	more = map_file("other", SIZE);
	ring_init(&ring);
	/* malloc() may still move the end a little. */
	heap = after_the_heap() + 64 * page_size();
	map = mmap(heap, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	if (map != heap)
		skip_test("cannot: the heap has a neighbour");
	must_stage(register_one(&ring, map, SIZE));
	device_writes(&ring, map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	assert_int_equal(inline_call(SYS_munmap, (long)map, SIZE, 0, 0, 0, 0), 0);
	end = sbrk(0);
	assert_true(end <= map);
	assert_ptr_equal(sbrk(map + SIZE - end), end);
	memset(map, 0xee, SIZE);
	assert_int_equal(msync(map, SIZE, MS_SYNC), 0);
	assert_int_equal(register_one(&ring, more, SIZE), 0);
	device_writes(&ring, more, SIZE, 0);
	if (with_shim())
		(void)pinstage_release(map, SIZE);
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(map[i], 0xee);
	assert_reaches_file("data", 0, SIZE / 2, DEVICE);
	assert_int_equal(tool("filetool", "zero", path_of("data"), "131072", "131072"), 0);
	assert_int_equal(munmap(more, SIZE), 0);
	assert_in_file("other", 0, SIZE, DEVICE);
	/* It is the heap's: a pin of it is nobody's concern. */
	assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	assert_int_equal(register_one(&ring, map, SIZE), 0);
	device_writes(&ring, map, SIZE, 0);
	assert_content(map, SIZE, 0, DEVICE);
	io_uring_queue_exit(&ring);
	close(fd);
}

/* ---- properties of a mapping ---- */

static sigjmp_buf before_fault;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(before_fault, 1);
}

static bool stores(volatile unsigned char *at, unsigned char byte)
{
	struct sigaction action = { .sa_handler = on_fault }, before;
	volatile bool stored = false;

	sigaction(SIGSEGV, &action, &before);
	if (sigsetjmp(before_fault, 1) == 0) {
		*at = byte;
		stored = true;
	}
	sigaction(SIGSEGV, &before, NULL);
	return stored;
}

/* What was protected unseen stays so when the file's own mapping stands there again. */
static void mprotect__unseen(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(inline_call(SYS_mprotect, (long)s.map, SIZE, PROT_READ, 0, 0, 0), 0);
	assert_false(stores(s.map, 1));
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	if (with_shim() && kernel_refuses()) {
		assert_int_equal(pinstage_release(s.map, SIZE), 0);
		assert_int_equal(pinstage_query(s.map, SIZE), PINSTAGE_NATIVE);
	}
	assert_false(stores(s.map, 1));
	assert_content(s.map, SIZE, 0, DEVICE);
	/* And the other way round. */
	assert_int_equal(
		inline_call(SYS_mprotect, (long)s.map, SIZE, PROT_READ | PROT_WRITE, 0, 0, 0),
		0);
	assert_int_equal(register_one(&s.ring, s.map, SIZE), 0);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
}

/* Before it is staged, in part: that part cannot be pinned, by nobody's records. */
static void mprotect__unseen_before_registering(void **state)
{
	struct staged s;

	(void)state;
	make_file("data", SIZE);
	ring_init(&s.ring);
	s.fd = open_file("data", O_RDWR);
	s.map = map_fd(s.fd, SIZE, 0);
	assert_int_equal(inline_call(SYS_mprotect, (long)(s.map + SIZE / 2), SIZE / 2,
				     PROT_READ, 0, 0, 0),
			 0);
	assert_int_equal(register_one(&s.ring, s.map, SIZE), -EFAULT);
	assert_false(stores(s.map + SIZE / 2, 1));
	must_stage(register_one(&s.ring, s.map, SIZE / 2));
	assert_false(stores(s.map + SIZE / 2, 1));
	device_writes(&s.ring, s.map, SIZE / 2, 0);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, DEVICE);
	assert_in_file("data", SIZE / 2, SIZE / 2, OLD);
	io_uring_queue_exit(&s.ring);
}

/* A child in which the range is not mapped. */
static int child_without(unsigned char *map)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		errno = 0;
		if (stores(map, 1) || stores(map + SIZE - 1, 1))
			_exit(10);
		if (msync(map, SIZE, MS_SYNC) != -1 || errno != ENOMEM)
			_exit(11);
		/* Something of its own there. */
		if (anonymous_at(map, SIZE) != map)
			_exit(12);
		memset(map, 0xee, SIZE);
		if (with_shim())
			(void)pinstage_release(map, SIZE);
		for (size_t i = 0; i < SIZE; i++)
			if (map[i] != 0xee)
				_exit(13);
		exit(0);
	}
	return wait_for(pid);
}

/* What was kept from children unseen is not in them, and not looked for there. */
static void dontfork__unseen(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(io_uring_unregister_buffers(&s.ring), 0);
	assert_int_equal(inline_call(SYS_madvise, (long)s.map, SIZE, MADV_DONTFORK, 0, 0, 0),
			 0);
	assert_int_equal(child_without(s.map), 0);
	assert_content(s.map, SIZE, 0, DEVICE);
	fill(s.map, SIZE, 0, NEW);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	if (with_shim() && kernel_refuses()) {
		assert_int_equal(pinstage_release(s.map, SIZE), 0);
		assert_int_equal(pinstage_query(s.map, SIZE), PINSTAGE_NATIVE);
	}
	fill(s.map, SIZE, 0, NEWER);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE, NEWER);
	io_uring_queue_exit(&s.ring);
}

/* Through libc's syscall() the hooks do see it. */
static void syscall__is_seen(void **state)
{
	struct staged s;
	long p;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	p = syscall(SYS_mremap, s.map, SIZE, SIZE / 2, MREMAP_MAYMOVE);
	assert_ptr_equal((void *)p, s.map);
	assert_in_file("data", SIZE / 2, SIZE / 2, DEVICE);
	fill(s.map, SIZE / 2, 0, NEW);
	assert_int_equal(syscall(SYS_msync, s.map, SIZE / 2, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE / 2, NEW);
	fill(s.map, SIZE / 2, 0, NEWER);
	p = syscall(SYS_mmap, s.map, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s.fd,
		    0L);
	assert_ptr_equal((void *)p, s.map);
	assert_content(s.map, SIZE / 2, 0, NEWER);
	assert_int_equal(syscall(SYS_munmap, s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 2, NEWER);
	assert_int_equal(syscall(SYS_munmap, 1L, SIZE), -1);
	assert_int_equal(errno, EINVAL);
	io_uring_queue_exit(&s.ring);
}

/* ---- processes ---- */

static pid_t raw_fork(void)
{
	return (pid_t)inline_call(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
}

/* A copy of the process that no atfork handler saw: its stores are in the same memory, its
 * msync() is one, and its end is noticed. */
static void clone__without_atfork_handlers(void **state)
{
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	device_writes(&s.ring, s.map, SIZE, 0);
	pid = raw_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (differs(s.map, SIZE, 0, DEVICE) >= 0)
			_exit(1);
		fill(s.map, SIZE / 2, 0, NEW);
		if (msync(s.map, SIZE, MS_SYNC) < 0)
			_exit(2);
		if (!in_file("data", 0, SIZE / 2, NEW))
			_exit(3);
		fill(s.map, SIZE / 4, 0, NEWER);
		if (munmap(s.map, SIZE) < 0 || !in_file("data", 0, SIZE / 4, NEWER))
			_exit(4);
		_exit(0);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_content(s.map, SIZE / 4, 0, NEWER);
	fill(s.map + SIZE / 2, SIZE / 2, SIZE / 2, NEWER);
	assert_int_equal(munmap(s.map, SIZE), 0);
	assert_in_file("data", 0, SIZE / 4, NEWER);
	assert_in_file("data", SIZE / 2, SIZE / 2, NEWER);
	io_uring_queue_exit(&s.ring);
}

static int clone_child(void *arg)
{
	struct staged *s = arg;

	fill(s->map, SIZE, 0, NEW);
	return msync(s->map, SIZE, MS_SYNC) == 0 && in_file("data", 0, SIZE, NEW) ? 0 : 1;
}

static void clone__by_libc(void **state)
{
	static char stack[256 * KIB] __attribute__((aligned(64)));
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	pid = clone(clone_child, stack + sizeof(stack), SIGCHLD, &s);
	assert_true(pid > 0);
	assert_int_equal(wait_for(pid), 0);
	assert_content(s.map, SIZE, 0, NEW);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, NEW);
	io_uring_queue_exit(&s.ring);
}

/* It outlives its parent, and is killed. */
static void raw_forked_parent(void **state)
{
	struct staged s;
	int go[2];
	char c;

	(void)state;
	must_stage_in_part(open_and_stage(&s, SIZE));
	assert_int_equal(pipe(go), 0);
	if (raw_fork() == 0) {
		close(go[1]);
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		fill(s.map, SIZE, 0, NEW);
		raise(SIGKILL);
	}
	exit(0);
}

static void clone__killed_after_its_parent(void **state)
{
	(void)state;
	must_run("raw_forked_parent", 0);
	assert_reaches_file("data", 0, SIZE, NEW);
}

/* A child that only borrows our memory must not take it for its own. */
static int borrower(void *arg)
{
	struct staged *s = arg;

	return msync(s->map, SIZE, MS_SYNC) == 0 ? 0 : 1;
}

static void clone__with_shared_memory(void **state)
{
	static char stack[256 * KIB] __attribute__((aligned(64)));
	struct staged s;
	pid_t pid;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	pid = clone(borrower, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &s);
	assert_true(pid > 0);
	assert_int_equal(wait_for(pid), 0);
	device_writes(&s.ring, s.map, SIZE, 0);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_int_equal(munmap(s.map, SIZE), 0);
	io_uring_queue_exit(&s.ring);
}

/* ---- syscall() and frames ---- */

static void end_child(void)
{
	_exit(7);
}

/* The child is on a stack of its own, and returns to what lies there. */
static void syscall__child_on_another_stack(void **state)
{
	void **stack = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	void **top = stack + (64 * KIB - 256) / sizeof(*stack);
	int status;
	long pid;

	(void)state;
#ifndef __x86_64__
	skip_test("cannot: where a function returns to is not on the stack");
#endif
	assert_ptr_not_equal(stack, MAP_FAILED);
	*top = (void *)(uintptr_t)end_child;
	pid = syscall(SYS_clone, (long)(CLONE_VM | SIGCHLD), top);
	assert_true(pid > 0);
	assert_int_equal(waitpid((pid_t)pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	assert_int_equal(munmap(stack, 64 * KIB), 0);
}

static _Atomic(_Atomic long *) word_of_caller;
static atomic_bool calls_done;

static void *store_again_and_again(void *arg)
{
	unsigned long *undone = arg;
	_Atomic long *word;

	while (!(word = atomic_load(&word_of_caller)))
		;
	for (long n = 1; !atomic_load(&calls_done); n++) {
		atomic_store_explicit(word, n, memory_order_relaxed);
		for (volatile int i = 0; i < 20; i++)
			;
		*undone += atomic_load_explicit(word, memory_order_relaxed) != n;
	}
	return NULL;
}

/* The first word at the stack pointer, where a seventh argument would be. */
static __attribute__((noinline)) int call_again_and_again(unsigned times, pthread_t thread)
{
	_Atomic long word[2];

	atomic_init(&word[0], 0);
	atomic_store(&word_of_caller, word);
	while (times--)
		syscall(SYS_getppid);
	atomic_store(&calls_done, true);
	return pthread_join(thread, NULL);
}

/* What others store there meanwhile stays. */
static void syscall__leaves_the_callers_frame_alone(void **state)
{
	unsigned long undone = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, store_again_and_again, &undone), 0);
	assert_int_equal(call_again_and_again(1000000, thread), 0);
	assert_int_equal(undone, 0);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(munmap__unseen_then_released),
		TEST(mremap__unseen_then_msync),
		TEST(register__descriptor_of_another_thread),
		TEST(mmap__unseen_over_part),
		TEST(mmap__unseen_of_same_file),
		TEST(kept_mapping__overwritten),
		TEST(brk__over_unmapped),
		TEST(mprotect__unseen),
		TEST(mprotect__unseen_before_registering),
		TEST(dontfork__unseen),
		TEST(syscall__is_seen),
		TEST(syscall__leaves_the_callers_frame_alone),
		TEST(syscall__child_on_another_stack),
		TEST(clone__without_atfork_handlers),
		TEST(clone__by_libc),
		TEST(clone__killed_after_its_parent),
		TEST(clone__with_shared_memory),
		{ 0 },
	};
	static const struct test parts[] = { TEST(raw_forked_parent), { 0 } };

	return test_main(argc, argv, cases, parts);
}
