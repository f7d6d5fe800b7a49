/* SPDX-License-Identifier: MIT */
/* pinstage rescue: what cannot be written to its file, copied to another place. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "command/command.h"
#include "command/conversation.h"
#include "common/cleanup.h"
#include "common/ledger.h"
#include "keeper/digest.h"

static const char usage[] =
	"usage: pinstage rescue DIR\n"
	"\n"
	"Copies what your keeper holds and cannot write to its files into the directory DIR: for each\n"
	"file a copy named by a number, in which the rescued bytes are where they are in the file, and\n"
	"a list of them, DIR/manifest, a line for each stretch:\n"
	"\n"
	"  COPY OFFSET LENGTH ERRNO XXH128 FILE\n"
	"\n"
	"separated by tabs: bytes; the error of the last try; the digest of the stretch as `xxhsum -H2`\n"
	"prints it. The keeper goes on holding all of it, and trying to write it.\n"
	"\n"
	"Exit status: 0 if all is copied and on the disk, or there is nothing to rescue; 1 if not;\n"
	"125 if the keeper cannot be asked, or the command was called wrongly.\n";

#define BUFFER (1UL << 20)

struct rescue {
	int dir;
	FILE *manifest;
	struct msg *row; /* segments that cannot be written */
	size_t rows;
	uint64_t bytes;
};

