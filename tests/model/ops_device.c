// SPDX-License-Identifier: MIT
/* Devices: transfers of an io_uring to and from buffers that are registered on the mappings. */
#include "model.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <liburing.h>

#define RINGS	  3
#define BUFFERS	  3
#define GONE	  SIZE_MAX
#define MAX_PART  (24 * PAGE)
#define PIPE_SIZE (16 * PAGE)

/* A registered buffer. What it pins stays the file's, whatever is mapped there later. */
struct buffer {
	unsigned char *addr;
	size_t len;
	size_t page[MAX_PART / PAGE + 2];  /* offsets in the file */
	unsigned cut[MAX_PART / PAGE + 2]; /* shared->cut[] then; UINT_MAX: past the end */
	bool past_end;
};

struct ring {
	struct io_uring ring;
	bool up, sparse;
	unsigned n; /* registered buffers */
	struct buffer buffer[BUFFERS];
	bool pending; /* a transfer from a pipe, into the file from at */
	int pipe[2];
	size_t at, len;
};
static struct ring rings[RINGS];
static unsigned char buf[MAX_PART];

static size_t page_of(const struct buffer *buffer, size_t offset)
{
	size_t skip = (size_t)buffer->addr % PAGE;
	size_t i = (skip + offset) / PAGE, page = buffer->page[i];

	return buffer->cut[i] == shared->cut[page / PAGE] ? page + (skip + offset) % PAGE
							  : GONE;
}

/* ---- registering ---- */

static void ring_exit(struct ring *ring)
{
	if (!ring->up)
		return;
	if (ring->pending) {
		close(ring->pipe[0]);
		close(ring->pipe[1]);
	}
	io_uring_queue_exit(&ring->ring);
	memset(ring, 0, sizeof(*ring));
}

void rings_forget(void)
{
	memset(rings, 0, sizeof(rings));
}

void rings_exit(void)
{
	for (unsigned i = 0; i < RINGS; i++)
		ring_exit(&rings[i]);
}

static struct ring *free_ring(void)
{
	struct ring *ring = &rings[below(RINGS)];
	int ret;

	ring_exit(ring);
	ret = io_uring_queue_init(8, &ring->ring, 0);
	if (ret < 0)
		wrong("io_uring_queue_init: %d", ret);
	ring->up = true;
	return ring;
}

/* A range to register, mostly one that can be; *ret_may: whether it can, where pins are
 * allowed. */
static bool draw_buffer(struct iovec *iov, struct buffer *buffer, bool *ret_may)
{
	struct map *map = usable_map(true), *here;
	size_t at, len;

	if (!map)
		return false;
	draw_range(one_in(12) ? map->len : usable_len(map, true), &at, &len);
	if (one_in(2)) {
		len += at % PAGE;
		at -= at % PAGE;
		len = (len + PAGE - 1) & ~(PAGE - 1);
	}
	if (len > MAX_PART)
		len = MAX_PART;
	memset(buffer, 0, sizeof(*buffer));
	buffer->addr = map->addr + at;
	buffer->len = len;
	*ret_may = true;
	for (size_t i = 0; i * PAGE < at % PAGE + len; i++) {
		here = map_at(map->addr + at / PAGE * PAGE + i * PAGE);
		if (!here || !(here->prot & PROT_WRITE)) {
			*ret_may = false;
			break;
		}
		buffer->page[i] = here->at + (size_t)(map->addr + at / PAGE * PAGE + i * PAGE -
						      here->addr);
		if (buffer->page[i] >= page_end()) {
			*ret_may = false;
			buffer->past_end = true;
			buffer->page[i] = 0;
			buffer->cut[i] = UINT_MAX;
			continue;
		}
		buffer->cut[i] = shared->cut[buffer->page[i] / PAGE];
	}
	iov->iov_base = buffer->addr;
	iov->iov_len = len;
	say(" map %u %zu+%zu%s", (unsigned)(map - maps), map->at + at, len,
	    *ret_may ? "" : " (cannot)");
	return true;
}

