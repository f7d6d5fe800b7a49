/* SPDX-License-Identifier: MIT */
/*
 * The one table of hooks. A row makes: the slot for the original (real.<name>), the binder, the
 * stand-in used before binding, the exported symbol, its line in the version script and its
 * entry in the ABI test. The logic is on_<name>() in one of the hooks_*.c files.
 *
 *   H(library, return type, name, (parameters), (arguments), raw)
 *
 * `raw` is what to do when the original is not bound: the plain system call for libc, which is
 * needed while the loader is still starting the program, and an error for other libraries,
 * which may be loaded later or never.
 *
 * N() rows are the same, but never return.
 * V() rows are the same, but variadic: their exported symbol and stand-in are written by hand.
 * A() rows are 64-bit names of the same function; A64(alias, name).
 *
 * IBVERBS_1_1 are the functions of libibverbs that exist with two ABIs. We are the newer one,
 * and say so by that version; programs from before 2006 reach the original of the older one,
 * which calls the newer ones, and so comes by here, too.
 *
 * Deliberately not hooked:
 *   read, write and the like within libc (stdio, ...): libc calls itself without the PLT;
 *   fork: pthread_atfork() serves; vfork, posix_spawn: the child shares our memory and is
 *   recognised by its process ID; exit, quick_exit: a destructor and a handler serve;
 *   io_uring_enter: completions do not need us, staged memory stays where it is;
 *   ibv_reg_dmabuf_mr, ibv_reg_dm_mr: no memory of the process; ibv_import_mr: pinned already;
 *   rdma_reg_*, riomap: they come through ibv_reg_mr.
 */
#ifndef PINSTAGE_TABLE_H
#define PINSTAGE_TABLE_H

