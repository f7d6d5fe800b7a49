// SPDX-License-Identifier: MIT
/*
 * stuck SOCKET FILE
 *
 * Somebody shows the keeper a file of a file system that does not answer any more (one of ours,
 * by FUSE, mounted in FILE's place). That is for whoever waits for it: exit status 0 if another
 * client of the keeper is answered meanwhile, 77 without FUSE.
 */
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "client.h"

#define INODE 2

static int device;
static pid_t server;

static void reply(const struct fuse_in_header *to, const void *what, size_t size)
{
	struct {
		struct fuse_out_header head;
		char body[512];
	} out = { { (uint32_t)(sizeof(out.head) + size), 0, to->unique }, "" };

	memcpy(out.body, what, size);
	client_must(write(device, &out, out.head.len) < 0 ? errno : 0, "FUSE");
}

static struct fuse_attr attributes(uint64_t inode)
{
	return (struct fuse_attr){ .ino = inode,
				   .size = inode == INODE ? 65536 : 0,
				   .mode = inode == INODE ? S_IFREG | 0600 : S_IFDIR | 0700,
				   .nlink = 1,
				   .blksize = 4096 };
}

/* Of the file nothing is told but that it is there. */
static void serve(void)
{
	static char in[1 << 20];
	const struct fuse_in_header *head = (const void *)in;
	const struct fuse_init_out begin = { .major = FUSE_KERNEL_VERSION,
					     .minor = FUSE_KERNEL_MINOR_VERSION,
					     .max_write = 65536 };
	const struct fuse_entry_out entry = { .nodeid = INODE,
					      .entry_valid = 3600,
					      .attr = attributes(INODE) };
	const struct fuse_attr_out root = { .attr = attributes(FUSE_ROOT_ID) };
	const struct fuse_open_out opened = { .fh = 1 };

	while (read(device, in, sizeof(in)) > 0) {
		if (head->opcode == FUSE_INIT)
			reply(head, &begin, sizeof(begin));
		else if (head->opcode == FUSE_LOOKUP)
			reply(head, &entry, sizeof(entry));
		else if (head->opcode == FUSE_OPEN)
			reply(head, &opened, sizeof(opened));
		else if (head->opcode == FUSE_GETATTR && head->nodeid == FUSE_ROOT_ID)
			reply(head, &root, sizeof(root));
	}
}

static void mount_ours(const char *dir)
{
	char options[128];

	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
	if (device < 0 || mount("pinstage", dir, "fuse", 0, options) < 0) {
		printf("cannot: this kernel has no FUSE: %s\n", strerror(errno));
		exit(77);
	}
	/* Who waits for it waits as long as it lives. */
	server = fork();
	if (server == 0) {
		alarm(20);
		serve();
		_exit(1);
	}
	close(device);
}

/* Not by fstat(), which would ask our file system. */
static void open_ours(const char *dir, struct client_file *f)
{
	char path[PATH_MAX];
	struct statx sx;

	snprintf(path, sizeof(path), "%s/file", dir);
	f->name = "file";
	f->size = 65536;
	f->fd = open(path, O_RDWR | O_CLOEXEC);
	client_must(f->fd < 0 || statx(f->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO,
				       &sx) < 0
			    ? errno
			    : 0,
		    path);
	f->key = (struct inode_key){ makedev(sx.stx_dev_major, sx.stx_dev_minor), sx.stx_ino };
}

int main(int argc, char **argv)
{
	struct client_file file = { 0 };
	struct msg m;
	int sock;

	if (argc != 3)
		return 2;
	client_must(unlink(argv[2]) || mkdir(argv[2], 0700) ? errno : 0, argv[2]);
	mount_ours(argv[2]);
	open_ours(argv[2], &file);
	sock = client_must_become(argv[1], 1, 60000, NULL);
	client_prepare(&m, MSG_STAGE, &file, 0);
	client_must(client_send(sock, &m, &file.fd, 1), "STAGE");
	usleep(200 * 1000);
	alarm(10);
	(void)client_must_become(argv[1], 2, 60000, NULL);
	kill(server, SIGKILL);
	return 0;
}
