/* SPDX-License-Identifier: MIT */
/*
 * RDMA's pin sites: registering memory regions (MRs) through libibverbs. The access flags say
 * whether the pin is for writing. On-demand MRs pin nothing and are none of our business; with
 * every other flag the memory is what it was for the device, only staged.
 */
#include <errno.h>
#include <sys/utsname.h>

#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/mrs.h"
#include "lib/native.h"
#include "lib/pin.h"
#include "lib/policy.h"
#include "lib/space.h"

/* libibverbs' functions call each other by their exported names: only the outermost is served.
 */
static __thread unsigned depth __attribute__((tls_model("initial-exec")));

struct registration {
	const char *call;
	struct ibv_pd *pd;
	struct iovec range;
	uint64_t iova;
	unsigned access;
	struct ibv_mr_init_attr *attr;
};

typedef struct ibv_mr *native_register(const struct registration *r);

static bool can_write(unsigned access)
{
	return access & (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			 IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND);
}

/* Before 6.5 the kernel is no judge: it lets a device write to a file's pages. */
static bool kernel_judges(void)
{
	static int judges = -1;
	struct utsname u;

	if (judges < 0)
		judges = uname(&u) < 0 || policy_kernel_refuses_mr(u.release);
	return judges;
}

/* Whether an MR that fails with this error may be an offender. One that cannot be written fails
 * only on DAX. */
static bool may_offend(unsigned access, int err)
{
	return err == EOPNOTSUPP || (err == EFAULT && can_write(access));
}

/* Every registration of a file's own pages is noted before it is made, so that no other thread
 * stages them meanwhile. `token` stands for the MR that is not there yet. */
static void hold(const struct iovec *range, const void *token)
{
	const uintptr_t start = (uintptr_t)range->iov_base, end = start + range->iov_len;
	struct space_guard g;

	if (!space.tracked || end <= start || end > UINTPTR_MAX - page_size() ||
	    !space_lock(&g))
		return;
	native_add(page_down(start), page_up(end), token);
	space_unlock(&g);
}

static void pass_on(const void *from, const void *to, const void *context)
{
	struct space_guard g;

	if (!native_count() || !space_lock(&g))
		return;
	native_pass_on(from, to, context);
	space_unlock(&g);
}

static void drop(const void *owner)
{
	struct space_guard g;

	if (!native_count() || !space_lock(&g))
		return;
	native_drop(owner);
	space_unlock(&g);
}

static bool holds(const void *owner)
{
	struct space_guard g;
	bool yes;

	if (!native_count() || !space_lock(&g))
		return false;
	yes = native_is_owner(owner);
	space_unlock(&g);
	return yes;
}

static struct ibv_mr *register_outermost(native_register *native, const struct registration *r)
{
	const bool writes = can_write(r->access);
	const struct pin_access access = { r->access, r->iova, false };
	const int before = errno;
	const char token = 0;
	struct pin_tries tries;
	struct ibv_mr *mr;

	if (writes && !kernel_judges() &&
	    pin_beforehand(r->call, &access, &r->range) == -EFAULT) {
		errno = EFAULT;
		return NULL;
	}
	if (!writes)
		hold(&r->range, &token);
	tries = pin_begin();
	do {
		mr = native(r);
	} while (!mr && !writes && pin_met_exchange(-errno, &tries));
	if (!writes && mr)
		pass_on(&token, mr, r->pd->context);
	else if (!writes)
		drop(&token);
	if (mr)
		sites_pin_is_fine();
	if (mr && tries.met)
		errno = before;
	if (mr || !may_offend(r->access, errno))
		return mr;
	while (!mr && pin_again_mr(r->call, &access, &r->range, -errno, &tries))
		mr = native(r);
	if (mr)
		errno = before;
	return mr;
}

static struct ibv_mr *register_mr(native_register *native, const struct registration *r)
{
	struct ibv_mr *mr;

	if (!enabled || depth)
		return native(r);
	depth++;
	mr = r->access & IBV_ACCESS_ON_DEMAND ? native(r) : register_outermost(native, r);
	depth--;
	if (mr)
		mrs_note(mr, r->access);
	return mr;
}

static struct ibv_mr *native_reg_mr(const struct registration *r)
{
	return real.ibv_reg_mr(r->pd, r->range.iov_base, r->range.iov_len, (int)r->access);
}

static struct ibv_mr *native_reg_mr_iova(const struct registration *r)
{
	return real.ibv_reg_mr_iova(r->pd, r->range.iov_base, r->range.iov_len, r->iova,
				    (int)r->access);
}

static struct ibv_mr *native_reg_mr_iova2(const struct registration *r)
{
	return real.ibv_reg_mr_iova2(r->pd, r->range.iov_base, r->range.iov_len, r->iova,
				     r->access);
}

static struct ibv_mr *native_reg_mr_ex(const struct registration *r)
{
	return real.ibv_reg_mr_ex(r->pd, r->attr);
}

struct ibv_mr *on_ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	const struct registration r = { "ibv_reg_mr",	  pd,
					{ addr, length }, (uintptr_t)addr,
					(unsigned)access, NULL };

	return register_mr(native_reg_mr, &r);
}

struct ibv_mr *on_ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				  int access)
{
	const struct registration r = { "ibv_reg_mr_iova", pd,	{ addr, length }, iova,
					(unsigned)access,  NULL };

	return register_mr(native_reg_mr_iova, &r);
}

struct ibv_mr *on_ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				   unsigned int access)
{
	const struct registration r = {
		"ibv_reg_mr_iova2", pd, { addr, length }, iova, access, NULL
	};

	return register_mr(native_reg_mr_iova2, &r);
}

