/* SPDX-License-Identifier: MIT */
/*
 * What every pin site comes to: ranges that the kernel would not pin. A pin site is a small
 * function that makes the real call, and if that was refused turns its arguments into ranges,
 * asks here, and makes the call again if the answer is yes.
 */
#ifndef PINSTAGE_PIN_H
#define PINSTAGE_PIN_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/copy_in.h"
#include "lib/sites.h"
#include "lib/space.h"

/* Asked once of every registration. Whether a result of the real call may mean an offender:
 * -EFAULT, or -EOPNOTSUPP on DAX. The other two are what some kernels say of ranges that cannot
 * be; those are looked at to say so.
 */
static inline bool pin_refused(int err)
{
	if (err >= 0)
		sites_pin_is_fine();
	return err == -EFAULT || err == -EOPNOTSUPP || err == -EOVERFLOW || err == -EINVAL;
}

/* What the log says of a call that registers an MR. */
struct pin_access {
	unsigned flags;
	uint64_t iova;
	bool reading; /* no writing: in the way are only files with direct access (DAX) */
};

/* The calls that one registration makes of the kernel. */
struct pin_tries {
	unsigned staged;    /* after something was staged for it */
	unsigned met;	    /* because an exchange had come between */
	unsigned exchanges; /* when the last one began */
};

static inline struct pin_tries pin_begin(void)
{
	return (struct pin_tries){ .exchanges = space_exchanges() };
}

/*
 * Whether the kernel may have answered `err` because another thread was staging, or giving
 * back, what is pinned or what says what to pin: behind a curtain that is EFAULT, too, and so
 * it is if what was staged is the file's again. Then that is over: try again, but not for ever.
 */
bool pin_met_exchange(int err, struct pin_tries *tries);

/*
 * The kernel answered `err` to `call` for these ranges, all to be pinned for writing. Stages
 * what stands in the way, as policy says. True: everything that could be in the way is staged
 * now, try again. False: let the refusal stand; what had to be said was said. `iov` points into
 * the program's memory and may be bad. Keeps errno.
 *
 * Asked after each call, whatever it returned. What was staged may be given back before the pin
 * is there, because another thread needed room; then once more, but not for ever, for there may
 * be no room for both.
 */
bool pin_again(const char *call, const struct iovec *iov, size_t n, int err,
	       struct pin_tries *tries);
bool pin_again_mr(const char *call, const struct pin_access *access, const struct iovec *range,
		  int err, struct pin_tries *tries);

/* The same, once. */
bool pin_resolve_mr(const char *call, const struct pin_access *access,
		    const struct iovec *range, int err);

/*
 * The same before the kernel is asked, where it is no judge: RDMA on kernels before 6.5. Only
 * what the records know as a file's own mapping is looked at. 0: nothing is in the way any
 * more; -EFAULT: mode `deny` wants the call to fail; -EBUSY: it cannot be staged, which was
 * said.
 */
int pin_beforehand(const char *call, const struct pin_access *access,
		   const struct iovec *range);

#endif