/* clang-format off */
#define PINSTAGE_HOOKS(H, N, V, A) \
	H(LIBC, void *, mmap, (void *addr, size_t len, int prot, int flags, int fd, off_t off), \
		(addr, len, prot, flags, fd, off), (void *)RAW(SYS_mmap, addr, len, prot, flags, fd, off)) \
	A(mmap64, mmap) \
	H(LIBC, int, munmap, (void *addr, size_t len), (addr, len), (int)RAW(SYS_munmap, addr, len)) \
	V(LIBC, void *, mremap, (void *addr, size_t old_len, size_t new_len, int flags, ...)) \
	H(LIBC, int, mprotect, (void *addr, size_t len, int prot), (addr, len, prot), \
		(int)RAW(SYS_mprotect, addr, len, prot)) \
	H(LIBC, int, pkey_mprotect, (void *addr, size_t len, int prot, int key), (addr, len, prot, key), \
		(int)RAW(SYS_pkey_mprotect, addr, len, prot, key)) \
	H(LIBC, int, madvise, (void *addr, size_t len, int advice), (addr, len, advice), \
		(int)RAW(SYS_madvise, addr, len, advice)) \
	H(LIBC, int, posix_madvise, (void *addr, size_t len, int advice), (addr, len, advice), \
		advice != POSIX_MADV_DONTNEED && RAW(SYS_madvise, addr, len, advice) < 0 ? errno : 0) \
	H(LIBC, ssize_t, process_madvise, \
		(int pidfd, const struct iovec *iov, size_t n, int advice, unsigned flags), \
		(pidfd, iov, n, advice, flags), RAW(SYS_process_madvise, pidfd, iov, n, advice, flags)) \
	H(LIBC, int, mlock, (const void *addr, size_t len), (addr, len), (int)RAW(SYS_mlock, addr, len)) \
	H(LIBC, int, mlock2, (const void *addr, size_t len, unsigned flags), (addr, len, flags), \
		(int)RAW(SYS_mlock2, addr, len, flags)) \
	H(LIBC, int, munlock, (const void *addr, size_t len), (addr, len), \
		(int)RAW(SYS_munlock, addr, len)) \
	H(LIBC, int, mlockall, (int flags), (flags), (int)RAW(SYS_mlockall, flags)) \
	H(LIBC, int, munlockall, (void), (), (int)RAW(SYS_munlockall, 0)) \
	H(LIBC, int, remap_file_pages, (void *addr, size_t len, int prot, size_t page, int flags), \
		(addr, len, prot, page, flags), (int)RAW(SYS_remap_file_pages, addr, len, prot, page, flags)) \
	H(LIBC, void *, shmat, (int id, const void *addr, int flags), (id, addr, flags), \
		(void *)RAW(SYS_shmat, id, addr, flags)) \
	H(LIBC, int, msync, (void *addr, size_t len, int flags), (addr, len, flags), \
		(int)RAW(SYS_msync, addr, len, flags)) \
	\
	H(LIBC, int, close, (int fd), (fd), (int)RAW(SYS_close, fd)) \
	H(LIBC, int, close_range, (unsigned int first, unsigned int last, int flags), (first, last, flags), \
		(int)RAW(SYS_close_range, first, last, flags)) \
	H(LIBC, void, closefrom, (int first), (first), (void)RAW(SYS_close_range, first, ~0U, 0)) \
	H(LIBC, int, dup2, (int fd, int to), (fd, to), plain_dup2(fd, to)) \
	H(LIBC, int, dup3, (int fd, int to, int flags), (fd, to, flags), (int)RAW(SYS_dup3, fd, to, flags)) \
	\
	H(LIBC, ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n), RAW(SYS_read, fd, buf, n)) \
	H(LIBC, ssize_t, pread, (int fd, void *buf, size_t n, off_t off), (fd, buf, n, off), \
		RAW(SYS_pread64, fd, buf, n, off)) \
	A(pread64, pread) \
	H(LIBC, ssize_t, readv, (int fd, const struct iovec *iov, int n), (fd, iov, n), \
		RAW(SYS_readv, fd, iov, n)) \
	H(LIBC, ssize_t, preadv, (int fd, const struct iovec *iov, int n, off_t off), (fd, iov, n, off), \
		RAW(SYS_preadv, fd, iov, n, off, 0)) \
	A(preadv64, preadv) \
	H(LIBC, ssize_t, preadv2, (int fd, const struct iovec *iov, int n, off_t off, int flags), \
		(fd, iov, n, off, flags), RAW(SYS_preadv2, fd, iov, n, off, 0, flags)) \
	A(preadv64v2, preadv2) \
	H(LIBC, off_t, lseek, (int fd, off_t off, int whence), (fd, off, whence), \
		RAW(SYS_lseek, fd, off, whence)) \
	A(lseek64, lseek) \
	V(LIBC, int, ioctl, (int fd, unsigned long request, ...)) \
	H(LIBC, ssize_t, __read_chk, (int fd, void *buf, size_t n, size_t room), (fd, buf, n, room), \
		RAW(SYS_read, fd, buf, n)) \
	H(LIBC, ssize_t, __pread_chk, (int fd, void *buf, size_t n, off_t off, size_t room), \
		(fd, buf, n, off, room), RAW(SYS_pread64, fd, buf, n, off)) \
	A(__pread64_chk, __pread_chk) \
	H(LIBC, ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n), RAW(SYS_write, fd, buf, n)) \
	H(LIBC, ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t off), (fd, buf, n, off), \
		RAW(SYS_pwrite64, fd, buf, n, off)) \
	A(pwrite64, pwrite) \
	H(LIBC, ssize_t, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n), \
		RAW(SYS_writev, fd, iov, n)) \
	H(LIBC, ssize_t, pwritev, (int fd, const struct iovec *iov, int n, off_t off), (fd, iov, n, off), \
		RAW(SYS_pwritev, fd, iov, n, off, 0)) \
	A(pwritev64, pwritev) \
	H(LIBC, ssize_t, pwritev2, (int fd, const struct iovec *iov, int n, off_t off, int flags), \
		(fd, iov, n, off, flags), RAW(SYS_pwritev2, fd, iov, n, off, 0, flags)) \
	A(pwritev64v2, pwritev2) \
	H(LIBC, int, ftruncate, (int fd, off_t len), (fd, len), (int)RAW(SYS_ftruncate, fd, len)) \
	A(ftruncate64, ftruncate) \
	H(LIBC, int, truncate, (const char *path, off_t len), (path, len), (int)RAW(SYS_truncate, path, len)) \
	A(truncate64, truncate) \
	H(LIBC, int, fallocate, (int fd, int mode, off_t off, off_t len), (fd, mode, off, len), \
		(int)RAW(SYS_fallocate, fd, mode, off, len)) \
	A(fallocate64, fallocate) \
	H(LIBC, int, posix_fallocate, (int fd, off_t off, off_t len), (fd, off, len), \
		RAW(SYS_fallocate, fd, 0, off, len) < 0 ? errno : 0) \
	A(posix_fallocate64, posix_fallocate) \
	H(LIBC, ssize_t, copy_file_range, \
		(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned int flags), \
		(in, in_off, out, out_off, n, flags), \
		RAW(SYS_copy_file_range, in, in_off, out, out_off, n, flags)) \
	H(LIBC, ssize_t, sendfile, (int out, int in, off_t *off, size_t n), (out, in, off, n), \
		RAW(SYS_sendfile, out, in, off, n)) \
	A(sendfile64, sendfile) \
	H(LIBC, ssize_t, splice, \
		(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned int flags), \
		(in, in_off, out, out_off, n, flags), \
		RAW(SYS_splice, in, in_off, out, out_off, n, flags)) \
	V(LIBC, int, open, (const char *path, int flags, ...)) \
	A(open64, open) \
	V(LIBC, int, openat, (int dir, const char *path, int flags, ...)) \
	A(openat64, openat) \
	H(LIBC, int, creat, (const char *path, mode_t perm), (path, perm), \
		(int)RAW(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, perm)) \
	A(creat64, creat) \
	H(LIBC, int, __open_2, (const char *path, int flags), (path, flags), \
		(int)RAW(SYS_openat, AT_FDCWD, path, flags, 0)) \
	A(__open64_2, __open_2) \
	H(LIBC, int, __openat_2, (int dir, const char *path, int flags), (dir, path, flags), \
		(int)RAW(SYS_openat, dir, path, flags, 0)) \
	A(__openat64_2, __openat_2) \
	H(LIBC, int, fsync, (int fd), (fd), (int)RAW(SYS_fsync, fd)) \
	H(LIBC, int, fdatasync, (int fd), (fd), (int)RAW(SYS_fdatasync, fd)) \
	H(LIBC, int, sync_file_range, (int fd, off_t off, off_t n, unsigned int flags), \
		(fd, off, n, flags), (int)RAW(SYS_sync_file_range, fd, off, n, flags)) \
	H(LIBC, int, syncfs, (int fd), (fd), (int)RAW(SYS_syncfs, fd)) \
	H(LIBC, void, sync, (void), (), (void)RAW(SYS_sync, 0)) \
	\
	H(LIBC, int, futimens, (int fd, const struct timespec times[2]), (fd, times), \
		(int)RAW(SYS_utimensat, fd, NULL, times, 0)) \
	H(LIBC, int, utimensat, (int dir, const char *path, const struct timespec times[2], int flags), \
		(dir, path, times, flags), (int)RAW(SYS_utimensat, dir, path, times, flags)) \
	H(LIBC, int, futimes, (int fd, const struct timeval times[2]), (fd, times), \
		plain_times(fd, NULL, times, 0)) \
	H(LIBC, int, utimes, (const char *path, const struct timeval times[2]), (path, times), \
		plain_times(AT_FDCWD, path, times, 0)) \
	H(LIBC, int, lutimes, (const char *path, const struct timeval times[2]), (path, times), \
		plain_times(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW)) \
	H(LIBC, int, futimesat, (int dir, const char *path, const struct timeval times[2]), \
		(dir, path, times), plain_times(dir, path, times, 0)) \
	H(LIBC, int, utime, (const char *path, const struct utimbuf *times), (path, times), \
		plain_utime(path, times)) \
	\
	H(LIBC, int, execve, (const char *path, char *const argv[], char *const envp[]), (path, argv, envp), \
		(int)RAW(SYS_execve, path, argv, envp)) \
	H(LIBC, int, execv, (const char *path, char *const argv[]), (path, argv), \
		(int)RAW(SYS_execve, path, argv, environ)) \
	H(LIBC, int, execvp, (const char *file, char *const argv[]), (file, argv), \
		(int)RAW(SYS_execve, file, argv, environ)) \
	H(LIBC, int, execvpe, (const char *file, char *const argv[], char *const envp[]), (file, argv, envp), \
		(int)RAW(SYS_execve, file, argv, envp)) \
	H(LIBC, int, fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp), \
		(int)RAW(SYS_execveat, fd, "", argv, envp, 0x1000 /* AT_EMPTY_PATH */)) \
	H(LIBC, int, execveat, \
		(int dir, const char *path, char *const argv[], char *const envp[], int flags), \
		(dir, path, argv, envp, flags), (int)RAW(SYS_execveat, dir, path, argv, envp, flags)) \
	V(LIBC, int, execl, (const char *path, const char *arg, ...)) \
	V(LIBC, int, execlp, (const char *file, const char *arg, ...)) \
	V(LIBC, int, execle, (const char *path, const char *arg, ...)) \
	H(LIBC, int, setuid, (uid_t uid), (uid), (int)RAW(SYS_setuid, uid)) \
	H(LIBC, int, seteuid, (uid_t uid), (uid), (int)RAW(SYS_setresuid, -1, uid, -1)) \
	H(LIBC, int, setreuid, (uid_t uid, uid_t effective), (uid, effective), \
		(int)RAW(SYS_setreuid, uid, effective)) \
	H(LIBC, int, setresuid, (uid_t uid, uid_t effective, uid_t kept), (uid, effective, kept), \
		(int)RAW(SYS_setresuid, uid, effective, kept)) \
	N(LIBC, void, _exit, (int status), (status), (void)RAW(SYS_exit_group, status)) \
	N(LIBC, void, _Exit, (int status), (status), (void)RAW(SYS_exit_group, status)) \
	\
	V(LIBC, long, syscall, (long nr, ...)) \
	\
	H(LIBURING, int, io_uring_register_buffers, \
		(struct io_uring *ring, const struct iovec *iov, unsigned n), (ring, iov, n), -ENOSYS) \
	H(LIBURING, int, io_uring_register_buffers_tags, \
		(struct io_uring *ring, const struct iovec *iov, const __u64 *tags, unsigned n), \
		(ring, iov, tags, n), -ENOSYS) \
	H(LIBURING, int, io_uring_register_buffers_sparse, (struct io_uring *ring, unsigned n), (ring, n), \
		-ENOSYS) \
	H(LIBURING, int, io_uring_register_buffers_update_tag, \
		(struct io_uring *ring, unsigned off, const struct iovec *iov, const __u64 *tags, unsigned n), \
		(ring, off, iov, tags, n), -ENOSYS) \
	H(LIBURING, int, io_uring_unregister_buffers, (struct io_uring *ring), (ring), -ENOSYS) \
	H(LIBURING, int, io_uring_register, \
		(unsigned int fd, unsigned int opcode, const void *arg, unsigned int n), (fd, opcode, arg, n), \
		-ENOSYS) \
	\
	H(IBVERBS_1_1, struct ibv_mr *, ibv_reg_mr, \
		(struct ibv_pd *pd, void *addr, size_t length, int access), (pd, addr, length, access), \
		(errno = ENOSYS, NULL)) \
	H(IBVERBS, struct ibv_mr *, ibv_reg_mr_iova, \
		(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access), \
		(pd, addr, length, iova, access), (errno = ENOSYS, NULL)) \
	H(IBVERBS, struct ibv_mr *, ibv_reg_mr_iova2, \
		(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access), \
		(pd, addr, length, iova, access), (errno = ENOSYS, NULL)) \
	H(IBVERBS, struct ibv_mr *, ibv_reg_mr_ex, (struct ibv_pd *pd, struct ibv_mr_init_attr *attr), \
		(pd, attr), (errno = ENOSYS, NULL)) \
	H(IBVERBS, int, ibv_rereg_mr, \
		(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length, int access), \
		(mr, flags, pd, addr, length, access), (errno = ENOSYS, IBV_REREG_MR_ERR_INPUT)) \
	H(IBVERBS_1_1, int, ibv_dereg_mr, (struct ibv_mr *mr), (mr), ENOSYS) \
	H(IBVERBS_1_1, int, ibv_close_device, (struct ibv_context *context), (context), \
		(errno = ENOSYS, -1))
/* clang-format on */

/* Ours rather than anybody's original: what include/pinstage.h finds. */
#define PINSTAGE_API(X)       \
	X(pinstage_abi_query) \
	X(pinstage_abi_sync) X(pinstage_abi_release) X(pinstage_abi_version)

#ifdef PINSTAGE_TABLE_ONLY
#define EXPORT_H(library, type, name, ...) export library name;
#define EXPORT_A(alias, name)		   export LIBC alias;
#define EXPORT_API(name)		   export API name;
PINSTAGE_HOOKS(EXPORT_H, EXPORT_H, EXPORT_H, EXPORT_A)
PINSTAGE_API(EXPORT_API)
#endif

#endif