static void registered(struct ring *ring, int ret, unsigned n, bool may)
{
	const bool must = may && !shared->set.refuses;
	bool can = may && (shared->set.shim || !shared->set.refuses);

	say(" gives %d", ret);
	/* Pages that were cut off while they were pinned, and still are, can be pinned again.
	 */
	for (unsigned b = 0; ret == 0 && shared->set.shim && b < ring->n + n; b++)
		can = can || ring->buffer[b].past_end;
	if ((ret != 0 && ret != -EFAULT) || (ret == 0 && !can) || (ret != 0 && must))
		wrong("registering gave %d, where it %s work", ret, can ? "can" : "cannot");
	if (ret < 0) {
		shared->refused += can;
		return;
	}
	shared->staged++;
	ring->n += n;
	for (unsigned b = 0; b < ring->n; b++) {
		struct buffer *buffer = &ring->buffer[b];

		for (size_t i = 0; i * PAGE < (size_t)buffer->addr % PAGE + buffer->len; i++) {
			model_allocated(buffer->page[i], PAGE);
		}
	}
}

void op_register(void)
{
	struct ring *ring = &rings[below(RINGS)];
	struct iovec iov[BUFFERS];
	unsigned n, want = one_in(2) ? 1 : 1 + below(BUFFERS);
	bool may = true, one;
	__u64 tag = 0;

	/* Into a table that is there already, or all at once into a new ring. */
	if (ring->up && ring->sparse && ring->n < BUFFERS && !ring->pending) {
		say(" update ring %u", (unsigned)(ring - rings));
		if (!draw_buffer(iov, &ring->buffer[ring->n], &may))
			return;
		int ret = io_uring_register_buffers_update_tag(&ring->ring, ring->n, iov, &tag,
							       1);

		registered(ring, ret == 1 ? 0 : ret, 1, may);
		return;
	}
	ring = free_ring();
	say(" ring %u", (unsigned)(ring - rings));
	if (one_in(3)) {
		ring->sparse = true;
		say(" (sparse)");
		if (io_uring_register_buffers_sparse(&ring->ring, BUFFERS) < 0)
			wrong("cannot register a sparse table");
		return;
	}
	for (n = 0; n < want; n++) {
		if (!draw_buffer(&iov[n], &ring->buffer[n], &one))
			return;
		may = may && one;
	}
	registered(ring, io_uring_register_buffers(&ring->ring, iov, n), n, may);
}

void op_unregister(void)
{
	struct ring *ring = &rings[below(RINGS)];

	if (!ring->up)
		return;
	say(" ring %u%s", (unsigned)(ring - rings), ring->pending ? " under a transfer" : "");
	if (one_in(3)) {
		ring_exit(ring);
		return;
	}
	if (ring->n && io_uring_unregister_buffers(&ring->ring) < 0)
		wrong("cannot unregister");
	/* A transfer that is under way goes on. */
	if (ring->n)
		ring->sparse = false;
	ring->n = 0;
	if (!ring->pending)
		ring_exit(ring);
}

/* ---- transfers ---- */

static int reap(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	int ret;

	do {
		ret = io_uring_wait_cqe(&ring->ring, &cqe);
	} while (ret == -EINTR);
	if (ret < 0)
		wrong("io_uring_wait_cqe: %d", ret);
	ret = cqe->res;
	io_uring_cqe_seen(&ring->ring, cqe);
	return ret;
}

static struct io_uring_sqe *next_sqe(struct ring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

	if (!sqe)
		wrong("no sqe");
	return sqe;
}

/* A part of a buffer whose pages are all the file's, before its end, and are contiguous there.
 */
static struct ring *draw_part(unsigned *ret_index, unsigned char **ret_addr, size_t *ret_at,
			      size_t *ret_len, size_t limit)
{
	struct ring *ring = NULL;
	struct buffer *buffer;
	unsigned first = below(RINGS);
	size_t from, len, at, end;

	for (unsigned i = 0; i < RINGS && !ring; i++) {
		ring = &rings[(first + i) % RINGS];
		if (!ring->n || ring->pending)
			ring = NULL;
	}
	if (!ring)
		return NULL;
	*ret_index = below(ring->n);
	buffer = &ring->buffer[*ret_index];
	draw_range(buffer->len, &from, &len);
	at = page_of(buffer, from);
	if (at == GONE || at >= shared->size)
		return NULL;
	if (len > limit)
		len = limit;
	if (len > shared->size - at)
		len = shared->size - at;
	/* Up to the first page that is elsewhere. */
	for (end = PAGE - at % PAGE; end < len; end += PAGE) {
		if (page_of(buffer, from + end) != at + end)
			break;
	}
	*ret_at = at;
	*ret_addr = buffer->addr + from;
	*ret_len = len < end ? len : end;
	say(" ring %u buffer %u %zu+%zu", (unsigned)(ring - rings), *ret_index, at, *ret_len);
	return ring;
}

