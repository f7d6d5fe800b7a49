/* SPDX-License-Identifier: MIT */
/* links: shim/common/rendezvous.c shim/common/sys.c shim/common/proto.c */
/* The places are fixed: these tests have a /run and a /tmp of their own. */
#include "unit.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/proto.h"
#include "common/rendezvous.h"

enum { SOMEBODY = 12345, SOMEBODY_ELSE = 54321 };

static const char *cannot;
static unsigned fds;

static int own_mounts(void **state)
{
	(void)state;
	if (geteuid() != 0)
		cannot = "only root can make mounts of its own";
	else if (unshare(CLONE_NEWNS) < 0 ||
		 mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
		cannot = "mounts of its own are refused";
	if (cannot)
		print_message("# %s\n", cannot);
	return 0;
}

/* Fresh ones for each test. */
static int fresh(void **state)
{
	(void)state;
	if (cannot)
		return 0;
	umask(022);
	assert_int_equal(mount("unit", "/run", "tmpfs", 0, "mode=755"), 0);
	assert_int_equal(mount("unit", "/tmp", "tmpfs", 0, "mode=1777"), 0);
	fds = open_fds();
	return 0;
}

static int gone(void **state)
{
	(void)state;
	if (cannot)
		return 0;
	assert_int_equal(open_fds(), fds);
	assert_int_equal(umount2("/run", MNT_DETACH), 0);
	return umount2("/tmp", MNT_DETACH);
}

#define NEEDS_MOUNTS()          \
	do {                    \
		(void)state;    \
		if (cannot)     \
			skip(); \
	} while (0)

static void make(const char *path, mode_t mode, uid_t uid)
{
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, mode), 0);
	assert_int_equal(chown(path, uid, uid), 0);
}

