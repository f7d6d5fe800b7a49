// SPDX-License-Identifier: MIT
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* ---- faults ---- */

static sigjmp_buf guard;
static volatile sig_atomic_t guarded;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	struct map *map = map_at(info->si_addr);

	(void)context;
	if (guarded) {
		guarded = 0;
		siglongjmp(guard, sig);
	}
	if (map)
		wrong("signal %d at byte %zu of the file (size %zu), mapped with protection %d",
		      sig, map->at + (size_t)((unsigned char *)info->si_addr - map->addr),
		      shared->size, map->prot);
	wrong("signal %d at %p, where nothing is mapped", sig, info->si_addr);
}

void guard_install(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

int try_load(const volatile unsigned char *addr, unsigned char *ret_byte)
{
	int sig = sigsetjmp(guard, 1);

	if (sig == 0) {
		guarded = 1;
		*ret_byte = *addr;
	}
	guarded = 0;
	return sig;
}

int try_store(volatile unsigned char *addr, unsigned char byte)
{
	int sig = sigsetjmp(guard, 1);

	if (sig == 0) {
		guarded = 1;
		*addr = byte;
	}
	guarded = 0;
	return sig;
}

/* ---- views ---- */

void compare_maps(void)
{
	char what[64];

	for (unsigned i = 0; i < nmaps; i++) {
		size_t len = usable_len(&maps[i], true);

		if (!(maps[i].prot & PROT_READ) || len == 0)
			continue;
		snprintf(what, sizeof(what), "map %u (%p)", i, (void *)maps[i].addr);
		must_equal(what, maps[i].addr, maps[i].at, len);
	}
}

void compare_read(void)
{
	static unsigned char buf[MAX_SIZE + PAGE];
	struct file *file = file_for(true, false);
	size_t at = 0, len = sizeof(buf), want;
	ssize_t got;

	if (one_in(2))
		draw_range(MAX_SIZE, &at, &len);
	want = at < shared->size ? shared->size - at : 0;
	if (want > len)
		want = len;
	got = pread(file->fd, buf, len, (off_t)at);
	if (got != (ssize_t)want)
		wrong("pread of %zu at %zu gave %zd, not %zu (errno %d, size %zu)", len, at,
		      got, want, errno, shared->size);
	must_equal("pread", buf, at, want);
}

void compare_size(void)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file_path(), O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : (off_t)syscall(SYS_lseek, fd, 0, SEEK_END);

	if (fd >= 0)
		syscall(SYS_close, fd);
	if (size != (off_t)shared->size)
		wrong("the file's size is %lld, not %zu (errno %d)", (long long)size,
		      shared->size, errno);
}

/* Past every hook. */
ssize_t raw_pread(int fd, void *buf, size_t len, off_t at)
{
	return syscall(SYS_pread64, fd, buf, len, at);
}

void compare_raw(size_t at, size_t len, const char *after)
{
	static unsigned char buf[MAX_SIZE];
	char what[64];
	int fd;

	if (at >= shared->size)
		return;
	if (len > shared->size - at)
		len = shared->size - at;
	fd = (int)syscall(SYS_openat, AT_FDCWD, file_path(), O_RDONLY | O_CLOEXEC);
	if (fd < 0 || raw_pread(fd, buf, len, (off_t)at) != (ssize_t)len)
		wrong("cannot read %zu at %zu without the shim (errno %d)", len, at, errno);
	syscall(SYS_close, fd);
	snprintf(what, sizeof(what), "the file itself after %s", after);
	must_equal(what, buf, at, len);
}
