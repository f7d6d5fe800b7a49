// SPDX-License-Identifier: MIT
/*
 * superseded HOW SOCKET FILE FILLER...
 *
 * Clients of the keeper, and the memory of a segment that could not be written: one client
 * stages the beginning of FILE, which is on a full disk, stores OLD, and the worker dies when
 * it has sealed the memory. What comes then:
 *
 *   retired  Another client joins, gets other memory with the same content, stores NEW, has
 *            that confirmed when the FILLERs are gone, and leaves. Then the first one comes
 *            back with its sealed memory, hands it in, and gives it back to the file.
 *   joined   The same, while a third one has another part of FILE staged all the time, so that
 *            the keeper goes on with what it knew of the file. And before what was handed in is
 *            given back, somebody joins.
 *   refused  Or somebody else has handed in the same memory, and giving it back is refused.
 *   outside  Nobody joins. The first one comes back at once, and has what it stored written
 *            when the FILLERs are gone; then somebody without pinstage writes to FILE. That
 *            cannot come to sealed memory; it does to the one in which this goes on.
 *   answered Nobody joins. The first one comes back, and does not hear the answer; so it goes
 * on in a copy of its own, of the same ledger, stores to that, and brings it.
 *   copied   Another client joins, stores NEW, has that confirmed, and leaves. The first one
 *            found no keeper all the while, went on in a copy of its own of the sealed memory,
 *            stored one byte to that, and brings it. Of the other pages that has nothing that
 *            the file has not.
 *
 * Exit status 0 if FILE, and whatever memory there is of it, still have what was confirmed.
 */
#include "client.h"

#define SIZE (64 * KIB)
#define AT   (5 * 4096 + 7) /* is stored to: one byte of a page */

static enum how { RETIRED, JOINED, REFUSED, OUTSIDE, ANSWERED, COPIED, HOWS } how;
static const char *const hows[] = { "retired", "joined",   "refused",
				    "outside", "answered", "copied" };
static const char *keeper;
static char **fillers;
static struct client_file file, beside;
static unsigned char expected[SIZE];

/* In memory, or in the file. */
static void put(int fd, const void *content, size_t len, off_t at)
{
	client_must(pwrite(fd, content, len, at) == (ssize_t)len ? 0 : errno, "store");
}

static void put_all(int memory, unsigned seed)
{
	fill(expected, SIZE, 0, seed);
	put(memory, expected, SIZE, 0);
}

static void put_one(int fd)
{
	expected[AT] ^= 0xff;
	put(fd, expected + AT, 1, AT);
}

static void holds(const char *what, int fd)
{
	static unsigned char content[SIZE];

	client_must(pread(fd, content, SIZE, 0) == SIZE ? 0 : errno, "read");
	for (size_t i = 0; i < SIZE; i++) {
		if (content[i] == expected[i])
			continue;
		printf("%s has not, or not any more, what was confirmed, at %zu\n", what, i);
		exit(1);
	}
}

static void make_room(void)
{
	while (*fillers)
		client_must(unlink(*fillers++) ? errno : 0, "unlink");
	client_must(syncfs(file.fd) ? errno : 0, "syncfs");
}

static void confirm(int sock)
{
	struct msg m;

	client_prepare(&m, MSG_SYNC, &file, 0);
	m.flags = SYNC_DURABLE;
	client_must(client_ask(sock, &m, NULL, 0, NULL), "SYNC");
}

static void forget(int fds[PROTO_FDS])
{
	for (int i = 0; i < 2; i++)
		close(fds[i]);
}

/* Staged, and then sealed by a worker that dies over it. */
static void leave_sealed(int ret_fds[PROTO_FDS])
{
	pid_t worker;
	const int sock = client_must_become(keeper, 1, 60000, &worker);
	uint64_t id;

	client_must(client_take(sock, MSG_STAGE, &file, &id, ret_fds), "STAGE");
	client_must(client_put_in_force(sock, &file, id, ret_fds[0]), "COMMIT");
	put_all(ret_fds[0], OLD);
	client_must(fcntl(ret_fds[0], F_ADD_SEALS, F_SEAL_WRITE) ? errno : 0, "seal");
	kill(worker, SIGKILL);
	close(sock);
}

/* Until the end. */
static void stage_beside(void)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	const int sock = client_must_become(keeper, 3, 60000, NULL);
	uint64_t id;

	client_must(client_take(sock, MSG_STAGE, &beside, &id, fds), "STAGE beside");
	client_must(client_put_in_force(sock, &beside, id, fds[0]), "COMMIT beside");
	forget(fds);
}

struct leaving {
	int sock;
	uint64_t id;
};

static bool let_go_of(void *arg)
{
	const struct leaving *l = arg;
	const int err = client_say(l->sock, MSG_RELEASE, &file, l->id);

	return err == 0 || err == -ENOENT;
}

static void store_and_confirm(void)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	struct leaving l = { .sock = client_must_become(keeper, 2, 60000, NULL) };

	client_must(client_take(l.sock, MSG_JOIN, &file, &l.id, fds), "JOIN");
	put_all(fds[0], NEW);
	make_room();
	confirm(l.sock);
	forget(fds);
	client_must(poll_until(let_go_of, &l, 20000) ? 0 : EBUSY, "still staged");
	close(l.sock);
}