/* Opens, is at that place, closes. */
static void assert_opens(uid_t uid, int create, const char *path)
{
	struct stat a, b;
	int fd = rendezvous_open(uid, create);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(-fd));
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(lstat(path, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_dev, b.st_dev);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void open__not_there(void **state)
{
	NEEDS_MOUNTS();
	assert_int_equal(rendezvous_open(0, 0), -ENOENT);
	assert_int_equal(rendezvous_open(SOMEBODY, 0), -ENOENT);
	assert_int_equal(access("/run/pinstage", F_OK), -1);
}

static void open__made_for_the_owner_alone(void **state)
{
	struct stat st;

	NEEDS_MOUNTS();
	umask(0);
	assert_opens(0, 1, "/run/pinstage");
	assert_int_equal(stat("/run/pinstage", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(st.st_uid, 0);
	assert_opens(0, 1, "/run/pinstage");
	assert_opens(0, 0, "/run/pinstage");
}

static void open__not_open_to_others(void **state)
{
	static const mode_t mode[] = { 0701, 0702, 0704, 0710, 0720, 0740, 0755, 0777, 01777 };

	NEEDS_MOUNTS();
	for (size_t i = 0; i < sizeof(mode) / sizeof(mode[0]); i++) {
		make("/run/pinstage", mode[i], 0);
		make("/tmp/pinstage-12345", mode[i], SOMEBODY);
		for (int create = 0; create < 2; create++) {
			assert_int_equal(rendezvous_open(0, create), -EPERM);
			assert_int_equal(rendezvous_open(SOMEBODY, create), -EPERM);
		}
		rmdir("/run/pinstage");
		rmdir("/tmp/pinstage-12345");
	}
}

static void open__somebody_elses(void **state)
{
	NEEDS_MOUNTS();
	make("/run/pinstage", 0700, SOMEBODY);
	make("/tmp/pinstage-12345", 0700, SOMEBODY_ELSE);
	make("/tmp/pinstage-54321", 0700, 0);
	for (int create = 0; create < 2; create++) {
		assert_int_equal(rendezvous_open(0, create), -EPERM);
		assert_int_equal(rendezvous_open(SOMEBODY, create), -EPERM);
		assert_int_equal(rendezvous_open(SOMEBODY_ELSE, create), -EPERM);
	}
}

static void open__not_a_directory(void **state)
{
	NEEDS_MOUNTS();
	make("/run/good", 0700, 0);
	make("/tmp/good", 0700, SOMEBODY);
	assert_int_equal(symlink("good", "/run/pinstage"), 0);
	assert_int_equal(symlink("good", "/tmp/pinstage-12345"), 0);
	assert_int_equal(lchown("/tmp/pinstage-12345", SOMEBODY, SOMEBODY), 0);
	close(creat("/tmp/pinstage-54321", 0600));
	assert_int_equal(chown("/tmp/pinstage-54321", SOMEBODY_ELSE, SOMEBODY_ELSE), 0);
	for (int create = 0; create < 2; create++) {
		assert_int_equal(rendezvous_open(0, create), -EPERM);
		assert_int_equal(rendezvous_open(SOMEBODY, create), -EPERM);
		assert_int_equal(rendezvous_open(SOMEBODY_ELSE, create), -EPERM);
	}
}

static void open__directory_of_the_session(void **state)
{
	NEEDS_MOUNTS();
	make("/run/user", 0755, 0);
	make("/run/user/12345", 0700, SOMEBODY);
	assert_int_equal(rendezvous_open(SOMEBODY, 0), -ENOENT);
	make("/run/user/12345/pinstage", 0700, SOMEBODY);
	make("/tmp/pinstage-12345", 0700, SOMEBODY);
	assert_opens(SOMEBODY, 0, "/run/user/12345/pinstage");
	assert_opens(SOMEBODY, 1, "/run/user/12345/pinstage");
}

/* Such a directory is none; and what lies in it is nobody's proof. */
static void open__session_that_is_not_to_be_trusted(void **state)
{
	NEEDS_MOUNTS();
	make("/run/user", 0755, 0);
	make("/run/user/12345", 0755, SOMEBODY);
	make("/run/user/12345/pinstage", 0700, SOMEBODY);
	make("/tmp/pinstage-12345", 0700, SOMEBODY);
	assert_opens(SOMEBODY, 0, "/tmp/pinstage-12345");
	assert_int_equal(chmod("/run/user/12345", 0700), 0);
	assert_int_equal(chown("/run/user/12345", SOMEBODY_ELSE, SOMEBODY_ELSE), 0);
	assert_opens(SOMEBODY, 0, "/tmp/pinstage-12345");
	assert_int_equal(rename("/run/user/12345", "/run/user/real"), 0);
	assert_int_equal(chown("/run/user/real", SOMEBODY, SOMEBODY), 0);
	assert_int_equal(symlink("real", "/run/user/12345"), 0);
	assert_opens(SOMEBODY, 0, "/tmp/pinstage-12345");
}

static void open__environment_does_not_matter(void **state)
{
	NEEDS_MOUNTS();
	make("/tmp/other", 0700, 0);
	make("/tmp/other/pinstage", 0700, 0);
	setenv("XDG_RUNTIME_DIR", "/tmp/other", 1);
	setenv("TMPDIR", "/tmp/other", 1);
	setenv("HOME", "/tmp/other", 1);
	assert_int_equal(rendezvous_open(0, 0), -ENOENT);
	assert_opens(0, 1, "/run/pinstage");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("TMPDIR");
}

static int open_place(void)
{
	int dir = rendezvous_open(0, 1);

	assert_true(dir >= 0);
	return dir;
}

static void connect__nobody_listens(void **state)
{
	int dir, listener;

	NEEDS_MOUNTS();
	dir = open_place();
	assert_int_equal(rendezvous_connect(dir, 0), -ENOENT);
	listener = rendezvous_listen(dir);
	assert_true(listener >= 0);
	close(listener); /* and leaves the socket behind */
	assert_int_equal(rendezvous_connect(dir, 0), -ECONNREFUSED);
	close(dir);
}

static void connect__and_talk(void **state)
{
	int dir, listener, a, b;
	struct msg m;

	NEEDS_MOUNTS();
	dir = open_place();
	listener = rendezvous_listen(dir);
	assert_true(listener >= 0);
	assert_true(fcntl(listener, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(listener, F_GETFL) & O_NONBLOCK);
	assert_int_equal(accept(listener, NULL, NULL), -1);
	a = rendezvous_connect(dir, 0);
	assert_true(a >= 0);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	b = accept(listener, NULL, NULL);
	assert_true(b >= 0);
	msg_init(&m, MSG_HELLO);
	assert_int_equal(msg_send(a, &m, NULL, 0), 0);
	assert_int_equal(msg_recv(b, &m, NULL, 0), 0);
	assert_int_equal(m.type, MSG_HELLO);
	close(a);
	close(b);
	close(listener);
	close(dir);
}

static void listen__in_place_of_what_was(void **state)
{
	int dir, first, second, a;

	NEEDS_MOUNTS();
	dir = open_place();
	first = rendezvous_listen(dir);
	second = rendezvous_listen(dir);
	assert_true(first >= 0 && second >= 0);
	a = rendezvous_connect(dir, 0);
	assert_true(a >= 0);
	assert_int_equal(accept(first, NULL, NULL), -1);
	close(a);
	close(first);
	a = accept(second, NULL, NULL);
	assert_true(a >= 0);
	close(a);
	close(second);
	unlinkat(dir, RENDEZVOUS_SOCKET, 0);
	assert_int_equal(mkdirat(dir, RENDEZVOUS_SOCKET, 0700), 0);
	assert_int_equal(rendezvous_listen(dir), -EISDIR);
	close(dir);
}

static void connect__not_a_socket(void **state)
{
	int dir;

	NEEDS_MOUNTS();
	dir = open_place();
	close(openat(dir, RENDEZVOUS_SOCKET, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(rendezvous_connect(dir, 0), -ECONNREFUSED);
	close(dir);
	assert_true(rendezvous_connect(-1, 0) < 0);
	assert_true(rendezvous_listen(-1) < 0);
}

/* A socket on which a process of that user listens, wherever it came from. */
static int listen_as(int dir, uid_t uid)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/" RENDEZVOUS_SOCKET,
		 dir);
	unlink(sun.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(seteuid(uid), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(seteuid(0), 0);
	prctl(PR_SET_DUMPABLE, 1);
	return fd;
}

static void connect__checks_who_listens(void **state)
{
	static const struct {
		uid_t listener, wanted;
		bool ok;
	} row[] = { { 0, 0, true },
		    { 0, SOMEBODY, true }, /* root may serve anybody */
		    { SOMEBODY, SOMEBODY, true },
		    { SOMEBODY, 0, false },
		    { SOMEBODY, SOMEBODY_ELSE, false } };
	int dir, listener, fd;

	NEEDS_MOUNTS();
	dir = open_place();
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		listener = listen_as(dir, row[i].listener);
		fd = rendezvous_connect(dir, row[i].wanted);
		if (row[i].ok)
			assert_true(fd >= 0);
		else
			assert_int_equal(fd, -EPERM);
		if (fd >= 0)
			close(fd);
		close(listener);
	}
	close(dir);
}

#define T(f) cmocka_unit_test_setup_teardown(f, fresh, gone)

static const struct CMUnitTest tests[] = {
	T(open__not_there),
	T(open__made_for_the_owner_alone),
	T(open__not_open_to_others),
	T(open__somebody_elses),
	T(open__not_a_directory),
	T(open__directory_of_the_session),
	T(open__session_that_is_not_to_be_trusted),
	T(open__environment_does_not_matter),
	T(connect__nobody_listens),
	T(connect__and_talk),
	T(listen__in_place_of_what_was),
	T(connect__not_a_socket),
	T(connect__checks_who_listens),
};

UNIT_MAIN(tests, own_mounts, NULL)
