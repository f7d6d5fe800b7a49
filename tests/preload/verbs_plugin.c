// SPDX-License-Identifier: MIT
/*
 * A program that knows nothing of libibverbs and opens a plugin that is linked to it, as Python
 * and MPI do: no search order but the plugin's own has the library in it, and RTLD_NEXT finds
 * none.
 */
#include "testlib.h"

#include <dlfcn.h>
#include <libgen.h>

#define SIZE (256 * KIB)

static void *plugin_path(void)
{
	char *path = NULL, exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	exe[n] = '\0';
	assert_true(asprintf(&path, "%s/../double/plugin.so", dirname(exe)) > 0);
	return path;
}

static void use_plugin(void)
{
	int (*plugin)(void *addr, size_t len, const void *from);
	unsigned char *map, *content = malloc(SIZE);
	void *lib;

	/* The hook can be there, the original cannot. */
	assert_null(dlsym(RTLD_DEFAULT, "ibv_alloc_pd"));
	assert_non_null(content);
	make_file("data", SIZE);
	map = map_file("data", SIZE);
	fill(content, SIZE, 0, DEVICE);
	lib = dlopen(plugin_path(), RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		fail_test("%s\n", dlerror());
	assert_null(dlsym(RTLD_DEFAULT, "ibv_alloc_pd"));
	*(void **)&plugin = dlsym(lib, "plugin_register_and_write");
	assert_non_null(plugin);
	must_stage(-plugin(map, SIZE, content));
	assert_int_equal(munmap(map, SIZE), 0);
	assert_in_file("data", 0, SIZE, DEVICE);
	assert_staged();
	free(content);
}

static void plugin__opened_locally(void **state)
{
	(void)state;
	use_plugin();
}

/* A hook that ran while there was no libibverbs at all does not remember that. */
static void plugin__opened_after_a_hook_ran(void **state)
{
	int (*dereg)(void *mr);

	(void)state;
	*(void **)&dereg = dlsym(RTLD_DEFAULT, "ibv_dereg_mr");
	assert_int_equal(dereg != NULL, with_shim());
	if (dereg) {
		void *none[8] = { NULL };

		assert_int_equal(dereg(none), ENOSYS);
	}
	use_plugin();
}

int main(int argc, char **argv)
{
	static const struct test cases[] = {
		TEST(plugin__opened_locally),
		TEST(plugin__opened_after_a_hook_ran),
		{ 0 },
	};

	return test_main(argc, argv, cases, NULL);
}