void op_device_read(void)
{
	unsigned char *addr;
	struct ring *ring;
	unsigned index;
	size_t at, len;
	int fd, ret;

	ring = draw_part(&index, &addr, &at, &len, MAX_PART);
	if (!ring)
		return;
	fd = scratch_file();
	draw_content(buf, at, len);
	if (pwrite(fd, buf, len, 0) != (ssize_t)len)
		wrong("cannot write what is to be read");
	io_uring_prep_read_fixed(next_sqe(ring), fd, addr, (unsigned)len, 0, (int)index);
	io_uring_submit(&ring->ring);
	ret = reap(ring);
	if (ret != (int)len)
		wrong("the device read %d, not %zu", ret, len);
	close(fd);
	model_write(at, buf, len);
	shared->transfers++;
}

void op_device_write(void)
{
	unsigned char *addr;
	struct ring *ring;
	unsigned index;
	size_t at, len;
	int fd, ret;

	ring = draw_part(&index, &addr, &at, &len, MAX_PART);
	if (!ring)
		return;
	fd = scratch_file();
	io_uring_prep_write_fixed(next_sqe(ring), fd, addr, (unsigned)len, 0, (int)index);
	io_uring_submit(&ring->ring);
	ret = reap(ring);
	if (ret != (int)len || pread(fd, buf, len, 0) != (ssize_t)len)
		wrong("the device wrote %d, not %zu", ret, len);
	must_equal("what the device wrote", buf, at, len);
	close(fd);
	shared->transfers++;
}

/* A transfer that waits for its data, while other things happen. */
void op_device_begin(void)
{
	unsigned char *addr;
	struct ring *ring;
	unsigned index;
	size_t at, len;

	ring = draw_part(&index, &addr, &at, &len, PIPE_SIZE);
	if (!ring)
		return;
	if (pipe2(ring->pipe, O_CLOEXEC) < 0)
		wrong("pipe2: errno %d", errno);
	io_uring_prep_read_fixed(next_sqe(ring), ring->pipe[0], addr, (unsigned)len, 0,
				 (int)index);
	io_uring_submit(&ring->ring);
	ring->pending = true;
	ring->at = at;
	ring->len = len;
}

static void complete(struct ring *ring)
{
	int ret;

	say(" [ring %u completes %zu+%zu]", (unsigned)(ring - rings), ring->at, ring->len);
	draw_content(buf, ring->at, ring->len);
	if (write(ring->pipe[1], buf, ring->len) != (ssize_t)ring->len)
		wrong("cannot write what is to be read");
	ret = reap(ring);
	if (ret != (int)ring->len)
		wrong("the device read %d at last, not %zu", ret, ring->len);
	close(ring->pipe[0]);
	close(ring->pipe[1]);
	ring->pending = false;
	model_write(ring->at, buf, ring->len);
	shared->late_transfers++;
}

void op_device_end(void)
{
	struct ring *ring = &rings[below(RINGS)];

	if (ring->pending)
		complete(ring);
}

bool transfers_pending(void)
{
	for (unsigned r = 0; r < RINGS; r++) {
		if (rings[r].pending)
			return true;
	}
	return false;
}

bool may_cut(size_t at, size_t len)
{
	bool forbidden = shared->cut_forbidden;

	for (unsigned i = 0; i < PROGRAMS; i++)
		forbidden = forbidden || (i != program && shared->pending[i]);
	if (forbidden) {
		say(" [not now]");
		return false;
	}
	for (unsigned r = 0; r < RINGS; r++) {
		/* Whole pages: what is beside the range in its pages goes with it. */
		if (rings[r].pending && rings[r].at + rings[r].len + PAGE > at &&
		    rings[r].at < at + len + PAGE)
			complete(&rings[r]);
	}
	for (size_t page = at / PAGE; page < MAX_PAGES && page * PAGE < at + len; page++)
		shared->cut[page]++;
	return true;
}
