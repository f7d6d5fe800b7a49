/* SPDX-License-Identifier: MIT */
/* RDMA devices, and whether they can do without pins (on-demand paging). libibverbs is asked if
 * the machine has it; nothing is linked. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "command/doctor.h"

#if __has_include(<infiniband/verbs.h>) && !defined(PINSTAGE_OWN_VERBS_H)
#include <infiniband/verbs.h>

struct verbs {
	struct ibv_device **(*list)(int *n);
	void (*free_list)(struct ibv_device **list);
	struct ibv_context *(*open)(struct ibv_device *device);
	int (*close)(struct ibv_context *context);
};

static bool bind_verbs(struct verbs *v)
{
	void *lib = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return false;
	*(void **)&v->list = dlsym(lib, "ibv_get_device_list");
	*(void **)&v->free_list = dlsym(lib, "ibv_free_device_list");
	*(void **)&v->open = dlsym(lib, "ibv_open_device");
	*(void **)&v->close = dlsym(lib, "ibv_close_device");
	return v->list && v->free_list && v->open && v->close;
}

/* 1 yes, 0 no, -1 it does not say. */
static int on_demand(const struct verbs *v, struct ibv_device *device)
{
	struct ibv_context *context = v->open(device);
	struct ibv_device_attr_ex attr = { 0 };
	struct verbs_context *ops;
	int answer = -1;

	if (!context)
		return -1;
	ops = verbs_get_ctx_op(context, query_device_ex);
	if (ops && ops->query_device_ex(context, NULL, &attr, sizeof(attr)) == 0)
		answer = attr.odp_caps.general_caps & IBV_ODP_SUPPORT ? 1 : 0;
	v->close(context);
	return answer;
}

static void say_device(struct findings *f, const char *name, int odp)
{
	if (odp > 0)
		find(f, FINDING_OK, "rdma",
		     "%s can do on-demand paging|programs that register with IBV_ACCESS_ON_DEMAND pin "
		     "nothing, and need no pinstage with it",
		     name);
	else if (odp == 0)
		find(f, FINDING_OK, "rdma",
		     "%s cannot do on-demand paging|memory registered with it is pinned", name);
	else
		find(f, FINDING_NOTE, "rdma",
		     "%s does not say whether it can do on-demand paging|see ibv_devinfo -v",
		     name);
}

static void ask_devices(struct findings *f, const struct verbs *v)
{
	struct ibv_device **list;
	int n = 0;

	list = v->list(&n);
	for (int i = 0; list && i < n; i++)
		say_device(f, list[i]->name, on_demand(v, list[i]));
	if (list)
		v->free_list(list);
}

static void name_devices(struct findings *f)
{
	struct verbs v;

	if (bind_verbs(&v))
		ask_devices(f, &v);
}
#else
static void name_devices(struct findings *f)
{
	find(f, FINDING_NOTE, "rdma",
	     "there are RDMA devices, and this pinstage was built without libibverbs' header|see "
	     "ibv_devinfo -v for whether they can do on-demand paging");
}
#endif

void doctor_rdma(struct findings *f)
{
	DIR *d = opendir("/sys/class/infiniband");
	const size_t before = f->n;
	struct dirent *e;
	bool any = false;

	while (d && !any && (e = readdir(d)))
		any = e->d_name[0] != '.';
	if (d)
		closedir(d);
	if (!any) {
		find(f, FINDING_NOTE, "rdma", "there is no RDMA device|");
		return;
	}
	name_devices(f);
	if (f->n == before)
		find(f, FINDING_NOTE, "rdma",
		     "there are RDMA devices, but libibverbs does not name them|install libibverbs1 "
		     "and ibverbs-providers");
}
