// SPDX-License-Identifier: MIT
#include "model.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct shared *shared;
unsigned program;

/* ---- choices ---- */

static uint64_t choice_state;

uint64_t draw(void)
{
	uint64_t z = choice_state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void choices_begin(uint64_t seed, unsigned number)
{
	choice_state = seed * 0xd1342543de82ef95ull + number * 0x2545f4914f6cdd1dull;
	draw();
}

unsigned below(unsigned n)
{
	return (unsigned)(draw() % n);
}

bool one_in(unsigned n)
{
	return below(n) == 0;
}

static size_t near_edge(size_t limit)
{
	static const int step[] = { 0, 0, 0, 1, 2, 3, 8, 511, 512 };
	size_t edge = one_in(3) ? shared->size : below((unsigned)(limit / PAGE + 1)) * PAGE;
	size_t by = (size_t)step[below(9)];

	if (one_in(2))
		return edge + by;
	return edge > by ? edge - by : 0;
}

void draw_range(size_t limit, size_t *ret_at, size_t *ret_len)
{
	static const unsigned lens[] = { 1, 2, 3, 7, 8, 511, 512, 4095, 4096, 4097 };
	size_t at, end, len;

	at = one_in(3) ? below((unsigned)limit) : near_edge(limit);
	if (at >= limit)
		at = limit - 1;
	switch (below(4)) {
	case 0:
		len = lens[below(10)];
		break;
	case 1:
		end = near_edge(limit);
		len = end > at ? end - at : 1;
		break;
	case 2:
		len = PAGE * (1 + below(8));
		break;
	default:
		len = 1 + below(one_in(4) ? (unsigned)limit : 6000);
	}
	*ret_at = at;
	*ret_len = len < limit - at ? len : limit - at;
}

size_t draw_size(void)
{
	size_t size;

	switch (below(4)) {
	case 0:
		size = below(MAX_SIZE);
		break;
	case 1:
		size = near_edge(MAX_SIZE);
		break;
	case 2: /* a little more or less */
		size = shared->size + below(5000) - 2500;
		break;
	default: /* a whole number of pages */
		size = PAGE * below(MAX_PAGES + 1);
	}
	return size > MAX_SIZE ? MAX_SIZE : size;
}

void draw_content(unsigned char *to, size_t at, size_t len)
{
	const uint64_t with = draw() | 1;
	const unsigned kind = below(10);
	uint64_t word;

	if (kind == 0) {
		memset(to, 0, len);
	} else if (kind == 1) {
		memcpy(to, shared->content + at, len);
	} else if (kind == 2) {
		memcpy(to, shared->saved + at, len);
	} else if (kind == 3) {
		memset(to, (int)(with >> 8 & 0xff), len);
	} else {
		for (size_t i = 0; i < len; i += 8) {
			word = with * (at + i + 1);
			word ^= word >> 29;
			memcpy(to + i, &word, len - i < 8 ? len - i : 8);
		}
	}
}

/* ---- the model ---- */

void model_begin(size_t size)
{
	memset(shared->content, 0, MAX_SIZE);
	memset(shared->saved, 0, MAX_SIZE);
	memset(shared->hole, true, sizeof(shared->hole));
	shared->size = size;
}

void model_allocated(size_t at, size_t len)
{
	for (size_t page = at / PAGE; page < MAX_PAGES && page * PAGE < at + len; page++)
		shared->hole[page] = false;
}

void model_write(size_t at, const void *from, size_t len)
{
	if (len == 0)
		return;
	if (at + len > shared->size) {
		/* What was the last page may be written to where its tail is cleared. */
		if (shared->size % PAGE)
			model_allocated(shared->size, 1);
		shared->size = at + len;
	}
	memcpy(shared->content + at, from, len);
	model_allocated(at, len);
}

void model_resize(size_t size)
{
	if (size < shared->size) {
		memset(shared->content + size, 0, MAX_SIZE - size);
		for (size_t page = (size + PAGE - 1) / PAGE; page < MAX_PAGES; page++)
			shared->hole[page] = true;
	}
	if (size % PAGE)
		model_allocated(size, 1);
	if (shared->size % PAGE)
		model_allocated(shared->size, 1);
	shared->size = size;
}

void model_punch(size_t at, size_t len, bool holes)
{
	size_t end = at + len < shared->size ? at + len : shared->size;

	if (at < end)
		memset(shared->content + at, 0, end - at);
	model_allocated(at, len);
	for (size_t page = (at + PAGE - 1) / PAGE; holes && (page + 1) * PAGE <= at + len;
	     page++)
		shared->hole[page] = true;
}

void model_shift(size_t at, size_t len, bool insert)
{
	size_t rest = shared->size - at;

	if (insert) {
		memmove(shared->content + at + len, shared->content + at, rest);
		memset(shared->content + at, 0, len);
		shared->size += len;
	} else {
		memmove(shared->content + at, shared->content + at + len, rest - len);
		memset(shared->content + shared->size - len, 0, len);
		shared->size -= len;
	}
	model_allocated(at, MAX_SIZE - at);
}

size_t page_end(void)
{
	return (shared->size + PAGE - 1) & ~(PAGE - 1);
}

const char *name_path(int name)
{
	static char path[NAMES][300];

	snprintf(path[name], sizeof(path[name]), "%s/model.%d", shared->set.dir, name);
	return path[name];
}

const char *file_path(void)
{
	return name_path(shared->name);
}

/* ---- the log ---- */

void say(const char *format, ...)
{
	char *line = shared->log[shared->lines];
	size_t used = strlen(line);
	va_list ap;

	va_start(ap, format);
	vsnprintf(line + used, LINE - used, format, ap);
	va_end(ap);
}

void wrong(const char *format, ...)
{
	va_list ap;

	if (!shared->failed) {
		size_t used = 0;

		if (several())
			used = (size_t)sprintf(shared->failure, "%c: ", 'A' + (int)program);
		va_start(ap, format);
		vsnprintf(shared->failure + used, sizeof(shared->failure) - used, format, ap);
		va_end(ap);
		shared->failed = true;
	}
	/* Not through libc's name: what the shim does at the end is not wanted any more. */
	kill(getpid(), SIGKILL);
	abort();
}

/* What else there is to know of a byte that is wrong, for one that does not come again: whether
 * it still is, what stands there, what the file has, past the library. */
static const char *witness(const volatile unsigned char *byte, size_t at)
{
	const uintptr_t addr = (uintptr_t)byte;
	static char told[700];
	char line[512], *end;
	unsigned char in_file = 0;
	uintptr_t lo, hi;
	ssize_t n = -1;
	FILE *f;
	int fd;

	snprintf(told, sizeof(told), "; now %02x", *byte);
	f = fopen("/proc/self/maps", "re");
	while (f && fgets(line, sizeof(line), f)) {
		lo = strtoul(line, &end, 16);
		hi = strtoul(end + 1, NULL, 16);
		if (addr >= lo && addr < hi) {
			line[strcspn(line, "\n")] = '\0';
			snprintf(told + strlen(told), sizeof(told) - strlen(told), ", in %s",
				 line);
		}
	}
	if (f)
		fclose(f);
	fd = (int)syscall(SYS_openat, AT_FDCWD, file_path(), O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = syscall(SYS_pread64, fd, &in_file, 1, (off_t)at);
	snprintf(told + strlen(told), sizeof(told) - strlen(told), ", the file: %02x (%zd)",
		 in_file, n);
	return told;
}

void must_equal(const char *what, const void *seen, size_t at, size_t len)
{
	const unsigned char *got = seen, *want = shared->content + at;
	size_t first = 0, last = len, n = 0;

	shared->compared++;
	if (memcmp(got, want, len) == 0)
		return;
	while (first < len && got[first] == want[first])
		first++;
	while (last > first + 1 && got[last - 1] == want[last - 1])
		last--;
	for (size_t i = first; i < last; i++)
		n += got[i] != want[i];
	wrong("%s: %zu bytes differ in %zu..%zu (pages %zu..%zu, size %zu); at %zu it has %02x, "
	      "not %02x%s%s",
	      what, n, at + first, at + last, (at + first) / PAGE, (at + last - 1) / PAGE,
	      shared->size, at + first, got[first], want[first],
	      got[first] == shared->saved[at + first] ? " (what it was at the last sync)" : "",
	      witness(got + first, at + first));
}
