// SPDX-License-Identifier: MIT
/*
 * dax FILE
 *
 * Registers a mapping of FILE, for reading only and for writing; stores; unmaps. The exit
 * status is the errno of a registration.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#define SIZE (256 * 1024)

int main(int argc, char **argv)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context;
	struct ibv_mr *reader, *writer;
	struct ibv_pd *pd;
	char *map;
	int fd;

	if (argc != 2 || !list || !list[0])
		return 1;
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return 1;
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	context = ibv_open_device(list[0]);
	pd = context ? ibv_alloc_pd(context) : NULL;
	if (map == MAP_FAILED || !pd)
		return 1;
	reader = ibv_reg_mr(pd, map, SIZE, IBV_ACCESS_REMOTE_READ);
	if (!reader)
		return errno;
	writer = ibv_reg_mr(pd, map, SIZE, IBV_ACCESS_LOCAL_WRITE);
	if (!writer)
		return errno;
	strcpy(map, "stored in a DAX file");
	return ibv_dereg_mr(reader) || ibv_dereg_mr(writer) || ibv_dealloc_pd(pd) ||
	       ibv_close_device(context) || munmap(map, SIZE);
}
