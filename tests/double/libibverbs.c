// SPDX-License-Identifier: MIT
/* See double.h. Functions call each other by their exported names, as in the original. */
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/arch.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define WRITES                                                                         \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC | \
	 IBV_ACCESS_MW_BIND)

struct double_mr {
	struct ibv_mr mr;
	struct double_mr *next; /* of the device */
	unsigned access;
	enum { NO_PIN, BY_RING, BY_PIPE, UNPINNED } pin;
	struct io_uring ring;
	int pipe[2];
};

struct double_context {
	struct ibv_context context;
	struct double_mr *mrs;
};

static struct ibv_device device;
static int fail_err;
static unsigned fail_times, registrations, last_access;
static uint64_t last_iova;
static void (*before)(void);

void double_fail(int err, unsigned times)
{
	fail_err = err;
	fail_times = times;
}

void double_before(void (*call)(void))
{
	before = call;
}

unsigned double_registrations(void)
{
	return registrations;
}

unsigned double_last_access(void)
{
	return last_access;
}

uint64_t double_last_iova(void)
{
	return last_iova;
}

static const char *old_kernel(void)
{
	return getenv("DOUBLE_KERNEL");
}

int uname(struct utsname *u)
{
	int ret = (int)syscall(SYS_uname, u);

	if (ret == 0 && old_kernel())
		strncpy(u->release, old_kernel(), sizeof(u->release) - 1);
	return ret;
}

/* ---- devices ---- */

#undef ibv_get_device_list
struct ibv_device **ibv_get_device_list(int *n)
{
	struct ibv_device **list = calloc(2, sizeof(*list));

	if (list)
		list[0] = &device;
	if (n)
		*n = list ? 1 : 0;
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

struct ibv_context *ibv_open_device(struct ibv_device *dev)
{
	struct double_context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->context.device = dev;
	return &c->context;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	if (pd)
		pd->context = context;
	return pd;
}

/* What still uses it keeps it, as in the kernel. */
int ibv_dealloc_pd(struct ibv_pd *pd)
{
	struct double_context *c = (struct double_context *)pd->context;

	for (struct double_mr *m = c->mrs; m; m = m->next)
		if (m->mr.pd == pd)
			return EBUSY;
	free(pd);
	return 0;
}

/* ---- pins ---- */

static int pin_by_ring(struct double_mr *m, void *addr, size_t len)
{
	struct iovec iov = { addr, len };
	int ret = io_uring_queue_init(1, &m->ring, 0);

	if (ret < 0)
		return ret;
	/* Not by any function: what is under test here is verbs. */
	ret = (int)arch_syscall(SYS_io_uring_register, m->ring.ring_fd, IORING_REGISTER_BUFFERS,
				(long)&iov, 1, 0, 0);
	if (ret < 0) {
		io_uring_queue_exit(&m->ring);
		return ret;
	}
	m->pin = BY_RING;
	return 0;
}

static int pin_by_pipe(struct double_mr *m, void *addr, size_t len)
{
	struct iovec iov = { addr, len };
	ssize_t n;

	if (pipe2(m->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	(void)fcntl(m->pipe[1], F_SETPIPE_SZ, 1 << 20);
	n = vmsplice(m->pipe[1], &iov, 1, SPLICE_F_NONBLOCK);
	if (n == (ssize_t)len) {
		m->pin = BY_PIPE;
		return 0;
	}
	n = n < 0 ? -errno : -ENOMEM;
	close(m->pipe[0]);
	close(m->pipe[1]);
	return (int)n;
}

static int pin(struct double_mr *m, void *addr, size_t len, unsigned access)
{
	int ret;

	m->pin = NO_PIN;
	if (access & IBV_ACCESS_ON_DEMAND) {
		m->pin = UNPINNED;
		return 0;
	}
	if (len == 0)
		return -EINVAL;
	if (!(access & WRITES))
		return pin_by_pipe(m, addr, len);
	ret = pin_by_ring(m, addr, len);
	if (ret == -EFAULT && old_kernel() && pin_by_pipe(m, addr, len) == 0) {
		/* No device of ours can write there: the processor has to. */
		close(m->pipe[0]);
		close(m->pipe[1]);
		m->pin = UNPINNED;
		ret = 0;
	}
	return ret;
}

static void unpin(struct double_mr *m)
{
	if (m->pin == BY_RING)
		io_uring_queue_exit(&m->ring);
	if (m->pin == BY_PIPE) {
		close(m->pipe[0]);
		close(m->pipe[1]);
	}
	m->pin = NO_PIN;
}

/* Moves bytes between a memfd and the fixed buffer. */
static int through_ring(struct double_mr *m, int fd, size_t offset, size_t len, bool in)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&m->ring);
	struct io_uring_cqe *cqe;
	char *at = (char *)m->mr.addr + offset;
	int ret;

	if (in)
		io_uring_prep_read_fixed(sqe, fd, at, (unsigned)len, 0, 0);
	else
		io_uring_prep_write_fixed(sqe, fd, at, (unsigned)len, 0, 0);
	ret = io_uring_submit(&m->ring);
	if (ret == 1)
		ret = io_uring_wait_cqe(&m->ring, &cqe);
	if (ret < 0)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&m->ring, cqe);
	return ret == (int)len ? 0 : ret < 0 ? ret : -EIO;
}

