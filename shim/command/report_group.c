/* SPDX-License-Identifier: MIT */
/* Lines become offences, offences become rows. */
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command/logline.h"
#include "command/report.h"
#include "common/util.h"

/* What a process says at its end, under a name made of process and site. It may say so more
 * than once; each time it is the whole. */
struct said {
	char *name;
	uint64_t n, bytes, last;       /* event=again */
	uint64_t fine, lost, left_out; /* event=count */
	bool matched;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct said *)a)->name, ((const struct said *)b)->name);
}

static char *copy_of(const struct logline *l, const char *key)
{
	const char *text = logline_get(l, key);

	return strdup(text ? text : "");
}

static char *process_of(const struct logline *l)
{
	static const char *const key[] = { "host", "boot", "pid", "started" };
	const char *v[ARRAY_SIZE(key)];
	char *name;

	for (size_t i = 0; i < ARRAY_SIZE(key); i++) {
		v[i] = logline_get(l, key[i]);
		v[i] = v[i] ? v[i] : "";
	}
	return asprintf(&name, "%s %s %s %s", v[0], v[1], v[2], v[3]) < 0 ? NULL : name;
}

static char *said_name(const char *process, uint64_t site)
{
	char *name;

	return asprintf(&name, "%s %016llx", process, (unsigned long long)site) < 0 ? NULL
										    : name;
}

static struct said *said_find(void *const *tree, const char *process, uint64_t site)
{
	struct said want = { .name = said_name(process, site) }, **found;

	found = want.name ? tfind(&want, tree, by_name) : NULL;
	free(want.name);
	return found ? *found : NULL;
}

static struct said *said_add(void **tree, const char *process, uint64_t site)
{
	struct said *s = said_find(tree, process, site);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->name = said_name(process, site);
	if (s->name && tsearch(s, tree, by_name))
		return s;
	free(s->name);
	free(s);
	return NULL;
}

static uint64_t time_of(const struct logline *l, const char *key)
{
	const char *text = logline_get(l, key);
	uint64_t ns;

	return text && logline_time(text, &ns) ? ns : 0;
}

static int take_end(struct report *r, const struct logline *l, bool again)
{
	char *process = process_of(l);
	struct said *s;

	if (!process)
		return -ENOMEM;
	s = said_add(again ? &r->repeats : &r->totals, process,
		     again ? strtoull(logline_get(l, "site"), NULL, 16) : 0);
	free(process);
	if (!s)
		return -ENOMEM;
	s->n = MAX(s->n, logline_number(l, "n"));
	s->bytes = MAX(s->bytes, logline_number(l, "bytes"));
	s->last = MAX(s->last, time_of(l, "last"));
	s->fine = MAX(s->fine, logline_number(l, "fine"));
	s->lost = MAX(s->lost, logline_number(l, "lost"));
	s->left_out = MAX(s->left_out, logline_number(l, "left_out"));
	return 0;
}

