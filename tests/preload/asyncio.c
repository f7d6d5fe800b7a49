// SPDX-License-Identifier: MIT
/*
 * Input and output of a staged file that no hook sees: POSIX asynchronous I/O, io_uring, stdio.
 * It meets the file. What it writes shows in memory within a bounded time, as an outsider's;
 * what it reads is what memory had at the last sync point, or later.
 */
#include "testlib.h"

#include <aio.h>

#define SIZE (256 * KIB)
#define PART (3 * 4 * KIB + 5)
#define AT   16387

static unsigned char buf[SIZE];

static void store_and_sync(struct staged *s, unsigned seed)
{
	fill(s->map, SIZE, 0, seed);
	assert_int_equal(msync(s->map, SIZE, MS_SYNC), 0);
}

static void end(struct staged *s)
{
	io_uring_queue_exit(&s->ring);
	assert_int_equal(munmap(s->map, SIZE), 0);
	close(s->fd);
}

/* What was written at AT: in memory within the bound and some more, and nothing else changed.
 */
static void must_show(const struct staged *s, unsigned seed, unsigned rest)
{
	assert_reaches_memory(s->map + AT, PART, AT, seed);
	assert_content(s->map, AT, 0, rest);
	assert_content(s->map + AT + PART, SIZE - AT - PART, AT + PART, rest);
	assert_int_equal(msync(s->map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, AT, rest);
	assert_in_file("data", AT, PART, seed);
	assert_in_file("data", AT + PART, SIZE - AT - PART, rest);
}

/* ---- POSIX asynchronous I/O ---- */

static ssize_t completed(struct aiocb *cb)
{
	const struct aiocb *const list[] = { cb };

	while (aio_error(cb) == EINPROGRESS)
		(void)aio_suspend(list, 1, NULL);
	assert_int_equal(aio_error(cb), 0);
	return aio_return(cb);
}

static struct aiocb aiocb(int fd, off_t at, size_t len)
{
	return (struct aiocb){ .aio_fildes = fd,
			       .aio_offset = at,
			       .aio_buf = buf + at,
			       .aio_nbytes = len,
			       .aio_sigevent = { .sigev_notify = SIGEV_NONE } };
}

static void aio__write_shows_in_memory(void **state)
{
	struct aiocb cb;
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	cb = aiocb(s.fd, AT, PART);
	fill(buf + AT, PART, AT, OTHER);
	assert_int_equal(aio_write(&cb), 0);
	assert_int_equal(completed(&cb), PART);
	must_show(&s, OTHER, NEW);
	end(&s);
}

static void aio__read_is_current_after_msync(void **state)
{
	struct aiocb cb;
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	for (unsigned seed = NEW; seed < NEW + 3; seed++) {
		store_and_sync(&s, seed);
		/* What is stored now may come with it or not. */
		fill(s.map + AT, 1, AT, seed + 1);
		cb = aiocb(s.fd, 0, SIZE);
		assert_int_equal(aio_read(&cb), 0);
		assert_int_equal(completed(&cb), SIZE);
		assert_content(buf, AT, 0, seed);
		assert_true(buf[AT] == s.map[AT] || differs(buf + AT, 1, AT, seed) < 0);
		assert_content(buf + AT + 1, SIZE - AT - 1, AT + 1, seed);
	}
	end(&s);
}

/* What was stored before aio_fsync() need not be there, what was written by aio_write() must.
 */
static void aio__fsync_harms_nothing(void **state)
{
	struct aiocb write, sync;
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	write = aiocb(s.fd, AT, PART);
	fill(buf + AT, PART, AT, OTHER);
	assert_int_equal(aio_write(&write), 0);
	assert_int_equal(completed(&write), PART);
	sync = aiocb(s.fd, 0, 0);
	assert_int_equal(aio_fsync(O_SYNC, &sync), 0);
	assert_int_equal(completed(&sync), 0);
	assert_in_file("data", AT, PART, OTHER);
	must_show(&s, OTHER, NEW);
	end(&s);
}

/* ---- io_uring ---- */

static struct io_uring_sqe *next_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		abort();
	return sqe;
}

static void submit(struct io_uring *ring, int result)
{
	struct io_uring_cqe *cqe;

	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	assert_int_equal(cqe->res, result);
	io_uring_cqe_seen(ring, cqe);
}

static void uring__write_shows_in_memory(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	fill(buf + AT, PART, AT, OTHER);
	io_uring_prep_write(next_sqe(&s.ring), s.fd, buf + AT, PART, AT);
	submit(&s.ring, PART);
	must_show(&s, OTHER, NEW);
	end(&s);
}

static void uring__read_is_current_after_msync(void **state)
{
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	for (unsigned seed = NEW; seed < NEW + 3; seed++) {
		store_and_sync(&s, seed);
		io_uring_prep_read(next_sqe(&s.ring), s.fd, buf, SIZE, 0);
		submit(&s.ring, SIZE);
		assert_content(buf, SIZE, 0, seed);
	}
	end(&s);
}

