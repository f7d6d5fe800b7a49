// SPDX-License-Identifier: MIT
/*
 * arrives HOW SOCKET FILE SLOW
 *
 * Direct I/O was under way into a page of FILE, by a mapping that is gone since, when a client
 * began to fill a segment with the beginning of FILE. It comes to an end when the page has been
 * copied. Before the segment comes into force, something for the rest of FILE has the page on
 * the disk, from where on it is clean, and held by nobody:
 *
 *   flush  another client has the rest staged, and wants that on the device
 *   clean  or begins to fill a segment with it, and had a curtain over all of FILE
 *   wait   or is done with that, and direct I/O is under way there, too: it is waited for
 *   merge  or has it staged, and somebody without pinstage stores to it through a mapping: to
 *          a page that is in one folio with the other one
 *
 * Exit status 0 if what has arrived is in memory and file when the segment is in force. 77: the
 * direct I/O, which is from a FUSE file system on SLOW, cannot be had here.
 */
#include "client.h"

#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#define PAGE	  4096ul
#define PAGES	  256 /* of FILE */
#define FILLED	  130 /* of them: a folio reaches beyond */
#define LANDS	  129 /* here, */
#define LANDS_TOO 200 /* and here, if at all */
#define PATIENCE  200 /* ms */

static enum how { FLUSH, CLEAN, WAIT, MERGE, HOWS } how;
static const char *const hows[] = { "flush", "clean", "wait", "merge" };
static const char *keeper;
static struct client_file whole, beginning, rest;
static unsigned char *map; /* of all of it */
static unsigned char expected[PAGES * PAGE];

/*
 * ---- the slow device: one file, each read of which is answered when we say so ----
 *
 * By a process of its own that ends with us, and the only one that has the connection: without
 * it, reads that were not answered fail, and we can end.
 */

static int device, orders[2];
static _Atomic(uint64_t) *asked; /* by which request, for what is to land in that page */

static void answer(uint64_t unique, int err, const void *content, size_t len)
{
	struct fuse_out_header h = { .len = (uint32_t)(sizeof(h) + len),
				     .error = err,
				     .unique = unique };
	const struct iovec v[] = { { &h, sizeof(h) }, { (void *)(uintptr_t)content, len } };

	client_must(writev(device, v, len ? 2 : 1) < 0 && errno != ENOENT ? errno : 0, "FUSE");
}

