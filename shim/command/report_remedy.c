/* SPDX-License-Identifier: MIT */
/* What can be done about an offender: from how it pins, on which file system, and what became
 * of it. Plain functions over plain data. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command/report.h"
#include "common/util.h"

struct list {
	struct remedy *r;
	size_t n;
};

static void add(struct list *l, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void add(struct list *l, const char *name, const char *fmt, ...)
{
	struct remedy *r;
	va_list ap;

	if (l->n == REMEDIES_MOST)
		return;
	r = &l->r[l->n++];
	r->name = name;
	va_start(ap, fmt);
	vsnprintf(r->text, sizeof(r->text), fmt, ap);
	va_end(ap);
}

static bool one_of(const char *text, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(text, *list))
			return true;
	return false;
}

/* As policy has them: no other host can map a file there. */
static const char *const local[] = { "ext2",  "ext3", "ext4",	 "xfs",
				     "btrfs", "f2fs", "overlay", NULL };
static const char *const in_memory[] = { "tmpfs", "devtmpfs", "ramfs", "hugetlbfs", NULL };
/* Brief lines do not say it; others could not find it. */
static const char *const not_known[] = { "", "unknown", NULL };

/* IBV_ACCESS_... that let a device write. */
static const struct {
	unsigned flag;
	const char *name;
} writing[] = {
	{ 1, "LOCAL_WRITE" }, { 2, "REMOTE_WRITE" }, { 8, "REMOTE_ATOMIC" }, { 16, "MW_BIND" }
};

static void add_access(struct list *l, unsigned access)
{
	char names[128] = "";

	for (size_t i = 0; i < ARRAY_SIZE(writing); i++)
		if (access & writing[i].flag)
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
				 *names ? ", " : "", writing[i].name);
	if (*names)
		add(l, "access",
		    "If the device only reads from this memory (sends, RDMA reads by others), "
		    "register it without %s: such pins are granted.",
		    names);
}

/* What stood in the way is the first thing to see to. */
static void add_refusals(struct list *l, const struct row *row)
{
	for (size_t i = 0; i < row->n; i++) {
		const struct offence *o = row->all[i], *before = i ? row->all[i - 1] : NULL;

		if (o->outcome == OUTCOME_REFUSED && *o->remedy &&
		    (!before || strcmp(before->reason, o->reason) != 0) &&
		    l->n < REMEDIES_MOST / 2)
			add(l, "refused", "It was not staged because %s: %s.", o->reason,
			    o->remedy);
	}
}

/* As PINSTAGE_FS has the ones that can be allowed; NULL. */
static const char *shared_name(const char *fs)
{
	static const char *const name[] = { "nfs", "cifs", "smb3", "ceph", "fuse", "bcachefs" };

	for (size_t i = 0; i < ARRAY_SIZE(name); i++)
		if (!strncmp(fs, name[i], strlen(name[i])))
			return name[i];
	return NULL;
}

static void add_staging(struct list *l, const struct row *row)
{
	const char *fs = row->one->fs, *name;

	if (row->outcome[OUTCOME_STAGED] || one_of(fs, in_memory) || one_of(fs, not_known))
		return;
	if (one_of(fs, local)) {
		if (!row->outcome[OUTCOME_REFUSED]) /* else it is what was tried */
			add(l, "stage",
			    "Run the program under pinstage (pinstage run, mode stage): "
			    "nothing has to be changed.");
	} else if ((name = shared_name(fs))) {
		add(l, "file-system",
		    "On %s another host may map the file, so it is not staged. Move it to a local "
		    "disk; or, if no other host maps it at the same time, allow it with "
		    "PINSTAGE_FS=+%s.",
		    fs, name);
	} else {
		add(l, "file-system",
		    "Move the file to ext4, xfs, btrfs or f2fs on a local disk: "
		    "there it is staged.");
	}
}

/* So the kernel answers where it looks at whose pages they are, and not at who writes: those
 * of DAX, and those of any file to io_uring before Linux 6.5. */
static bool whatever_the_access(const struct row *row)
{
	for (size_t i = 0; i < row->n; i++)
		if (row->all[i]->error == EOPNOTSUPP)
			return true;
	return false;
}

size_t report_remedies(const struct row *row, struct remedy *ret)
{
	const bool any_access = whatever_the_access(row);
	const bool rdma = !strncmp(row->one->call, "ibv_", 4);
	struct list l = { .r = ret };

	add_refusals(&l, row);
	add_staging(&l, row);
	if (rdma) {
		if (!any_access)
			add_access(&l, row->access);
		add(&l, "odp",
		    "Register it with IBV_ACCESS_ON_DEMAND, where the device supports "
		    "on-demand paging: it pins nothing.");
	} else if (!strncmp(row->one->call, "io_uring", 8)) {
		add(&l, "unregistered",
		    "Use plain reads and writes: those need no registered "
		    "buffer, and pin memory for one operation only, which is "
		    "granted.");
	}
	add(&l, "pwrite", "Register anonymous memory, and write it to the file with pwrite().");
	if (!one_of(row->one->fs, in_memory))
		add(&l, "memory",
		    "If it need not outlive the machine, use memfd_create(), or put "
		    "the file on tmpfs or hugetlbfs: their pages may be pinned.");
	if (!any_access)
		add(&l, "private",
		    "If what is written there need not reach the file, map it MAP_PRIVATE.");
	return l.n;
}
