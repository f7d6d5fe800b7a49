/* SPDX-License-Identifier: MIT */
/* Letting go of segments that show nowhere in this process any more. */
#include <errno.h>

#include "lib/keeper.h"
#include "lib/kept.h"
#include "lib/log.h"
#include "lib/real.h"
#include "lib/recover.h"
#include "lib/stage.h"

void segment_message(struct msg *m, enum msg_type type, const struct segment *s)
{
	msg_init(m, type);
	m->id = s->id;
	m->key = s->key;
	m->off = s->off;
	m->len = s->len;
}

static int tell(struct segment *s)
{
	enum reason why;
	int err = s->saved ? recover(&why) : -ENOTCONN;

	return err < 0 ? err : recover_segment(s, s->saved, &why);
}

/* The keeper may have died since: then another one learns of the segment, to let go of it. Of
 * memory that it does not know it must hear first: what it has under that number is other
 * memory, and that nobody uses it says nothing of ours. */
static int release(struct segment *s)
{
	enum reason why;
	struct msg m;
	int err = 0;

	if (s->origin >= 0 && tell(s) < 0)
		return -ENOTCONN;
	for (int tries = 0; tries < 3; tries++) {
		segment_message(&m, MSG_RELEASE, s);
		err = keeper_call(&m, NULL, 0, NULL, &why);
		if (err != -EPIPE && err != -ECONNRESET && err != -ENOENT)
			break;
		if (tell(s) < 0)
			break;
	}
	return err;
}

/* Somebody else shows the memory, or a device still writes to it: it stays what the file's
 * content is, and shows again wherever the file is mapped again. */
static void keep_idle(struct segment *s, int err)
{
	struct file *f = space_file(s->key, true);

	s->joined = false;
	s->had_by = err == -EBUSY ? keeper_met() : 0;
	if (!f)
		return; /* no memory: this process will not map it again */
	if (err == -EBUSY && s->saved) {
		kept_drop(s, s->saved_off, s->saved, s->saved_len);
		s->saved = 0;
	}
	segment_link(f, s);
}

void stage_release(struct segment *orphans)
{
	struct segment *s;
	char name[512];
	int err;

	while ((s = orphans)) {
		orphans = s->next;
		kept_unhold(s);
		err = release(s);
		if (err && err != -ENOENT && err != -EBUSY)
			log_event(
				EV_ERROR,
				"file=\"%s\" offset=%lu len=%lu errno=%d reason=\"no keeper can be had; what "
				"was changed there may not be in the file\" remedy=\"%s\"",
				stage_name_of(s, name, sizeof(name)), s->off, s->len, -err,
				reason_remedy(REASON_NO_KEEPER));
		if (err && err != -ENOENT)
			keep_idle(s, err);
		else
			segment_free(s);
	}
}

void stage_release_idle(struct file *f)
{
	struct segment *idle = NULL, *s, *next;

	for (s = f->segments; s; s = next) {
		next = s->next;
		if (s->areas)
			continue;
		segment_unlink(s);
		s->next = idle;
		idle = s;
	}
	stage_release(idle);
}