static int add_failed(const struct msg *m, void *arg)
{
	struct rescue *r = arg;
	struct msg *more;

	if (!m->error)
		return 0;
	more = reallocarray(r->row, r->rows + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	r->row = more;
	more[r->rows++] = *m;
	return 0;
}

static int by_file_and_offset(const void *a, const void *b)
{
	const struct msg *x = a, *y = b;
	int c = inode_key_cmp(x->key, y->key);

	return c ? c : (x->off > y->off) - (x->off < y->off);
}

/* A segment as the keeper shows it: memory that goes on changing, and its ledger, which a
 * client gone mad may write to as well. */
struct shown {
	const unsigned char *mem;
	struct ledger_header *ledger;
	uint64_t len, pages;
	size_t ledger_len;
};

static void shown_close(struct shown *s)
{
	if (s->mem)
		munmap((void *)(uintptr_t)s->mem, s->len);
	if (s->ledger)
		munmap(s->ledger, s->ledger_len);
}

static void *map(int fd, size_t len)
{
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size < len)
		return NULL;
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int shown_open(int sock, const struct msg *row, struct shown *ret)
{
	int fd[PROTO_FDS], err;
	struct msg m;

	msg_init(&m, MSG_SHOW);
	m.id = row->id;
	err = conversation_ask_for(sock, &m, ANSWER_MS, fd);
	if (err || m.error)
		return err ? err : m.error;
	*ret = (struct shown){ .len = row->len, .pages = row->len / page_size() };
	ret->ledger_len = ledger_size(ret->pages);
	ret->mem = map(fd[0], ret->len);
	ret->ledger = map(fd[1], ret->ledger_len);
	for (int i = 0; i < PROTO_FDS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	if (ret->mem && ret->ledger)
		return 0;
	shown_close(ret);
	return -EPROTO;
}

static bool changed(const struct shown *s, uint64_t page)
{
	const struct ledger_base *base = &ledger_bases(s->ledger)[page];
	struct ledger_base now;

	if (ledger_flags(s->ledger, s->pages)[page] & ~LEDGER_PENDING)
		return true;
	now = digest_page(s->mem + page * page_size(), page_size(), s->ledger->seed);
	return now.lo != base->lo || now.hi != base->hi;
}

static int write_all(int fd, const unsigned char *from, size_t len, uint64_t at)
{
	ssize_t n;

	for (; len; len -= (size_t)n, from += n, at += (uint64_t)n) {
		n = pwrite(fd, from, len, (off_t)at);
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
	}
	return 0;
}

/* What the manifest vouches for is what was copied: each byte is read once. */
static int copy_stretch(int to, const unsigned char *from, uint64_t len, uint64_t at,
			XXH128_hash_t *ret)
{
	cleanup_free unsigned char *buf = malloc(BUFFER);
	XXH3_state_t *state = XXH3_createState();
	int err = buf && state ? 0 : -ENOMEM;
	uint64_t done;
	size_t n;

	if (!err)
		XXH3_128bits_reset(state);
	for (done = 0; done < len && !err; done += n) {
		n = MIN(len - done, BUFFER);
		memcpy(buf, from + done, n);
		XXH3_128bits_update(state, buf, n);
		err = write_all(to, buf, n, at + done);
	}
	if (!err)
		*ret = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	return err;
}

/* A line stays a line. */
static void print_name(FILE *to, const char *name)
{
	for (; *name; name++) {
		if ((unsigned char)*name < 0x20 || *name == 0x7f || *name == '\\')
			fprintf(to, "\\%03o", (unsigned char)*name);
		else
			fputc(*name, to);
	}
	fputc('\n', to);
}

static int rescue_segment(struct rescue *r, const struct shown *s, const struct msg *row,
			  const char *name, int to)
{
	const uint64_t page = page_size();
	XXH128_hash_t sum;
	uint64_t p, end;
	int err;

	for (p = 0; p < s->pages; p = end) {
		for (end = p; end < s->pages && changed(s, end); end++)
			continue;
		if (end == p) {
			end++;
			continue;
		}
		err = copy_stretch(to, s->mem + p * page, (end - p) * page, row->off + p * page,
				   &sum);
		if (err)
			return err;
		fprintf(r->manifest,
			"%s\t%" PRIu64 "\t%" PRIu64 "\t%d\t%016" PRIx64 "%016" PRIx64 "\t",
			name, row->off + p * page, (end - p) * page, -row->error, sum.high64,
			sum.low64);
		print_name(r->manifest, row->text);
		r->bytes += (end - p) * page;
	}
	return 0;
}

/* All rows of one file, from *i on. */
static int rescue_file(struct rescue *r, int sock, size_t *i, unsigned number)
{
	const struct inode_key key = r->row[*i].key;
	cleanup_fd int to = -1;
	struct shown s;
	char name[16];
	int err = 0;

	snprintf(name, sizeof(name), "%04u", number);
	to = openat(r->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	for (; !err && *i < r->rows && !inode_key_cmp(r->row[*i].key, key); (*i)++) {
		err = shown_open(sock, &r->row[*i], &s);
		if (err == -ENOENT) { /* written meanwhile */
			err = 0;
			continue;
		}
		if (err)
			break;
		err = rescue_segment(r, &s, &r->row[*i], name, to);
		shown_close(&s);
	}
	if (!err && fsync(to) < 0)
		err = -errno;
	return err;
}

static int open_target(struct rescue *r, const char *path)
{
	int fd;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	r->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->dir < 0)
		return -errno;
	fd = openat(r->dir, "manifest", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r->manifest = fdopen(fd, "w");
	return r->manifest ? 0 : -ENOMEM;
}

static int close_target(struct rescue *r)
{
	int err =
		fflush(r->manifest) || fsync(fileno(r->manifest)) || fsync(r->dir) ? -errno : 0;

	if (fclose(r->manifest) && !err)
		err = -errno;
	close(r->dir);
	return err;
}

static int rescue_all(struct rescue *r, int sock, const char *path)
{
	unsigned number = 0;
	int err = open_target(r, path), now;

	if (err)
		return err;
	qsort(r->row, r->rows, sizeof(*r->row), by_file_and_offset);
	for (size_t i = 0; i < r->rows && !err;)
		err = rescue_file(r, sock, &i, ++number);
	now = close_target(r);
	return err ? err : now;
}

/* Returns -1, or what to exit with. */
static int read_options(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' },
						 { "version", no_argument, NULL, 'V' },
						 { 0 } };
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) >= 0)
		return c == 'h'	  ? print_and_check(usage)
		       : c == 'V' ? print_version()
				  : wrong_option(argv, c);
	if (argc - optind == 1)
		return -1;
	complain("rescue", "%s; see pinstage rescue --help",
		 argc == optind ? "no directory given" : "only one directory can be given");
	return EXIT_OWN;
}

int rescue_main(int argc, char **argv)
{
	struct rescue r = { .dir = -1 };
	cleanup_free struct msg *rows = NULL;
	cleanup_fd int sock = -1;
	struct msg last;
	enum reason why;
	int err = read_options(argc, argv);

	if (err >= 0)
		return err;
	sock = conversation_open(&why);
	if (sock == -ENOENT)
		return 0;
	if (sock < 0) {
		conversation_complain("rescue", sock, why);
		return EXIT_OWN;
	}
	err = conversation_status(sock, add_failed, &r, &last);
	rows = r.row;
	if (err) {
		complain("rescue", "the keeper did not answer: %s", strerror(-err));
		return EXIT_OWN;
	}
	if (!r.rows)
		return 0;
	err = rescue_all(&r, sock, argv[optind]);
	if (err) {
		complain("rescue", "%s: not all could be copied: %s", argv[optind],
			 strerror(-err));
		return 1;
	}
	printf("%" PRIu64 " bytes copied to %s; the keeper holds them still\n", r.bytes,
	       argv[optind]);
	return output_complete("rescue");
}