int double_write(struct ibv_mr *mr, size_t offset, const void *from, size_t len)
{
	struct double_mr *m = (struct double_mr *)mr;
	int fd, ret = -EIO;

	if (!(m->access & WRITES) || m->pin == BY_PIPE || m->pin == NO_PIN)
		return -EACCES;
	if (m->pin == UNPINNED) {
		memcpy((char *)mr->addr + offset, from, len);
		return 0;
	}
	fd = memfd_create("wire", MFD_CLOEXEC);
	if (pwrite(fd, from, len, 0) == (ssize_t)len)
		ret = through_ring(m, fd, offset, len, true);
	close(fd);
	return ret;
}

/* The pages that the pipe holds, whatever is mapped there now. */
static int read_pipe(struct double_mr *m, size_t offset, char *to, size_t len)
{
	size_t skip = offset, want = len;
	char buf[4096] = "";
	int copy[2];
	ssize_t n;

	if (pipe2(copy, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	(void)fcntl(copy[1], F_SETPIPE_SZ, 1 << 20);
	if (tee(m->pipe[0], copy[1], m->mr.length, SPLICE_F_NONBLOCK) < 0)
		want = SIZE_MAX;
	while (want && want != SIZE_MAX) {
		n = read(copy[0], skip ? buf : to,
			 skip ? (skip < sizeof(buf) ? skip : sizeof(buf)) : want);
		if (n <= 0)
			break;
		if (skip) {
			skip -= (size_t)n;
		} else {
			to += n;
			want -= (size_t)n;
		}
	}
	close(copy[0]);
	close(copy[1]);
	return want ? -EIO : 0;
}

int double_read(struct ibv_mr *mr, size_t offset, void *to, size_t len)
{
	struct double_mr *m = (struct double_mr *)mr;
	int fd, ret;

	if (m->pin == NO_PIN)
		return -EACCES;
	if (m->pin == BY_PIPE)
		return read_pipe(m, offset, to, len);
	if (m->pin == UNPINNED) {
		memcpy(to, (char *)mr->addr + offset, len);
		return 0;
	}
	fd = memfd_create("wire", MFD_CLOEXEC);
	ret = through_ring(m, fd, offset, len, false);
	if (ret == 0 && pread(fd, to, len, 0) != (ssize_t)len)
		ret = -EIO;
	close(fd);
	return ret;
}

/* ---- registration ---- */

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	struct double_context *c = (struct double_context *)pd->context;
	struct double_mr *m = calloc(1, sizeof(*m));
	int ret;

	registrations++;
	last_access = access;
	last_iova = iova;
	if (!m)
		return NULL;
	if (before)
		before();
	ret = pin(m, addr, length, access & ~(unsigned)IBV_ACCESS_OPTIONAL_RANGE);
	if (ret == 0 && fail_times) {
		fail_times--;
		unpin(m);
		ret = -fail_err;
	}
	if (ret < 0) {
		free(m);
		errno = -ret;
		return NULL;
	}
	m->mr.context = pd->context;
	m->mr.pd = pd;
	m->mr.addr = addr;
	m->mr.length = length;
	m->access = access;
	m->next = c->mrs;
	c->mrs = m;
	return &m->mr;
}

struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access);
struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, (unsigned)access);
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, iova, (unsigned)access);
}

