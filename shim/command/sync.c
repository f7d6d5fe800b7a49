/* SPDX-License-Identifier: MIT */
/* pinstage sync: everything that is staged, on the disk when it returns. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"
#include "command/conversation.h"
#include "common/cleanup.h"

static const char usage[] =
	"usage: pinstage sync\n"
	"\n"
	"Carries all that your keeper has staged to the files, and these to the disk.\n"
	"\n"
	"Exit status: 0 if all is there, or no keeper is running; 1 if something could not be\n"
	"written, with a line for each such file; 125 if the keeper cannot be asked.\n";

struct file {
	struct inode_key key;
	char name[sizeof(((struct msg *)0)->text)];
};

struct files {
	struct file *file;
	size_t n;
};

static int add_file(const struct msg *m, void *arg)
{
	struct files *f = arg;
	struct file *more;

	for (size_t i = 0; i < f->n; i++)
		if (!inode_key_cmp(f->file[i].key, m->key))
			return 0;
	more = reallocarray(f->file, f->n + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	f->file = more;
	more[f->n].key = m->key;
	memcpy(more[f->n++].name, m->text, sizeof(m->text));
	return 0;
}

/* As long as it takes: there is no time by which a disk has to have written. *ret_err is the
 * file's own trouble. */
static int sync_one(int sock, const struct file *f, int *ret_err)
{
	struct msg m;
	int err;

	msg_init(&m, MSG_SYNC);
	m.key = f->key;
	m.flags = SYNC_DURABLE;
	err = conversation_ask(sock, &m, -1);
	/* -ENOENT: it was let go meanwhile, and so is in the file. */
	*ret_err = err || m.error == -ENOENT ? 0 : m.error;
	return err;
}

static int sync_all(int sock, const struct files *f)
{
	int err = 0, failed = 0, status = 0;

	for (size_t i = 0; i < f->n && !err; i++) {
		err = sync_one(sock, &f->file[i], &failed);
		if (failed) {
			complain(
				"sync",
				"%s: cannot be written: %s (errno %d); the keeper holds what is staged and "
				"goes on trying",
				f->file[i].name[0] ? f->file[i].name : "a file",
				strerror(-failed), -failed);
			status = 1;
		}
	}
	return err ? err : status;
}

int sync_main(int argc, char **argv)
{
	cleanup_free struct file *list = NULL;
	struct files files = { 0 };
	cleanup_fd int sock = -1;
	enum reason why;
	int ret = no_options(argc, argv, usage);

	if (ret >= 0)
		return ret;
	sock = conversation_open(&why);
	if (sock == -ENOENT)
		return 0; /* then nothing is staged */
	if (sock < 0) {
		conversation_complain("sync", sock, why);
		return EXIT_OWN;
	}
	ret = conversation_status(sock, add_file, &files);
	list = files.file;
	if (!ret)
		ret = sync_all(sock, &files);
	if (ret < 0) {
		complain("sync", "the keeper did not answer: %s", strerror(-ret));
		return EXIT_OWN;
	}
	return ret;
}
