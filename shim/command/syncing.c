/* SPDX-License-Identifier: MIT */
#include "command/syncing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "command/conversation.h"
#include "command/format.h"

#define QUIET_MS 1000 /* how long nobody wonders */

struct progress {
	size_t files, done;
	uint64_t bytes;
	uint64_t until; /* ms: this keeper is waited for */
	bool shown;
};

static void show(struct progress *p, const struct view_file *f)
{
	char name[FORMAT_NAME_MOST(sizeof(f->name))], bytes[32];

	if (isatty(STDERR_FILENO) != 1)
		return;
	format_name(f->name[0] ? f->name : "?", name, sizeof(name));
	format_bytes(p->bytes, false, bytes, sizeof(bytes));
	/* "\033[K": a longer name may stand there. */
	fprintf(stderr, "\rsyncing file %zu of %zu, %s in all: %.60s\033[K", p->done + 1,
		p->files, bytes, name);
	p->shown = true;
}

static void hide(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}

/* For poll(), which may be asked for less than is left. */
static int time_left(uint64_t until)
{
	const uint64_t now = now_ms(), most = 3600 * 1000;

	if (until == UINT64_MAX)
		return -1;
	return (int)(now < until ? MIN(until - now, most) : 0);
}

/* Our own user's keeper has as long as it takes: there is no time by which a disk has to have
 * written. *ret_err is the file's own trouble. */
static int sync_one(const struct view_keeper *k, const struct view_file *f, struct progress *p,
		    int *ret_err)
{
	const int quiet = p->shown ? 0 : QUIET_MS;
	int left = time_left(p->until);
	struct msg m;
	int err;

	msg_init(&m, MSG_SYNC);
	m.key = f->key;
	m.flags = SYNC_DURABLE;
	err = conversation_ask(k->sock, &m, left < 0 ? quiet : MIN(quiet, left));
	while (err == -ETIMEDOUT && (left = time_left(p->until))) {
		show(p, f);
		err = conversation_answer(k->sock, &m, left);
	}
	/* -ENOENT: it was let go meanwhile, and so is in the file. */
	*ret_err = err || m.error == -ENOENT ? 0 : m.error;
	return err;
}

static int sync_keeper(const char *who, const struct view_keeper *k,
		       bool (*wanted)(const struct view_file *f, const void *arg),
		       const void *arg, struct progress *p, bool say)
{
	int err, failed, status = 0;
	char name[1024], user[64];

	for (size_t i = 0; i < k->files; i++) {
		if (!wanted(&k->file[i], arg))
			continue;
		err = sync_one(k, &k->file[i], p, &failed);
		if (err) {
			hide(p);
			format_user(k->uid, user, sizeof(user));
			complain(who, "the keeper of %s did not answer: %s", user,
				 strerror(-err));
			return EXIT_OWN;
		}
		p->done++;
		if (!failed)
			continue;
		status = 1;
		if (!say)
			continue;
		hide(p);
		format_name(k->file[i].name[0] ? k->file[i].name : "a file", name,
			    sizeof(name));
		complain(
			who,
			"%s: cannot be written: %s (errno %d); the keeper holds what is staged "
			"and goes on trying",
			name, strerror(-failed), -failed);
	}
	return status;
}

static void complain_of(const char *who, const struct view_keeper *k)
{
	char user[64], text[128];

	format_user(k->uid, user, sizeof(user));
	snprintf(text, sizeof(text), "%s: keeper of %s", who, user);
	conversation_complain(k->uid == geteuid() ? who : text, k->error, k->why);
}

int sync_view(const char *who, const struct view *v,
	      bool (*wanted)(const struct view_file *f, const void *arg), const void *arg,
	      uint64_t others_ms, bool say)
{
	struct progress p = { 0 };
	int status = 0, one;

	for (size_t k = 0; k < v->keepers; k++)
		for (size_t i = 0; i < v->keeper[k].files; i++)
			if (wanted(&v->keeper[k].file[i], arg)) {
				p.files++;
				p.bytes += v->keeper[k].file[i].staged;
			}
	for (size_t k = 0; k < v->keepers; k++) {
		one = EXIT_OWN;
		p.until = v->keeper[k].uid == geteuid() ? UINT64_MAX : now_ms() + others_ms;
		if (v->keeper[k].error)
			complain_of(who, &v->keeper[k]);
		else
			one = sync_keeper(who, &v->keeper[k], wanted, arg, &p, say);
		status = one > status ? one : status;
	}
	hide(&p);
	return status;
}