struct ibv_mr *ibv_reg_mr_ex(struct ibv_pd *pd, struct ibv_mr_init_attr *attr)
{
	struct double_mr_attr *a = (struct double_mr_attr *)attr;

	if (!(a->comp_mask & DOUBLE_MASK_ADDR) || (a->comp_mask & DOUBLE_MASK_FD)) {
		registrations++;
		errno = EOPNOTSUPP;
		return NULL;
	}
	return ibv_reg_mr_iova2(pd, a->addr, a->length,
				a->comp_mask & DOUBLE_MASK_IOVA ? a->iova : (uintptr_t)a->addr,
				(unsigned)a->access);
}

/* As a driver that lets go of the old pages before it has the new ones. New access flags alone
 * are taken without a look at the pin, as Soft-RoCE does. */
int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		 int access)
{
	struct double_mr *m = (struct double_mr *)mr;
	int ret;

	if (flags & ~IBV_REREG_MR_FLAGS_SUPPORTED ||
	    ((flags & IBV_REREG_MR_CHANGE_TRANSLATION) && (!addr || !length)) ||
	    (access && !(flags & IBV_REREG_MR_CHANGE_ACCESS))) {
		errno = EINVAL;
		return IBV_REREG_MR_ERR_INPUT;
	}
	if (flags & IBV_REREG_MR_CHANGE_ACCESS)
		m->access = (unsigned)access;
	if (flags & IBV_REREG_MR_CHANGE_PD)
		mr->pd = pd;
	if (!(flags & IBV_REREG_MR_CHANGE_TRANSLATION))
		return 0;
	unpin(m);
	ret = pin(m, addr, length, m->access);
	if (ret < 0) {
		errno = -ret;
		return IBV_REREG_MR_ERR_CMD;
	}
	mr->addr = addr;
	mr->length = length;
	return 0;
}

int dereg_mr(struct ibv_mr *mr);
int dereg_mr(struct ibv_mr *mr)
{
	struct double_context *c = (struct double_context *)mr->context;
	struct double_mr *m = (struct double_mr *)mr, **at = &c->mrs;

	if (fail_times) {
		fail_times--;
		return fail_err;
	}
	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	unpin(m);
	free(m);
	return 0;
}

int ibv_close_device(struct ibv_context *context)
{
	struct double_context *c = (struct double_context *)context;
	struct double_mr *m;

	while ((m = c->mrs)) {
		c->mrs = m->next;
		unpin(m);
		free(m);
	}
	free(c);
	return 0;
}

/* ---- the older ABI ---- */

struct double_old_mr *old_reg_mr(struct double_old_pd *pd, void *addr, size_t length,
				 int access);
int old_dereg_mr(struct double_old_mr *mr);

struct double_old_mr *old_reg_mr(struct double_old_pd *pd, void *addr, size_t length,
				 int access)
{
	struct double_old_mr *mr = calloc(1, sizeof(*mr));

	if (!mr)
		return NULL;
	mr->pd = pd;
	mr->real_mr =
		ibv_reg_mr_iova2(pd->real_pd, addr, length, (uintptr_t)addr, (unsigned)access);
	if (!mr->real_mr) {
		free(mr);
		return NULL;
	}
	return mr;
}

int old_dereg_mr(struct double_old_mr *mr)
{
	int ret = ibv_dereg_mr(mr->real_mr);

	if (ret == 0)
		free(mr);
	return ret;
}

__asm__(".symver reg_mr, ibv_reg_mr@@IBVERBS_1.1");
__asm__(".symver dereg_mr, ibv_dereg_mr@@IBVERBS_1.1");
__asm__(".symver old_reg_mr, ibv_reg_mr@IBVERBS_1.0");
__asm__(".symver old_dereg_mr, ibv_dereg_mr@IBVERBS_1.0");