/* The staged range as the buffer, and its own file as the other side. */
static void uring__fixed_from_its_own_file(void **state)
{
	const size_t half = SIZE / 2;
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	read_fixed(&s.ring, s.fd, s.map, half, (off_t)half, 0);
	assert_content(s.map, half, half, NEW);
	assert_content(s.map + half, half, half, NEW);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_true(in_file_at("data", 0, half, -(off_t)half, NEW));
	assert_in_file("data", half, half, NEW);
	end(&s);
}

static void uring__fixed_to_its_own_file(void **state)
{
	const size_t half = SIZE / 2;
	struct staged s;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	/* The buffer is memory, as it is now; what it is written to is the file. */
	fill(s.map, half, 0, NEWER);
	write_fixed(&s.ring, s.fd, s.map, half, (off_t)half, 0);
	assert_reaches_memory(s.map + half, half, 0, NEWER);
	assert_content(s.map, half, 0, NEWER);
	assert_int_equal(msync(s.map, SIZE, MS_SYNC), 0);
	assert_in_file("data", 0, half, NEWER);
	assert_true(in_file_at("data", (off_t)half, half, (off_t)half, NEWER));
	end(&s);
}

/* ---- stdio ---- */

static FILE *stream(const char *mode)
{
	FILE *f = fopen(path_of("data"), mode);

	assert_non_null(f);
	return f;
}

static void stdio__fread_is_current_after_msync(void **state)
{
	struct staged s;
	FILE *f;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	f = stream("re");
	for (unsigned seed = NEW; seed < NEW + 3; seed++) {
		store_and_sync(&s, seed);
		assert_int_equal(fseek(f, 0, SEEK_SET), 0);
		assert_int_equal(fread(buf, 1, SIZE, f), SIZE);
		assert_content(buf, SIZE, 0, seed);
	}
	assert_int_equal(fclose(f), 0);
	end(&s);
}

static void stdio__fwrite_shows_in_memory(void **state)
{
	struct staged s;
	FILE *f;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	f = stream("r+e");
	fill(buf + AT, PART, AT, OTHER);
	assert_int_equal(fseek(f, AT, SEEK_SET), 0);
	assert_int_equal(fwrite(buf + AT, 1, PART, f), PART);
	assert_int_equal(fflush(f), 0);
	must_show(&s, OTHER, NEW);
	assert_int_equal(fclose(f), 0);
	end(&s);
}

/* What the file held before does not come back behind what was written, by nobody's doing. */
static void stdio__fopen_empties_the_file(void **state)
{
	const size_t len = 5000;
	struct staged s;
	FILE *f;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	f = stream("we");
	fill(buf, len, 0, OTHER);
	assert_int_equal(fwrite(buf, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(file_size("data"), len);
	assert_int_equal(fsync(s.fd), 0);
	assert_int_equal(file_size("data"), len);
	assert_in_file("data", 0, len, OTHER);
	end(&s);
	assert_int_equal(file_size("data"), len);
	assert_in_file("data", 0, len, OTHER);
	/* Nor when it grows. */
	assert_int_equal(truncate(path_of("data"), SIZE), 0);
	assert_int_equal(tool("filetool", "zero", path_of("data"), "5000", "257144"), 0);
	assert_in_file("data", 0, len, OTHER);
}

/* The same, and it grows while it is staged. */
static void stdio__fopen_empties_and_memory_reads_zero(void **state)
{
	static const unsigned char zero[SIZE];
	const size_t len = 5000;
	struct staged s;
	FILE *f;

	(void)state;
	must_stage(open_and_stage(&s, SIZE));
	store_and_sync(&s, NEW);
	f = stream("we");
	fill(buf, len, 0, OTHER);
	assert_int_equal(fwrite(buf, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_reaches_memory(s.map, len, 0, OTHER);
	assert_int_equal(ftruncate(s.fd, SIZE), 0);
	assert_content(s.map, len, 0, OTHER);
	assert_memory_equal(s.map + len, zero, SIZE - len);
	end(&s);
	assert_in_file("data", 0, len, OTHER);
	assert_int_equal(tool("filetool", "zero", path_of("data"), "5000", "257144"), 0);
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(aio__write_shows_in_memory),
		TEST(aio__read_is_current_after_msync),
		TEST(aio__fsync_harms_nothing),
		TEST(uring__write_shows_in_memory),
		TEST(uring__read_is_current_after_msync),
		TEST(uring__fixed_from_its_own_file),
		TEST(uring__fixed_to_its_own_file),
		TEST(stdio__fread_is_current_after_msync),
		TEST(stdio__fwrite_shows_in_memory),
		TEST(stdio__fopen_empties_the_file),
		TEST(stdio__fopen_empties_and_memory_reads_zero),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
