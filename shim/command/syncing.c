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

/* As long as it takes: there is no time by which a disk has to have written. *ret_err is the
 * file's own trouble. */
static int sync_one(const struct view_keeper *k, const struct view_file *f, struct progress *p,
		    int *ret_err)
{
	struct msg m;
	int err;

	msg_init(&m, MSG_SYNC);
	m.key = f->key;
	m.flags = SYNC_DURABLE;
	err = conversation_ask(k->sock, &m, p->shown ? 0 : QUIET_MS);
	if (err == -ETIMEDOUT) {
		show(p, f);
		err = conversation_answer(k->sock, &m, -1);
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
	char name[1024];

	for (size_t i = 0; i < k->files; i++) {
		if (!wanted(&k->file[i], arg))
			continue;
		err = sync_one(k, &k->file[i], p, &failed);
		if (err) {
			hide(p);
			complain(who, "the keeper did not answer: %s", strerror(-err));
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

int sync_view(const char *who, const struct view *v,
	      bool (*wanted)(const struct view_file *f, const void *arg), const void *arg,
	      bool say)
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
		if (v->keeper[k].error)
			conversation_complain(who, v->keeper[k].error, v->keeper[k].why);
		else
			one = sync_keeper(who, &v->keeper[k], wanted, arg, &p, say);
		status = one > status ? one : status;
	}
	hide(&p);
	return status;
}