struct ibv_mr *on_ibv_reg_mr_ex(struct ibv_pd *pd, struct ibv_mr_init_attr *attr)
{
	struct verbs_mr_attr a = { 0 };
	struct registration r = { .call = "ibv_reg_mr_ex", .pd = pd, .attr = attr };

	if (!enabled || depth || !pin_copy_in(&a, attr, sizeof(a)) ||
	    !(a.comp_mask & VERBS_MR_ATTR_ADDR) || (a.comp_mask & VERBS_MR_ATTR_FD))
		return real.ibv_reg_mr_ex(pd, attr);
	r.range.iov_base = a.addr;
	r.range.iov_len = a.length;
	r.iova = a.comp_mask & VERBS_MR_ATTR_IOVA ? a.iova : (uintptr_t)a.addr;
	r.access = (unsigned)a.access;
	return register_mr(native_reg_mr_ex, &r);
}

/* What ibv_rereg_mr() makes of an MR. */
struct change {
	struct iovec range;
	struct pin_access access;
	bool known; /* the access; an MR that came without our hooks is assumed to be written */
	bool writes; /* its memory is pinned for writing then */
	bool repins; /* it gets other memory, or the same but pinned now */
};

static struct change change_of(const struct ibv_mr *mr, int flags, void *addr, size_t length,
			       int access)
{
	const bool moves = flags & IBV_REREG_MR_CHANGE_TRANSLATION;
	unsigned was = 0;
	const bool known = mrs_access(mr, &was);
	struct change c = {
		.range = { moves ? addr : mr->addr, moves ? length : mr->length },
		.access = { was, moves ? (uintptr_t)addr : 0, false },
		.known = known,
		.repins = moves,
	};

	if (flags & IBV_REREG_MR_CHANGE_ACCESS) {
		c.access.flags = (unsigned)access;
		c.known = true;
		c.repins |= was & IBV_ACCESS_ON_DEMAND;
	}
	if (c.access.flags & IBV_ACCESS_ON_DEMAND)
		c.repins = false;
	else
		c.writes = c.known ? can_write(c.access.flags) : !holds(mr);
	c.access.reading = !c.writes;
	return c;
}

/*
 * An MR whose change failed must not be used any more, so the change is not tried first: what
 * stands in the way is staged beforehand, or the MR left as it is. Without new access flags the
 * old ones hold. New flags alone are looked at where the file's own pages are pinned for
 * reading: some drivers would let the device write to those, which no kernel grants to a new
 * MR.
 */
static int prepare_change(const struct ibv_mr *mr, const struct change *c)
{
	int verdict = 0;

	if ((c->repins || (c->writes && holds(mr))) &&
	    (options.mode == MODE_STAGE || !kernel_judges()))
		verdict = pin_beforehand("ibv_rereg_mr", &c->access, &c->range);
	/* Of an MR that is not known the kernel may know that it is only read. */
	return verdict == -EFAULT || (verdict && kernel_judges() && c->known) ? -EFAULT : 0;
}

/* Modes that stage nothing leave it to the kernel, and record what it said. EOPNOTSUPP may be
 * the driver's, for a change that it cannot make: then the memory of an offender is one, too.
 */
static void record_failure(const struct change *c, int ret)
{
	if (ret > IBV_REREG_MR_ERR_CMD || options.mode == MODE_STAGE || !kernel_judges() ||
	    !c->repins || !may_offend(c->writes ? IBV_ACCESS_LOCAL_WRITE : 0, errno))
		return;
	(void)pin_resolve_mr("ibv_rereg_mr", &c->access, &c->range, -errno);
}

static int rereg_outermost(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr,
			   size_t length, int access)
{
	const struct change c = change_of(mr, flags, addr, length, access);
	const char token = 0;
	int ret;

	if (prepare_change(mr, &c) < 0) {
		errno = c.writes ? EFAULT : EOPNOTSUPP;
		return IBV_REREG_MR_ERR_INPUT;
	}
	if (c.repins && (!c.writes || !c.known))
		hold(&c.range, &token);
	ret = real.ibv_rereg_mr(mr, flags, pd, addr, length, access);
	if (ret != 0 && ret != IBV_REREG_MR_ERR_DO_FORK_OLD) {
		drop(&token);
		record_failure(&c, ret);
		return ret;
	}
	if (flags & IBV_REREG_MR_CHANGE_TRANSLATION)
		drop(mr);
	pass_on(&token, mr, mr->context);
	if (c.known)
		mrs_note(mr, c.access.flags);
	return ret;
}

int on_ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		    int access)
{
	int ret;

	if (!enabled || depth)
		return real.ibv_rereg_mr(mr, flags, pd, addr, length, access);
	depth++;
	ret = rereg_outermost(mr, flags, pd, addr, length, access);
	depth--;
	return ret;
}

/* Staged memory stays staged for the next time. The MR's address may be another's as soon as
 * the call is made. */
int on_ibv_dereg_mr(struct ibv_mr *mr)
{
	const void *context;
	const char token = 0;
	unsigned access;
	bool known;
	int ret;

	if (!enabled || depth)
		return real.ibv_dereg_mr(mr);
	context = mr->context;
	known = mrs_access(mr, &access);
	mrs_forget(mr);
	pass_on(mr, &token, context);
	ret = real.ibv_dereg_mr(mr);
	if (ret == 0) {
		drop(&token);
		return 0;
	}
	pass_on(&token, mr, context);
	if (known)
		mrs_note(mr, access);
	return ret;
}

/* MRs that are left go with the device. */
int on_ibv_close_device(struct ibv_context *context)
{
	int ret = real.ibv_close_device(context);
	struct space_guard g;

	if (ret == 0 && native_count() && space_lock(&g)) {
		native_drop_context(context);
		space_unlock(&g);
	}
	return ret;
}
