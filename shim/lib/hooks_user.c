/* SPDX-License-Identifier: MIT */
/*
 * Becoming another user: then the keeper that has what is staged is out of reach, and only who
 * talks to it already may go on to. A forked child does so from when it first needs to.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/hooks.h"
#include "lib/init.h"
#include "lib/reconcile.h"
#include "lib/space.h"
#include "lib/stage.h"

static void before_change(void)
{
	struct space_guard g;
	enum reason why;
	int saved = errno;

	if (likely(!atomic_load_explicit(&space.staged, memory_order_relaxed)) || !enabled ||
	    !space_lock(&g))
		return;
	reconcile_inherited();
	if (space_next_staged(NULL))
		(void)stage_keeper_ready(&why);
	space_unlock(&g);
	errno = saved;
}

int on_setuid(uid_t uid)
{
	before_change();
	return real.setuid(uid);
}

int on_seteuid(uid_t uid)
{
	before_change();
	return real.seteuid(uid);
}

int on_setreuid(uid_t uid, uid_t effective)
{
	before_change();
	return real.setreuid(uid, effective);
}

int on_setresuid(uid_t uid, uid_t effective, uid_t kept)
{
	before_change();
	return real.setresuid(uid, effective, kept);
}
