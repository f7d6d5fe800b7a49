// SPDX-License-Identifier: MIT
/*
 * stranger SOCKET FILE
 *
 * Clients of the keeper that want memory given back to FILE, which holds OLD, that is not
 * theirs to give back: such as has not come into force yet, is used by another one only, was
 * let go of, or is of another worker's time. Each is told that there is none, nothing is sealed
 * or written, and who does use it goes on. Nor is there memory for a file by a descriptor that
 * may not write it, nor a window of any size. Exit status 0 if that is so.
 */
#include "client.h"

#define SIZE (64 * KIB)

static const char *keeper;
static struct client_file file;
static pid_t worker;

static void wants(const char *what, int answer, int wanted)
{
	if (answer == wanted)
		return;
	printf("%s: %s and not %s\n", what, strerrorname_np(abs(answer)),
	       strerrorname_np(abs(wanted)));
	exit(1);
}

/* No pass comes by itself; one that asked for a longer time than there is, as well. */
static int become(uint64_t number)
{
	const int sock = client_become(keeper, number, UINT64_MAX, &worker);

	wants("HELLO", sock < 0 ? -ETIMEDOUT : 0, 0);
	return sock;
}

static void file_holds(unsigned seed)
{
	static unsigned char content[SIZE];

	if (pread(file.fd, content, SIZE, 0) == (ssize_t)SIZE &&
	    differs(content, SIZE, 0, seed) < 0)
		return;
	printf("the file does not hold pattern %u\n", seed);
	exit(1);
}

static void not_sealed(int memory)
{
	wants("the memory", fcntl(memory, F_GET_SEALS) & F_SEAL_WRITE ? -EPERM : 0, 0);
}

static void refused(const char *what, int sock, uint64_t id, int memory)
{
	wants(what, client_say(sock, MSG_RETIRE, &file, id), -ENOENT);
	not_sealed(memory);
	file_holds(OLD);
}

static void visit(int sock, uint64_t id)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	uint64_t joined;

	wants("JOIN", client_take(sock, MSG_JOIN, &file, &joined, fds), 0);
	wants("joined the other one", joined == id ? 0 : -EBADF, 0);
	wants("RETIRE by one of two", client_say(sock, MSG_RETIRE, &file, id), -EBUSY);
	file_holds(OLD);
}

static void leave(int sock, uint64_t id)
{
	struct msg m;

	client_prepare(&m, MSG_RELEASE, &file, id);
	m.flags = RELEASE_VISIT;
	wants("RELEASE", client_ask(sock, &m, NULL, 0, NULL), -EBUSY);
}

/* A descriptor that does not let its owner write the file says nothing of what he may do. */
static void may_not_write(int sock)
{
	static const int how[] = { O_PATH, O_RDONLY, O_WRONLY };
	struct client_file f = file;
	int fds[PROTO_FDS] = { -1, -1, -1 };
	uint64_t id;

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		f.fd = open(file.name, how[i] | O_CLOEXEC);
		wants("open", f.fd < 0 ? -errno : 0, 0);
		wants("STAGE of what may not be written",
		      client_take(sock, MSG_STAGE, &f, &id, fds), -EBADF);
		close(f.fd);
	}
}

/* The keeper takes time and memory for each page of a window, of which a file of holes has as
 * many as one likes. */
static void may_not_reach_far(int sock)
{
	int fds[PROTO_FDS] = { -1, -1, -1 };
	struct client_file f = file;
	uint64_t id;
	struct msg m;

	wants("ftruncate", ftruncate(file.fd, SIZE + 2 * LARGEST_FOLIO) < 0 ? -errno : 0, 0);
	wants("STAGE", client_take(sock, MSG_STAGE, &f, &id, fds), 0);
	f.size = SIZE + LARGEST_FOLIO;
	client_prepare(&m, MSG_CLEAN, &f, id);
	wants("CLEAN of a window", client_ask(sock, &m, NULL, 0, NULL), 0);
	f.size += page_size();
	client_prepare(&m, MSG_CLEAN, &f, id);
	wants("CLEAN of a window that reaches far", client_ask(sock, &m, NULL, 0, NULL),
	      -EINVAL);
	client_prepare(&m, MSG_COMMIT, &f, id);
	wants("COMMIT of a window that reaches far", client_ask(sock, &m, NULL, 0, NULL),
	      -EINVAL);
}

int main(int argc, char **argv)
{
	int fds[PROTO_FDS] = { -1, -1, -1 }, owner, other;
	unsigned char *map;
	uint64_t id;

	if (argc != 3)
		return 2;
	keeper = argv[1];
	wants(argv[2], -client_open(&file, argv[2]), 0);
	owner = become(1);
	other = become(2);
	may_not_write(owner);
	wants("STAGE", client_take(owner, MSG_STAGE, &file, &id, fds), 0);
	refused("RETIRE of what is not in force", owner, id, fds[0]);
	wants("COMMIT", client_put_in_force(owner, &file, id, fds[0]), 0);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	wants("mmap", map == MAP_FAILED ? -errno : 0, 0);
	fill(map, SIZE, 0, NEW);
	refused("RETIRE of another's", other, id, fds[0]);
	visit(other, id);
	leave(other, id);
	refused("RETIRE of what was let go of", other, id, fds[0]);
	usleep(500000);
	file_holds(OLD);

	/* The next worker has it by the same number, and nobody who uses it. */
	kill(worker, SIGKILL);
	close(owner);
	owner = become(1);
	wants("RETIRE of another worker's", client_say(owner, MSG_RETIRE, &file, id), -ENOENT);
	not_sealed(fds[0]);
	wants("ATTACH", client_take(owner, MSG_ATTACH, &file, &id, fds), 0);
	fill(map, SIZE, 0, NEWER);
	wants("munmap", munmap(map, SIZE), 0);
	wants("RETIRE", client_say(owner, MSG_RETIRE, &file, id), 0);
	file_holds(NEWER);
	may_not_reach_far(owner);
	return 0;
}
