// SPDX-License-Identifier: MIT
/*
 * givenback SOCKET FILE
 *
 * Clients of the keeper, of a FILE the end of which is staged all the time. When the beginning
 * is staged, too, the keeper finds out that nobody else maps FILE, and believes that for a
 * moment. Within that moment
 *
 *   - the memory is given back, so that its client maps the file itself again, or
 *   - a client asks for the middle, of which there is nothing, and maps that.
 *
 * Whoever else wants to stage that part is refused; who maps it himself is not. No page is
 * touched through these mappings: that would be seen without knowing of them. Exit status 0 if
 * it is so.
 */
#include "client.h"

#define PART  (64 * KIB)
#define FRESH 200 /* ms that the keeper believes it for */
#define TRIES 50

static const char *keeper;
static struct client_file beginning, middle, end;

static uint64_t stage(int sock, const struct client_file *f)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id;

	client_must(client_take(sock, MSG_STAGE, f, &id, fds), "STAGE");
	client_must(client_put_in_force(sock, f, id, fds[0]), "COMMIT");
	close(fds[0]);
	close(fds[1]);
	return id;
}

/* Not more than that: what comes of it is -errno, or nothing. */
static int may_stage(int sock, const struct client_file *f)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, err;
	uint64_t id;

	err = client_take(sock, MSG_STAGE, f, &id, fds);
	if (err)
		return err;
	close(fds[0]);
	close(fds[1]);
	return client_say(sock, MSG_ABORT, f, id);
}

static void *map(const struct client_file *f)
{
	void *p = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, (off_t)f->off);

	client_must(p == MAP_FAILED ? errno : 0, "mmap");
	return p;
}

/* Another process: tries to stage what it is told. */
static int orders[2], answers[2];

static void other(void)
{
	const int sock = client_must_become(keeper, 3, 60000, NULL);
	const struct client_file *f;
	int err;

	close(orders[1]);
	while (read(orders[0], &f, sizeof(f)) == sizeof(f)) {
		err = may_stage(sock, f);
		client_must(write(answers[1], &err, sizeof(err)) == sizeof(err) ? 0 : errno,
			    "answer");
	}
	exit(0);
}

static int other_may_stage(const struct client_file *f)
{
	int err;

	client_must(write(orders[1], &f, sizeof(f)) == sizeof(f) ? 0 : errno, "order");
	client_must(read(answers[0], &err, sizeof(err)) == sizeof(err) ? 0 : EPIPE,
		    "the other one");
	return err;
}

static void nothing_to_join(int sock, const struct client_file *f)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id;

	client_must(client_take(sock, MSG_JOIN, f, &id, fds) == -ENOENT ? 0 : EEXIST, "JOIN");
}

/* False: it took so long that the keeper would have looked in any case. */
static bool is_seen(int sock, bool given_back)
{
	const struct client_file *f = given_back ? &beginning : &middle;
	const uint64_t begun = now_ms();
	const uint64_t id = stage(sock, &beginning);
	uint64_t took;
	void *at;
	int err;

	if (given_back)
		client_must(client_say(sock, MSG_RETIRE, f, id), "RETIRE");
	else
		nothing_to_join(sock, f);
	at = map(f);
	err = other_may_stage(f);
	took = now_ms() - begun;
	if (err != -EUSERS) {
		printf("another one stages what is mapped %s: %s\n",
		       given_back ? "since it was given back" : "by who found nothing staged",
		       strerror(-err));
		exit(1);
	}
	client_must(may_stage(sock, f), "STAGE by who maps it");
	client_must(munmap(at, f->size) ? errno : 0, "munmap");
	if (!given_back)
		client_must(client_say(sock, MSG_RETIRE, &beginning, id), "RETIRE");
	return took < FRESH;
}

static void must_be_seen(int sock, bool given_back)
{
	for (int i = 0; i < TRIES; i++)
		if (is_seen(sock, given_back))
			return;
	client_must(ETIME, "never within a moment");
}

int main(int argc, char **argv)
{
	int sock;

	if (argc != 3)
		return 2;
	keeper = argv[1];
	client_must(client_open(&beginning, argv[2]), argv[2]);
	client_must(beginning.size < 3 * PART ? EINVAL : 0, "FILE is too small");
	beginning.size = PART;
	middle = end = beginning;
	middle.off = PART;
	end.off = 2 * PART;
	client_must(pipe(orders) || pipe(answers) ? errno : 0, "pipe");
	if (fork() == 0)
		other();
	close(orders[0]);
	close(answers[1]);
	(void)stage(client_must_become(keeper, 1, 60000, NULL), &end);
	sock = client_must_become(keeper, 2, 60000, NULL);
	must_be_seen(sock, true);
	must_be_seen(sock, false);
	return 0;
}
