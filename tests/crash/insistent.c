// SPDX-License-Identifier: MIT
/*
 * insistent pass SOCKET FILE
 * insistent others SOCKET FILE
 * insistent behind SOCKET FILE
 * insistent crowd SOCKET FILE
 *
 * Clients of the keeper that ask it to sync the same page again and again, several at a time,
 * so that there is never a moment without a question.
 *
 * pass: what is stored elsewhere in FILE is in it all the same after a while, as if nobody
 * asked.
 *
 * others: they ask about as many files beside FILE as the keeper has threads for. Who asks
 * about FILE gets an answer, too.
 *
 * behind: nobody is insistent, but two questions come in the same moment, and the keeper has
 * one thread that waits for any. What the one has to wait for the other has not.
 *
 * crowd: more come than the keeper may have descriptors. Who is there already is answered as
 * fast as ever.
 *
 * Exit status 0 if that is so.
 */
#include <pthread.h>

#include "client.h"

#include "common/board.h"

#define ASK_AT_ONCE 4	 /* of a file */
#define AHEAD	    4	 /* questions, of the answer */
#define FILES	    4	 /* as many as threads */
#define WITHIN_MS   5000 /* of an interval of 100 */
#define PAGE	    4096

static const char *keeper;
static struct client_file file, other[FILES];

struct asker {
	struct client_file *file;
	int memory;
};

static void *ask_and_ask(void *arg)
{
	const struct asker *a = arg;
	const struct client_file *f = a->file;
	const int sock = client_must_become(keeper, f->key.ino, 100, NULL);
	int none[PROTO_FDS];
	struct msg m;

	for (unsigned n = 0;; n++) {
		client_must(pwrite(a->memory, &n, sizeof(n), 0) == sizeof(n) ? 0 : errno,
			    "store");
		client_prepare(&m, MSG_SYNC, f, 0);
		m.len = PAGE;
		m.flags = SYNC_DURABLE;
		client_must(client_send(sock, &m, NULL, 0), "SYNC, again and again");
		if (n >= AHEAD)
			client_must(client_receive(sock, &m, none), "its answer");
	}
	return NULL;
}

static void insist(struct client_file *f, int memory)
{
	struct asker *a = malloc(sizeof(*a));
	pthread_t thread;

	*a = (struct asker){ f, memory };
	for (int i = 0; i < ASK_AT_ONCE; i++)
		client_must(pthread_create(&thread, NULL, ask_and_ask, a), "thread");
	usleep(300 * 1000);
}

/* Comes to the memory. */
static int stage(int sock, const struct client_file *f)
{
	int got[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id;

	client_must(client_take(sock, MSG_STAGE, f, &id, got), "STAGE");
	client_must(client_put_in_force(sock, f, id, got[0]), "COMMIT");
	return got[0];
}

static const char stored[] = "stored";

static bool is_in_file(void *arg)
{
	char is[sizeof(stored)];

	(void)arg;
	return pread(file.fd, is, sizeof(is), 2 * PAGE) == sizeof(is) &&
	       !memcmp(is, stored, sizeof(is));
}

static void store_behind_their_back(void)
{
	const int sock = client_must_become(keeper, 1, 100, NULL), memory = stage(sock, &file);

	insist(&file, memory);
	client_must(pwrite(memory, stored, sizeof(stored), 2 * PAGE) == sizeof(stored) ? 0
										       : errno,
		    "store");
	client_must(poll_until(is_in_file, NULL, WITHIN_MS) ? 0 : ETIME, "no pass comes");
}

/* The i-th, beside FILE. Comes to the memory. */
static int stage_another(int sock, size_t i)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s.%zu", file.name, i);
	client_must(close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)), path);
	client_must(truncate(path, (off_t)file.size), path);
	client_must(client_open(&other[i], strdup(path)), path);
	return stage(sock, &other[i]);
}

static void wait_for_answer(int sock)
{
	const struct timeval patience = { .tv_sec = WITHIN_MS / 1000 };
	int none[PROTO_FDS];
	struct msg m;

	client_must(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
		    "socket");
	client_must(client_receive(sock, &m, none), "the answer to who asks once");
	client_must(m.error, "SYNC");
}

static void ask_to_sync(int sock, const struct client_file *f)
{
	struct msg m;

	client_prepare(&m, MSG_SYNC, f, 0);
	client_must(client_send(sock, &m, NULL, 0), "SYNC");
}

static void be_one_of_many(void)
{
	const int sock = client_must_become(keeper, 1, 60000, NULL);
	int memory[FILES];

	stage(sock, &file);
	for (size_t i = 0; i < FILES; i++)
		memory[i] = stage_another(sock, i);
	for (size_t i = 0; i < FILES; i++)
		insist(&other[i], memory[i]);
	ask_to_sync(sock, &file);
	wait_for_answer(sock);
}

/* Every turn that there is. */
static void take_turns(void)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char board[PATH_MAX];
	int fd;

	snprintf(board, sizeof(board), "%.*s/" BOARD_NAME, (int)(strrchr(keeper, '/') - keeper),
		 keeper);
	fd = open(board, O_RDWR | O_CLOEXEC);
	client_must(fd < 0 || fcntl(fd, F_OFD_SETLKW, &all) < 0 ? errno : 0, board);
}

/* The first one has something to write, for which it needs a turn. */
static void come_behind(void)
{
	pid_t worker;
	const int first = client_must_become(keeper, 1, 60000, &worker);
	const int second = client_must_become(keeper, 2, 60000, NULL);
	const int memory = stage(first, &file);

	usleep(100 * 1000); /* the thread that did it waits */
	stage_another(second, 0);
	usleep(100 * 1000);
	take_turns();
	client_must(pwrite(memory, stored, sizeof(stored), 0) == sizeof(stored) ? 0 : errno,
		    "store");
	kill(worker, SIGSTOP);
	ask_to_sync(first, &file);
	ask_to_sync(second, &other[0]);
	kill(worker, SIGCONT);
	wait_for_answer(second);
}

static uint64_t ms_of_questions(int sock)
{
	struct timespec t[2];

	clock_gettime(CLOCK_MONOTONIC, &t[0]);
	for (int i = 0; i < 100; i++)
		client_must(client_say(sock, MSG_SYNC, &file, 0), "SYNC");
	clock_gettime(CLOCK_MONOTONIC, &t[1]);
	return (uint64_t)((t[1].tv_sec - t[0].tv_sec) * 1000 +
			  (t[1].tv_nsec - t[0].tv_nsec) / 1000000);
}

/* As many as find room in the queue of those whom nobody has accepted yet, and stay there. */
static void be_in_a_crowd(void)
{
	const int sock = client_must_become(keeper, 1, 60000, NULL);
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	uint64_t ms;

	stage(sock, &file);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", keeper);
	for (int i = 0, fd; i < 1200; i++) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		client_must(fd < 0 ? errno : 0, "socket");
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
			usleep(5000);
		if (i % 50 == 0)
			usleep(20000);
	}
	ms = ms_of_questions(sock);
	if (ms > 500) {
		printf("a hundred questions took %lu ms\n", ms);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	keeper = argv[2];
	client_must(client_open(&file, argv[3]), argv[3]);
	if (!strcmp(argv[1], "pass"))
		store_behind_their_back();
	else if (!strcmp(argv[1], "others"))
		be_one_of_many();
	else if (!strcmp(argv[1], "behind"))
		come_behind();
	else
		be_in_a_crowd();
	return 0;
}
