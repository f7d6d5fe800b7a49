// SPDX-License-Identifier: MIT
/*
 * slowly fill SOCKET FILE
 * slowly turn SOCKET FILE
 *
 * fill: a client of the keeper that takes its time to fill a segment, and somebody else who
 * writes to the file meanwhile, to a page that was copied already, and has that on the disk
 * before the segment comes into force. Passes come and go, and find nothing that they could
 * bring it to. Exit status 0 if it is in memory soon after, with COPIED and without.
 *
 * turn: somebody has the turn over the file for as long as it takes on a busy machine, and a
 * pass waits for it. That costs no processor: what is written to the file after that is in
 * memory soon, too.
 */
#include "client.h"

#include "common/board.h"

#define AFTER_MS 5000 /* of an interval of 10 */

static struct client_file file;

static void copy(int memory)
{
	char page[4096];

	for (off_t at = 0; at < (off_t)file.size; at += (off_t)sizeof(page))
		client_must(pread(file.fd, page, sizeof(page), at) == sizeof(page) &&
					    pwrite(memory, page, sizeof(page), at) ==
						    sizeof(page)
				    ? 0
				    : EIO,
			    "copy");
}

static void somebody_writes(const char *what)
{
	client_must(pwrite(file.fd, what, strlen(what), 0) == (ssize_t)strlen(what) ? 0 : errno,
		    "write");
	client_must(fdatasync(file.fd) ? errno : 0, "fdatasync");
	usleep(500 * 1000); /* tens of passes */
}

struct there {
	int memory;
	const char *what;
};

static bool is_there(void *arg)
{
	const struct there *t = arg;
	char is[64];

	return pread(t->memory, is, strlen(t->what), 0) == (ssize_t)strlen(t->what) &&
	       !memcmp(is, t->what, strlen(t->what));
}

static int stage(int sock, int got[PROTO_FDS], uint64_t *ret_id)
{
	client_must(client_take(sock, MSG_STAGE, &file, ret_id, got), "STAGE");
	client_must(client_say(sock, MSG_CLEAN, &file, *ret_id), "CLEAN");
	copy(got[0]);
	return got[0];
}

static void retire(int sock, int got[PROTO_FDS], uint64_t id)
{
	client_must(client_say(sock, MSG_RETIRE, &file, id), "RETIRE");
	close(got[0]);
	close(got[1]);
	close(sock);
}

static void stage_slowly(const char *keeper, uint64_t number, const char *what, bool say_copied)
{
	int got[PROTO_FDS] = { -1, -1, -1 };
	struct there t = { .what = what };
	pid_t worker;
	const int sock = client_become(keeper, number, 10, &worker);
	struct msg m;
	uint64_t id;

	t.memory = stage(sock, got, &id);
	if (say_copied) {
		client_prepare(&m, MSG_COPIED, &file, id);
		m.len = 4096;
		client_must(client_send(sock, &m, NULL, 0), "COPIED");
	}
	somebody_writes(what);
	client_must(client_say(sock, MSG_COMMIT, &file, id), "COMMIT");
	if (!poll_until(is_there, &t, AFTER_MS)) {
		printf("memory does not have what was written%s\n",
		       say_copied ? ", with COPIED" : "");
		exit(1);
	}
	retire(sock, got, id);
}

/* Every turn that there is, until it is closed. */
static int take_turns(const char *keeper)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char board[128];
	int fd;

	snprintf(board, sizeof(board), "%.*s/" BOARD_NAME, (int)(strrchr(keeper, '/') - keeper),
		 keeper);
	fd = open(board, O_RDWR | O_CLOEXEC);
	client_must(fd < 0 ? errno : 0, board);
	client_must(fcntl(fd, F_OFD_SETLKW, &all) < 0 ? errno : 0, "the turn");
	return fd;
}

static void wait_for_a_turn(const char *keeper)
{
	int got[PROTO_FDS] = { -1, -1, -1 }, turns;
	struct there t = { .what = "written in somebody's turn" };
	pid_t worker;
	const int sock = client_become(keeper, 3, 10, &worker);
	uint64_t id;

	t.memory = stage(sock, got, &id);
	client_must(client_say(sock, MSG_COMMIT, &file, id), "COMMIT");
	turns = take_turns(keeper);
	somebody_writes(t.what);
	client_must(is_there(&t) ? EEXIST : 0, "no pass waits");
	close(turns);
	client_must(poll_until(is_there, &t, AFTER_MS) ? 0 : ETIME, t.what);
	t.what = "written after that ...";
	somebody_writes(t.what);
	client_must(poll_until(is_there, &t, AFTER_MS) ? 0 : ETIME, t.what);
	retire(sock, got, id);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	client_must(client_open(&file, argv[3]), argv[3]);
	if (!strcmp(argv[1], "turn")) {
		wait_for_a_turn(argv[2]);
		return 0;
	}
	stage_slowly(argv[2], 1, "written by somebody else", false);
	stage_slowly(argv[2], 2, "and once more, by another", true);
	return 0;
}
