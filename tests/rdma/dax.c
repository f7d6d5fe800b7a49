// SPDX-License-Identifier: MIT
/*
 * dax FILE [rereg]
 *
 * Registers a mapping of FILE, for reading only and for writing; stores; unmaps. With `rereg`
 * an MR for reading only is moved there by ibv_rereg_mr() (rereg.c) instead. The exit status is
 * the errno of the call that failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#define SIZE  (256 * 1024)
#define READS IBV_ACCESS_REMOTE_READ

static int registers(struct ibv_pd *pd, char *map)
{
	struct ibv_mr *reader, *writer;

	reader = ibv_reg_mr(pd, map, SIZE, READS);
	if (!reader)
		return errno;
	writer = ibv_reg_mr(pd, map, SIZE, IBV_ACCESS_LOCAL_WRITE);
	if (!writer)
		return errno;
	strcpy(map, "stored in a DAX file");
	return ibv_dereg_mr(reader) || ibv_dereg_mr(writer);
}

static int moves(struct ibv_pd *pd, char *map)
{
	const int both = IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS;
	void *other =
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	if (other == MAP_FAILED)
		return 1;
	mr = ibv_reg_mr(pd, other, SIZE, READS);
	if (!mr)
		return 1;
	if (ibv_rereg_mr(mr, both, NULL, map, SIZE, READS))
		return errno;
	strcpy(map, "stored in a DAX file");
	return mr->addr != map || ibv_dereg_mr(mr) || munmap(other, SIZE);
}

int main(int argc, char **argv)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context;
	struct ibv_pd *pd;
	char *map;
	int fd, err;

	if (argc < 2 || !list || !list[0])
		return 1;
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return 1;
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	context = ibv_open_device(list[0]);
	pd = context ? ibv_alloc_pd(context) : NULL;
	if (map == MAP_FAILED || !pd)
		return 1;
	err = argc == 2 ? registers(pd, map) : moves(pd, map);
	return err ? err : ibv_dealloc_pd(pd) || ibv_close_device(context) || munmap(map, SIZE);
}
