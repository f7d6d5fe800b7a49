// SPDX-License-Identifier: MIT
/* Copies that the kernel makes. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <sys/sendfile.h>

static unsigned char buf[MAX_SIZE];

/* A file of the same file system, for what does not work across file systems. */
static int neighbour(void)
{
	char path[300];
	int fd;

	strcpy(path, shared->set.dir);
	strcat(path, "/neighbour");
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		wrong("cannot open %s: errno %d", path, errno);
	return fd;
}

static ssize_t through_pipe(int from, off_t from_at, int to, off_t to_at, size_t len)
{
	ssize_t in, out = -1, done;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		wrong("pipe2: errno %d", errno);
	in = splice(from, &from_at, ends[1], NULL, len < 16 * PAGE ? len : 16 * PAGE, 0);
	for (done = 0; in > 0 && done < in; done += out) {
		out = splice(ends[0], NULL, to, &to_at, (size_t)(in - done), 0);
		if (out <= 0)
			wrong("splice: %zd (errno %d)", out, errno);
	}
	close(ends[0]);
	close(ends[1]);
	return in;
}

static ssize_t copy(int from, size_t from_at, int to, size_t to_at, size_t len, unsigned how)
{
	off_t in = (off_t)from_at, out = (off_t)to_at;

	say(" by way %u, %zu to %zu, %zu bytes", how, from_at, to_at, len);
	switch (how) {
	case 0:
		return copy_file_range(from, &in, to, &out, len, 0);
	case 1:
		return through_pipe(from, in, to, out, len);
	default:
		lseek(to, out, SEEK_SET);
		return sendfile(to, from, &in, len);
	}
}

void op_copy_out(void)
{
	const unsigned how = below(3);
	int from = file_for(true, false)->fd, to = how == 0 ? neighbour() : scratch_file();
	size_t at, len;
	ssize_t got, seen;

	if (shared->size == 0)
		goto out;
	draw_range(shared->size, &at, &len);
	got = copy(from, at, to, 0, len, how);
	if (got <= 0)
		wrong("copied %zd (errno %d)", got, errno);
	seen = pread(to, buf, sizeof(buf), 0);
	if (seen != got)
		wrong("the copy has %zd bytes, not %zd", seen, got);
	must_equal("the copy", buf, at, (size_t)got);
out:
	close(to);
}

void op_copy_in(void)
{
	const unsigned how = below(3);
	int from = how == 0 ? neighbour() : scratch_file(), to = file_for(false, true)->fd;
	size_t at, len;
	ssize_t got;

	draw_range(one_in(3) || !shared->size ? MAX_SIZE : shared->size, &at, &len);
	draw_content(buf, at, len);
	if (pwrite(from, buf, len, 0) != (ssize_t)len)
		wrong("cannot write what is to be copied");
	got = copy(from, 0, to, at, len, how);
	if (got <= 0)
		wrong("copied %zd (errno %d)", got, errno);
	model_write(at, buf, (size_t)got);
	close(from);
}

void op_copy_within(void)
{
	int fd = file_for(true, true)->fd;
	size_t at, len, to;
	ssize_t got;

	if (shared->size < 2)
		return;
	draw_range(shared->size, &at, &len);
	to = below((unsigned)shared->size);
	if (to < at + len && at < to + len)
		len = to > at ? to - at : at - to;
	if (len == 0 || to + len > MAX_SIZE)
		return;
	got = copy(fd, at, fd, to, len, 0);
	if (got <= 0)
		wrong("copied %zd (errno %d)", got, errno);
	memcpy(buf, shared->content + at, (size_t)got);
	model_write(to, buf, (size_t)got);
}