static void serve_one(const struct fuse_in_header *h, const void *arg)
{
	const struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
					    .minor = 31,
					    .max_write = PAGE };
	const struct fuse_attr_out attr = {
		.attr = { .ino = 1, .mode = S_IFREG | 0600, .nlink = 1, .size = PAGES * PAGE }
	};
	const struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	const struct fuse_read_in *in = arg;

	switch (h->opcode) {
	case FUSE_INIT:
		answer(h->unique, 0, &init, sizeof(init));
		break;
	case FUSE_GETATTR:
		answer(h->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		answer(h->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		asked[in->offset / PAGE] = h->unique;
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(h->unique, -ENOSYS, NULL, 0);
	}
}

static void fill_page(unsigned char *to, size_t page)
{
	fill(to, PAGE, page * PAGE, DEVICE);
}

static void serve(void)
{
	static union {
		struct fuse_in_header h;
		char bytes[FUSE_MIN_READ_BUFFER + PAGE];
	} in;
	struct pollfd p[] = { { .fd = device, .events = POLLIN },
			      { .fd = orders[0], .events = POLLIN } };
	unsigned char content[PAGE];
	size_t page;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(orders[1]);
	while (poll(p, 2, -1) > 0 && !(p[0].revents & POLLERR) && !(p[1].revents & POLLHUP)) {
		if (p[0].revents & POLLIN && read(device, &in, sizeof(in)) > 0)
			serve_one(&in.h, in.bytes + sizeof(in.h));
		if (p[1].revents & POLLIN && read(orders[0], &page, sizeof(page)) > 0) {
			fill_page(content, page);
			answer(asked[page], 0, content, PAGE);
		}
	}
	_exit(0);
}

/* Its descriptor. */
static int start_device(const char *slow)
{
	char options[128];
	int fd;

	asked = mmap(NULL, PAGES * sizeof(*asked), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=0,group_id=0", device,
		 S_IFREG);
	if (device < 0 || mount("slow", slow, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		printf("SKIP: cannot: this kernel has no FUSE (%s)\n", strerror(errno));
		exit(77);
	}
	client_must(asked == MAP_FAILED || pipe2(orders, O_CLOEXEC) < 0 ? errno : 0, "pipe");
	if (fork() == 0)
		serve();
	close(device);
	close(orders[0]);
	fd = open(slow, O_RDONLY | O_CLOEXEC);
	client_must(fd < 0 ? errno : 0, slow);
	return fd;
}

/* ---- direct I/O from it ---- */

struct arrival {
	pthread_t thread;
	size_t page;
	int slow;
	ssize_t got;
};

static void *read_slowly(void *arg)
{
	struct arrival *a = arg;
	const size_t at = a->page * PAGE;

	a->got = pread(a->slow, map + at, PAGE, (off_t)at);
	return NULL;
}

static bool is_under_way(void *arg)
{
	return asked[((struct arrival *)arg)->page] != 0;
}

static void begins(struct arrival *a, int slow, size_t page)
{
	a->slow = slow;
	a->page = page;
	client_must(pthread_create(&a->thread, NULL, read_slowly, a), "pthread_create");
	client_must(poll_until(is_under_way, a, 20000) ? 0 : ETIME, "direct I/O");
}

static void arrives(struct arrival *a)
{
	fill_page(expected + a->page * PAGE, a->page);
	client_must(write(orders[1], &a->page, sizeof(a->page)) < 0 ? errno : 0, "order");
	client_must(pthread_join(a->thread, NULL), "pthread_join");
	client_must(a->got == (ssize_t)PAGE ? 0 : EIO, "what arrives");
}

/* ---- the clients ---- */

struct filling {
	int sock, fds[PROTO_FDS];
	uint64_t id;
	const struct client_file *part;
};

static void stage(struct filling *g, int sock, const struct client_file *part)
{
	*g = (struct filling){ .sock = sock, .part = part };
	client_must(client_take(sock, MSG_STAGE, part, &g->id, g->fds), "STAGE");
}

static void copy(const struct filling *g)
{
	static unsigned char content[PAGES * PAGE];
	const ssize_t len = (ssize_t)g->part->size;

	client_must(pread(g->part->fd, content, (size_t)len, (off_t)g->part->off) == len ? 0
											 : EIO,
		    "read");
	client_must(pwrite(g->fds[0], content, (size_t)len, 0) == len ? 0 : EIO, "copy");
}

/* Or COMMIT; `window`: of which nobody can reach the pages. */
static int clean(const struct filling *g, enum msg_type type, const struct client_file *window)
{
	struct msg m;

	client_prepare(&m, type, window, g->id);
	m.arg[0] = PATIENCE;
	return client_ask(g->sock, &m, NULL, 0, NULL);
}

/* As far as COMMIT. */
static void fill_rest(struct filling *other, int sock)
{
	stage(other, sock, &rest);
	client_must(clean(other, MSG_CLEAN, &rest), "CLEAN of the rest");
	copy(other);
}

static void stage_rest(struct filling *other, int sock)
{
	fill_rest(other, sock);
	client_must(clean(other, MSG_COMMIT, &whole), "COMMIT of the rest");
}

static void is_whole(const char *what, int fd)
{
	static unsigned char content[FILLED * PAGE];
	const unsigned char *is = content;

	client_must(pread(fd, content, sizeof(content), 0) == (ssize_t)sizeof(content) ? 0
										       : EIO,
		    "read");
	for (size_t i = 0; i < sizeof(content); i++)
		if (is[i] != expected[i]) {
			printf("%s has not what has arrived, or should not, at %zu\n", what, i);
			exit(1);
		}
}

static void *map_all(void)
{
	void *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, whole.fd, 0);

	client_must(p == MAP_FAILED ? errno : 0, "mmap");
	return p;
}

/* Page by page: so the kernel reads ahead, in ever larger folios. */
static void read_all(void)
{
	char page[PAGE];

	for (size_t i = 0; i < PAGES; i++)
		client_must(pread(whole.fd, page, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE
				    ? 0
				    : EIO,
			    "read");
}

static void flushes(const struct filling *other)
{
	struct msg m;

	client_prepare(&m, MSG_SYNC, &rest, 0);
	m.flags = SYNC_DURABLE;
	client_must(client_ask(other->sock, &m, NULL, 0, NULL), "SYNC");
}

static bool merged(void *arg)
{
	const struct filling *other = arg;
	unsigned char c;

	return pread(other->fds[0], &c, 1, 0) == 1 && c != expected[rest.off];
}

static void somebody_stores(struct filling *other)
{
	map = map_all();
	map[rest.off] ^= 0xff;
	client_must(poll_until(merged, other, 20000) ? 0 : ETIME,
		    "what is stored does not come");
	client_must(munmap(map, PAGES * PAGE) ? errno : 0, "munmap");
}

int main(int argc, char **argv)
{
	struct arrival first = { 0 }, second = { 0 };
	struct filling g, other;
	int sock, slow;

	if (argc != 5)
		return 2;
	while (strcmp(hows[how], argv[1]))
		if (++how == HOWS)
			return 2;
	keeper = argv[2];
	client_must(client_open(&whole, argv[3]), argv[3]);
	client_must(whole.size != PAGES * PAGE ? EINVAL : 0, "the size of FILE");
	beginning = rest = whole;
	beginning.size = FILLED * PAGE;
	rest.off = beginning.size;
	rest.size = whole.size - rest.off;
	fill(expected, whole.size, 0, OLD);
	slow = start_device(argv[4]);
	client_must(fdatasync(whole.fd) ? errno : 0, "fdatasync");
	client_must(posix_fadvise(whole.fd, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");

	sock = client_must_become(keeper, 2, how == MERGE ? 10 : 60000, NULL);
	if (how == MERGE) {
		stage_rest(&other, sock);
		read_all();
	}
	map = map_all();
	begins(&first, slow, LANDS);
	if (how == WAIT)
		begins(&second, slow, LANDS_TOO);
	client_must(munmap(map, PAGES * PAGE) ? errno : 0, "munmap");
	if (how == FLUSH)
		stage_rest(&other, sock);
	if (how == WAIT)
		fill_rest(&other, sock);

	stage(&g, client_must_become(keeper, 1, 60000, NULL), &beginning);
	client_must(clean(&g, MSG_CLEAN, &beginning), "CLEAN");
	copy(&g);
	arrives(&first);
	switch (how) {
	case FLUSH:
		flushes(&other);
		break;
	case CLEAN:
		stage(&other, sock, &rest);
		client_must(clean(&other, MSG_CLEAN, &whole), "CLEAN of the rest");
		break;
	case WAIT:
		client_must(clean(&other, MSG_COMMIT, &whole) == -EBUSY ? 0 : EPROTO,
			    "COMMIT of the rest");
		break;
	default:
		somebody_stores(&other);
	}
	client_must(clean(&g, MSG_COMMIT, &beginning), "COMMIT");
	is_whole("memory", g.fds[0]);
	is_whole("the file", whole.fd);
	if (how == WAIT)
		arrives(&second);
	return 0;
}
