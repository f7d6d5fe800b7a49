/* SPDX-License-Identifier: MIT */
#include "lib/inflight.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/real.h"

#define PATIENCE_MS 10000 /* a write of gigabytes to a slow disk may take that long */

/* Places are never given back to the system: whoever looks through them needs no lock. */
struct chunk {
	struct inflight place[63];
	_Atomic(struct chunk *) next;
};

__thread struct inflight *inflight_mine __attribute__((tls_model("initial-exec")));

#define PLACES(n)                                          \
	{                                                  \
		[0 ...(n) - 1] = {.fd = INFLIGHT_NOTHING } \
	}
static struct chunk first = { .place = PLACES(ARRAY_SIZE(first.place)) };
static struct inflight homeless; /* of threads for which there is no memory: not waited for */
static pthread_key_t at_thread_end;
static bool have_key;

static void give_back(void *place)
{
	struct inflight *i = place;

	inflight_mine = NULL;
	atomic_store(&i->fd, INFLIGHT_NOTHING);
	atomic_store(&i->taken, false);
}

/* What ran before was without a place. */
void inflight_start(void)
{
	inflight_mine = NULL;
	have_key = pthread_key_create(&at_thread_end, give_back) == 0;
}

static struct inflight *take(struct chunk *c)
{
	for (size_t n = 0; n < ARRAY_SIZE(c->place); n++) {
		struct inflight *i = &c->place[n];

		if (!atomic_load_explicit(&i->taken, memory_order_relaxed) &&
		    !atomic_exchange(&i->taken, true))
			return i;
	}
	return NULL;
}

static struct chunk *append(struct chunk *last)
{
	struct chunk *none = NULL, *c;

	c = real.mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (c == MAP_FAILED)
		return NULL;
	for (size_t n = 0; n < ARRAY_SIZE(c->place); n++)
		atomic_init(&c->place[n].fd, INFLIGHT_NOTHING);
	if (atomic_compare_exchange_strong(&last->next, &none, c))
		return c;
	real.munmap(c, sizeof(*c));
	return none;
}

struct inflight *inflight_join(void)
{
	struct inflight *i = NULL;
	struct chunk *c, *next;
	int saved = errno;

	for (c = have_key ? &first : NULL; c && !i; c = next) {
		i = take(c);
		next = atomic_load(&c->next);
		if (!i && !next)
			next = append(c);
	}
	if (i && pthread_setspecific(at_thread_end, i)) {
		atomic_store(&i->taken, false);
		i = NULL;
	}
	inflight_mine = i ? i : &homeless;
	errno = saved;
	return inflight_mine;
}

void inflight_after_fork(void)
{
	for (struct chunk *c = &first; c; c = atomic_load(&c->next))
		for (size_t n = 0; n < ARRAY_SIZE(c->place); n++)
			if (&c->place[n] != inflight_mine) {
				atomic_store(&c->place[n].fd, INFLIGHT_NOTHING);
				atomic_store(&c->place[n].taken, false);
			}
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000 * 1000 }, NULL);
}

/* Every other thread has stored what it had begun to, and will read what we have stored. Where
 * a seccomp filter forbids to ask for that, no processor keeps a store back for so long. */
static void barrier_everywhere(void)
{
	const long how = MEMBARRIER_CMD_PRIVATE_EXPEDITED;
	const long begin = MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;

	atomic_thread_fence(memory_order_seq_cst);
	if (arch_syscall(SYS_membarrier, begin, 0, 0, 0, 0, 0) < 0 ||
	    arch_syscall(SYS_membarrier, how, 0, 0, 0, 0, 0) < 0)
		pause_ms(1);
}

static bool is_about(const struct inflight *i, struct inode_key key)
{
	const int fd = atomic_load_explicit(&i->fd, memory_order_acquire);
	struct stat st;

	return fd != INFLIGHT_NOTHING && fstat(fd, &st) == 0 && st.st_dev == key.dev &&
	       st.st_ino == key.ino;
}

bool inflight_wait(struct inode_key key)
{
	long waited = 0;

	barrier_everywhere();
	for (struct chunk *c = &first; c; c = atomic_load(&c->next))
		for (size_t n = 0; n < ARRAY_SIZE(c->place); n++) {
			const struct inflight *i = &c->place[n];

			while (i != inflight_mine && is_about(i, key)) {
				if (waited++ >= PATIENCE_MS)
					return false;
				pause_ms(1);
			}
		}
	return true;
}
