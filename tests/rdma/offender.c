// SPDX-License-Identifier: MIT
/*
 * offender FILE
 *
 * A verbs program with known call sites: map_buffer() maps FILE, register_buffer() registers it
 * as the headers of libibverbs have it, inlined, and prints what was said. The script looks the
 * lines up by their comments.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#define SIZE (256ul * 1024)

static __attribute__((noinline)) void *map_buffer(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *p = MAP_FAILED;

	if (fd < 0)
		return p;
	if (ftruncate(fd, (off_t)SIZE) == 0)
		p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); /* line: map */
	close(fd);
	return p;
}

static __attribute__((noinline)) void register_buffer(struct ibv_pd *pd, void *p)
{
	struct ibv_mr *mr =
		ibv_reg_mr(pd, p, SIZE, IBV_ACCESS_LOCAL_WRITE); /* line: register */

	puts(mr ? "registered" : strerror(errno));
	if (mr)
		ibv_dereg_mr(mr);
}

int main(int argc, char **argv)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = list && list[0] ? ibv_open_device(list[0]) : NULL;
	struct ibv_pd *pd = context ? ibv_alloc_pd(context) : NULL;
	void *p;

	if (argc != 2 || !pd)
		return 2;
	p = map_buffer(argv[1]); /* line: main_maps */
	if (p == MAP_FAILED)
		return 2;
	register_buffer(pd, p); /* line: main */
	return munmap(p, SIZE) || ibv_dealloc_pd(pd) || ibv_close_device(context);
}
