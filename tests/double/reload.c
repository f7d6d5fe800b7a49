// SPDX-License-Identifier: MIT
/*
 * reload PLUGIN FILE: opens a plugin that is linked to liburing for everybody (RTLD_GLOBAL),
 * has it register the mapped file, closes it, and does so again, as often as it takes until the
 * library was somewhere else. The exit status is the errno of the last registration.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TIMES 3

/* Where a library was that is gone, something else stands then. */
static void occupy(void *where)
{
	(void)mmap(where, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		   -1, 0);
}

static int use(const char *plugin, void *map, size_t size)
{
	void *lib = dlopen(plugin, RTLD_NOW | RTLD_GLOBAL), *original;
	int (*ring_register)(void *addr, size_t len);
	Dl_info info;
	int ret;

	if (!lib || !(original = dlsym(lib, "io_uring_queue_init")) ||
	    !dladdr(original, &info)) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	*(void **)&ring_register = dlsym(lib, "ring_register");
	ret = -ring_register(map, size);
	dlclose(lib);
	occupy(info.dli_fbase);
	return ret;
}

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[2], O_RDWR) : -1, ret = 1;
	struct stat st;
	void *map;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 1;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return 1;
	for (int i = 0; i < TIMES; i++)
		ret = use(argv[1], map, (size_t)st.st_size);
	return ret;
}