static int take_offence(struct report *r, const struct logline *l, enum outcome outcome)
{
	const char *site = logline_get(l, "site");
	struct offence *o, *more;

	if (r->offences == r->room) {
		r->room = r->room ? 2 * r->room : 256;
		more = reallocarray(r->offence, r->room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->offence = more;
	}
	o = &r->offence[r->offences++];
	*o = (struct offence){
		.outcome = outcome,
		.process = process_of(l),
		.host = copy_of(l, "host"),
		.exe = copy_of(l, "exe"),
		.call = copy_of(l, "call"),
		.file = copy_of(l, "file"),
		.fs = copy_of(l, "fs"),
		.flags = copy_of(l, "flags"),
		.reason = copy_of(l, "reason"),
		.remedy = copy_of(l, "remedy"),
		.stack = copy_of(l, "stack"),
		.mmap_stack = copy_of(l, "mmap_stack"),
		.modules = copy_of(l, "modules"),
		.site = site ? strtoull(site, NULL, 16) : 0,
		.n = 1,
		.bytes = logline_number(l, logline_get(l, "staged")  ? "staged"
					   : logline_get(l, "bytes") ? "bytes"
								     : "len"),
		.first = time_of(l, "time"),
		.last = time_of(l, "time"),
		.access = (unsigned)logline_number(l, "access"),
		.has_access = logline_get(l, "access") != NULL,
		.error = (int)logline_number(l, "errno"),
	};
	return o->process && o->host && o->exe && o->call && o->file && o->fs && o->flags &&
			       o->reason && o->remedy && o->stack && o->mmap_stack && o->modules
		       ? 0
		       : -ENOMEM;
}

static int take_line(struct report *r, const struct logline *l)
{
	static const struct {
		const char *event;
		enum outcome outcome;
	} offence[] = { { "stage", OUTCOME_STAGED },
			{ "pin", OUTCOME_LOGGED },
			{ "deny", OUTCOME_DENIED },
			{ "refuse", OUTCOME_REFUSED } };
	const char *event = logline_get(l, "event");

	for (size_t i = 0; i < ARRAY_SIZE(offence); i++) {
		if (strcmp(event, offence[i].event) != 0)
			continue;
		if (!time_of(l, "time") || !logline_get(l, "call")) {
			r->damaged++;
			return 0;
		}
		return take_offence(r, l, offence[i].outcome);
	}
	if (!strcmp(event, "again") && logline_get(l, "site"))
		return take_end(r, l, true);
	if (!strcmp(event, "count"))
		return take_end(r, l, false);
	return 0; /* what happened later: not about who pins */
}

/* Behind a line that was cut off another one may follow, which somebody else wrote. */
int report_take(struct report *r, char *text, size_t len)
{
	char *copy = strdup(text), *next = NULL;
	struct logline l;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	r->lines += len > 0;
	switch (len ? logline_parse(text, len, &l) : LOGLINE_NEWER) {
	case LOGLINE_GOOD:
		err = take_line(r, &l);
		break;
	case LOGLINE_NEWER:
		r->newer += len > 0;
		break;
	case LOGLINE_FOREIGN:
		r->foreign++;
		break;
	case LOGLINE_DAMAGED:
		r->damaged++;
		next = strlen(copy) == len ? logline_next(copy) : NULL;
		break;
	}
	if (next)
		err = report_take(r, next, strlen(next));
	free(copy);
	return err;
}

static void add_up(struct report *r)
{
	struct said *s;

	for (size_t i = 0; i < r->offences; i++) {
		struct offence *o = &r->offence[i];

		s = o->site ? said_find(&r->repeats, o->process, o->site) : NULL;
		if (!s || s->n <= o->n)
			continue;
		s->matched = true;
		o->n = s->n;
		o->bytes = s->bytes;
		o->last = MAX(o->last, s->last);
	}
}

static struct report *walked; /* twalk() hands nothing on */

static void count_unmatched(const void *node, VISIT which, int depth)
{
	const struct said *s = *(const struct said *const *)node;

	(void)depth;
	if ((which == postorder || which == leaf) && s->n && !s->matched)
		walked->unmatched++;
}

static void count_totals(const void *node, VISIT which, int depth)
{
	const struct said *s = *(const struct said *const *)node;

	(void)depth;
	if (which != postorder && which != leaf)
		return;
	walked->fine += s->fine;
	walked->lost += s->lost;
	walked->left_out += s->left_out;
}

/* What of a stack makes a call site the same on other hosts: not what lies below the program in
 * the C library, which differs from host to host. */
static char *site_of(const struct offence *o)
{
	size_t n, size = 0;
	struct frame *f = frames_of(o->stack, o->modules, &n);
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	for (size_t i = 0; out && i < n; i++)
		if (!strstr(f[i].module, "/libc.so") && !strstr(f[i].module, "/libc-"))
			fprintf(out, "%s+%llx ", *f[i].id ? f[i].id : f[i].module,
				(unsigned long long)f[i].address);
	if (out)
		fclose(out);
	frames_free(f, n);
	return text;
}

static char *name_of(const struct report *r, const struct offence *o)
{
	char *site = site_of(o), *name;
	int n = asprintf(&name, "%s\n%s\n%s\n%s", o->exe, o->call,
			 r->many_hosts ? o->fs : o->file, site ? site : "");

	free(site);
	return n < 0 ? NULL : name;
}

struct named {
	char *name;
	const struct offence *o;
};

static int by_name_and_time(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (x->o->first > y->o->first) - (x->o->first < y->o->first);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* How many different ones there are of the member at `offset`, as far as lines say it. */
static size_t different(const struct row *row, size_t offset, const char **work)
{
	size_t n = 0;

	for (size_t i = 0; i < row->n; i++)
		work[i] = *(char *const *)((const char *)row->all[i] + offset);
	qsort(work, row->n, sizeof(*work), by_text);
	for (size_t i = 0; i < row->n; i++)
		n += *work[i] && (i == 0 || strcmp(work[i], work[i - 1]) != 0);
	return n ? n : 1;
}

static void sum_up(struct row *row, const char **work)
{
	row->one = row->all[0];
	row->first = UINT64_MAX;
	for (size_t i = 0; i < row->n; i++) {
		const struct offence *o = row->all[i];

		row->count += o->n;
		row->bytes += o->bytes;
		row->first = MIN(row->first, o->first);
		row->last = MAX(row->last, o->last);
		row->outcome[o->outcome] += o->n;
		row->access |= o->access;
	}
	row->files = different(row, offsetof(struct offence, file), work);
	row->hosts = different(row, offsetof(struct offence, host), work);
	row->processes = different(row, offsetof(struct offence, process), work);
}

static int make_rows(struct report *r, const struct named *v, size_t n)
{
	const struct offence **all = calloc(n + 1, sizeof(*all));

	const char **work = calloc(n + 1, sizeof(*work));

	r->all = all;
	r->row = calloc(n + 1, sizeof(*r->row));
	if (!all || !work || !r->row) {
		free(work);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || strcmp(v[i].name, v[i - 1].name) != 0)
			r->row[r->rows++].all = all + i;
		r->row[r->rows - 1].n++;
		all[i] = v[i].o;
	}
	for (size_t i = 0; i < r->rows; i++)
		sum_up(&r->row[i], work);
	free(work);
	return 0;
}

/* Brief lines, and some that were cut, do not say theirs. */
static bool many_hosts(const struct report *r)
{
	const char *known = "";

	for (size_t i = 0; i < r->offences; i++) {
		const char *host = r->offence[i].host;

		if (*known && *host && strcmp(host, known) != 0)
			return true;
		known = *known ? known : host;
	}
	return false;
}

int report_group(struct report *r, uint64_t since)
{
	struct named *v = calloc(r->offences + 1, sizeof(*v));
	size_t n = 0;
	int err = v ? 0 : -ENOMEM;

	add_up(r);
	walked = r;
	twalk(r->repeats, count_unmatched);
	twalk(r->totals, count_totals);
	r->many_hosts = many_hosts(r);
	for (size_t i = 0; i < r->offences && !err; i++) {
		if (r->offence[i].last < since)
			continue;
		v[n].o = &r->offence[i];
		v[n].name = name_of(r, v[n].o);
		err = v[n].name ? 0 : -ENOMEM;
		n++;
	}
	if (!err) {
		qsort(v, n, sizeof(*v), by_name_and_time);
		err = make_rows(r, v, n);
	}
	for (size_t i = 0; i < n; i++)
		free(v[i].name);
	free(v);
	return err;
}

static void free_said(void *p)
{
	struct said *s = p;

	free(s->name);
	free(s);
}

void report_free(struct report *r)
{
	for (size_t i = 0; i < r->offences; i++) {
		struct offence *o = &r->offence[i];
		char *const text[] = { o->process, o->host,  o->exe,	    o->call,
				       o->file,	   o->fs,    o->flags,	    o->reason,
				       o->remedy,  o->stack, o->mmap_stack, o->modules };

		for (size_t j = 0; j < ARRAY_SIZE(text); j++)
			free(text[j]);
	}
	free(r->offence);
	free(r->all);
	free(r->row);
	tdestroy(r->repeats, free_said);
	tdestroy(r->totals, free_said);
}