/* The same memory, whoever comes with it. */
static int hand_in(uint64_t number, int fds[PROTO_FDS], uint64_t *ret_id)
{
	const int sock = client_must_become(keeper, number, 60000, NULL);

	client_must(client_take(sock, MSG_ATTACH, &file, ret_id, fds), "ATTACH");
	return sock;
}

/* In memory that can be mapped for writing, and has what the file has. A store that changes
 * little of a page takes nothing back. */
static void goes_on_in(int sock, int memory)
{
	client_must(memory < 0 || fcntl(memory, F_GET_SEALS) & F_SEAL_WRITE ? EPERM : 0,
		    "sealed");
	holds("memory", memory);
	put_one(memory);
	confirm(sock);
	holds("memory", memory);
	holds("the file", file.fd);
}

/* By the one that handed it in. */
static void give_back(int fds[PROTO_FDS])
{
	uint64_t id;
	const int sock = hand_in(1, fds, &id);

	client_must(client_say(sock, MSG_RETIRE, &file, id), "RETIRE");
	close(sock);
}

static void somebody_joins(int fds[PROTO_FDS])
{
	int theirs[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id;
	const int first = hand_in(1, fds, &id),
		  sock = client_must_become(keeper, 4, 60000, NULL);

	client_must(client_take(sock, MSG_JOIN, &file, &id, theirs), "JOIN");
	goes_on_in(sock, theirs[0]);
	forget(theirs);
	close(first);
	close(sock);
}

static void giving_back_is_refused(int fds[PROTO_FDS])
{
	int next[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id, other;
	const int sock = hand_in(1, fds, &id), second = hand_in(5, fds, &other);
	struct msg m;

	client_must(id == other ? 0 : EBADF, "the same segment");
	client_prepare(&m, MSG_RETIRE, &file, id);
	client_must(client_ask(sock, &m, NULL, 0, next) == -EBUSY ? 0 : EPROTO,
		    "RETIRE by one of two");
	goes_on_in(sock, next[0]);
	close(next[0]);
	close(second);
	close(sock);
}

static void somebody_writes_meanwhile(int fds[PROTO_FDS])
{
	int theirs[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id;
	const int first = hand_in(1, fds, &id),
		  sock = client_must_become(keeper, 4, 60000, NULL);

	make_room();
	confirm(first);
	holds("the file", file.fd);
	put_one(file.fd);
	usleep(500 * 1000); /* a pass hears of it, and has nothing to bring it to */
	client_must(client_take(sock, MSG_JOIN, &file, &id, theirs), "JOIN");
	confirm(sock);
	goes_on_in(sock, theirs[0]);
	forget(theirs);
	close(first);
	close(sock);
}

static int copy_of(int memory)
{
	const int copy = client_copy_of(memory, SIZE);

	client_must(copy < 0 ? errno : 0, "copy");
	return copy;
}

static void brings_a_copy(int fds[PROTO_FDS])
{
	int theirs[PROTO_FDS] = { copy_of(fds[0]), fds[1], -1 };
	uint64_t id;
	const int first = hand_in(1, fds, &id), second = hand_in(1, theirs, &id);

	put_one(theirs[0]);
	make_room();
	confirm(second);
	holds("memory", theirs[0]);
	close(theirs[0]);
	close(first);
	close(second);
}

/* What it stored is all that differs from what it was told last. */
static void brings_a_copy_of_superseded_memory(int fds[PROTO_FDS])
{
	int theirs[PROTO_FDS] = { copy_of(fds[0]), fds[1], fds[0] };
	static unsigned char page[4096], content[SIZE];
	const size_t at = AT / sizeof(page) * sizeof(page);
	uint64_t id;
	int sock;

	client_must(pread(theirs[0], page, sizeof(page), (off_t)at) == sizeof(page) ? 0 : EIO,
		    "read");
	page[AT - at] ^= 0xff;
	put(theirs[0], page + (AT - at), 1, AT);
	sock = hand_in(1, theirs, &id);
	confirm(sock);
	/* Of the page that both have changed nobody can say. */
	client_must(pread(file.fd, content, SIZE, 0) == SIZE ? 0 : EIO, "read");
	memcpy(expected + at, content + at, sizeof(page));
	holds("the file", file.fd);
	close(sock);
}

int main(int argc, char **argv)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };

	if (argc < 4)
		return 2;
	while (strcmp(hows[how], argv[1]))
		if (++how == HOWS)
			return 2;
	keeper = argv[2];
	fillers = argv + 4;
	client_must(client_open(&file, argv[3]), argv[3]);
	file.size = SIZE;
	beside = file;
	beside.off = SIZE;
	leave_sealed(fds);
	if (how == JOINED || how == REFUSED)
		stage_beside();
	if (how < OUTSIDE || how == COPIED)
		store_and_confirm();
	switch (how) {
	case JOINED:
		somebody_joins(fds);
		break;
	case REFUSED:
		giving_back_is_refused(fds);
		break;
	case OUTSIDE:
		somebody_writes_meanwhile(fds);
		break;
	case ANSWERED:
		brings_a_copy(fds);
		break;
	case COPIED:
		brings_a_copy_of_superseded_memory(fds);
		break;
	default:
		give_back(fds);
	}
	holds("the file", file.fd);
	return 0;
}
