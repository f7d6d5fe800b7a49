/* SPDX-License-Identifier: MIT */
/* links: shim/lib/vmflags.c shim/lib/real.c shim/common/vmas.c shim/lib/log.c */
/* links: shim/lib/ownfd.c shim/lib/space.c shim/lib/areas.c shim/lib/pool.c */
/* links: shim/lib/native.c shim/lib/kept.c shim/lib/scratch.c shim/common/vmas_between.c */
/* links: shim/lib/shadow.c */
#include "unit.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "common/util.h"
#include "lib/real.h"
#include "lib/vmflags.h"

#define PAGES	 4
#define OF_MAPS	 (VMA_READ | VMA_WRITE | VMA_EXEC | VMA_SHARED)
#define LOWEST	 (1UL << 20) /* where the library has the kernel show it */
#define WP_ASYNC (1 << 15)

static char *map;
static size_t page, len;
static char text[VMFLAGS_TEXT], buf[16 * 1024];

static int one_each(const struct vma *v, const char *path, void *arg)
{
	struct vma *ret = arg;

	(void)path;
	if (v->start > (uintptr_t)map || v->end <= (uintptr_t)map)
		return 0;
	*ret = *v;
	return 1;
}

static struct vma by_smaps(void)
{
	struct vma v;

	assert_int_equal(vmas_scan(VMAS_SMAPS, buf, sizeof(buf), one_each, &v, NULL), 1);
	return v;
}

static int ask(struct vma *ret)
{
	struct vmflags f = vmflags_begin(text);
	int err;

	*ret = by_smaps();
	ret->flags &= OF_MAPS;
	ret->pkey = 0;
	err = vmflags_add(&f, ret);
	vmflags_end(&f);
	return err;
}

/* Under valgrind, or a filter, nobody can be asked whether the pages are watched. */
static bool can_ask(void)
{
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (uffd < 0)
		return false;
	close(uffd);
	return true;
}

static void find(struct vma *ret)
{
	struct vmflags f = vmflags_begin(text);

	*ret = by_smaps();
	ret->flags &= OF_MAPS;
	ret->pkey = 0;
	assert_int_equal(vmflags_find(&f, ret, buf, sizeof(buf)), 0);
	vmflags_end(&f);
}

/* Nothing of it stays behind, and the program's mapping is what it was. */
static void lowest_is_free(void)
{
	void *p = mmap((void *)LOWEST, 2 * page, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(p, (void *)LOWEST);
	munmap(p, 2 * page);
}

static void expect_like_smaps(unsigned among)
{
	const unsigned fds = open_fds();
	struct vma v, same = by_smaps(), after;

	find(&v);
	assert_int_equal(v.flags, same.flags);
	assert_int_equal(v.flags & among, among);
	assert_int_equal(v.pkey, same.pkey);
	assert_int_equal(ask(&same) == 0, can_ask());
	assert_int_equal(same.flags, can_ask() ? v.flags : v.flags & OF_MAPS);
	same = v;
	after = by_smaps();
	assert_memory_equal(&after, &same, sizeof(same));
	assert_int_equal(open_fds(), fds);
	lowest_is_free();
}

static int map_file(void **state)
{
	int fd = unnamed_file();

	(void)state;
	assert_int_equal(real_bind(), 0);
	page = page_size();
	len = PAGES * page;
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map == MAP_FAILED;
}

static int unmap(void **state)
{
	(void)state;
	return munmap(map, len);
}

static void flags__plain(void **state)
{
	struct vma v;

	(void)state;
	expect_like_smaps(VMA_MAYWRITE);
	find(&v);
	assert_int_equal(v.flags, VMA_READ | VMA_WRITE | VMA_SHARED | VMA_MAYWRITE);
}

static void flags__advised(void **state)
{
	(void)state;
	assert_int_equal(madvise(map, len, MADV_DONTFORK), 0);
	expect_like_smaps(VMA_DONTFORK);
	assert_int_equal(madvise(map, len, MADV_DOFORK), 0);
	assert_int_equal(madvise(map, len, MADV_HUGEPAGE), 0);
	expect_like_smaps(VMA_HUGE);
	assert_int_equal(madvise(map, len, MADV_NOHUGEPAGE), 0);
	expect_like_smaps(VMA_NOHUGE);
}

static void flags__locked(void **state)
{
	(void)state;
	assert_int_equal(mlock(map, len), 0);
	if (!(by_smaps().flags & VMA_LOCKED)) {
		print_message("not asked: the address sanitizer ignores mlock()\n");
		return;
	}
	expect_like_smaps(VMA_LOCKED);
	assert_int_equal(munlock(map, len), 0);
	if (mlock2(map, len, MLOCK_ONFAULT) < 0)
		print_message("not asked: mlock2(): %s\n", strerror(errno));
	else
		expect_like_smaps(VMA_LOCKED | VMA_ONFAULT);
}

static void flags__without_access(void **state)
{
	(void)state;
	assert_int_equal(mprotect(map, len, PROT_NONE), 0);
	expect_like_smaps(VMA_MAYWRITE);
	assert_int_equal(mprotect(map, len, PROT_READ), 0);
	expect_like_smaps(VMA_READ | VMA_MAYWRITE);
}

static void flags__never_to_be_written(void **state)
{
	char path[64];
	struct vma v;
	int fd = unnamed_file(), ro;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_ptr_equal(mmap(map, len, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 0), map);
	close(ro);
	close(fd);
	expect_like_smaps(VMA_READ);
	find(&v);
	assert_false(v.flags & VMA_MAYWRITE);
}

static void flags__of_one_with_its_neighbours(void **state)
{
	(void)state;
	map += page;
	assert_int_equal(madvise(map, page, MADV_DONTFORK), 0);
	expect_like_smaps(VMA_DONTFORK);
	assert_int_equal(madvise(map, page, MADV_DOFORK), 0);
	map -= page;
}

static void flags__key(void **state)
{
	int key = pkey_alloc(0, 0);

	(void)state;
	if (key < 0) {
		print_message("not asked: no memory protection keys (%s)\n", strerror(errno));
		return;
	}
	assert_int_equal(pkey_mprotect(map, len, PROT_READ | PROT_WRITE, key), 0);
	assert_int_equal(by_smaps().pkey, key);
	expect_like_smaps(0);
	pkey_free(key);
}

/* As somebody does who tracks what is written: it goes on telling him. */
static void flags__watched(void **state)
{
	struct uffdio_api api = { .api = UFFD_API, .features = WP_ASYNC };
	struct uffdio_register reg = { .range = { (uintptr_t)map, len },
				       .mode = UFFDIO_REGISTER_MODE_WP };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct vma v, same;

	(void)state;
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0) {
		print_message("not asked: no asynchronous tracking of writes\n");
		return;
	}
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	same = by_smaps();
	assert_true(same.flags & VMA_UFFD);
	assert_int_equal(ask(&v), 0);
	assert_true(v.flags & VMA_UFFD);
	v = by_smaps();
	assert_memory_equal(&v, &same, sizeof(v));
	close(uffd);
	expect_like_smaps(0);
}

/* Whatever stands in the way, nothing is changed, and whoever asked reads smaps. */
static void refused__lowest_is_taken(void **state)
{
	char *low = mmap((void *)LOWEST, page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	struct vma v;

	(void)state;
	assert_ptr_equal(low, (void *)LOWEST);
	*low = 1;
	assert_true(ask(&v) < 0);
	assert_int_equal(*low, 1);
	assert_int_equal(munmap(low, page), 0);
	expect_like_smaps(0);
}

static void refused__something_lies_lower(void **state)
{
	char *low = mmap((void *)(LOWEST - 16 * page), page, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	struct vma v;

	(void)state;
	assert_ptr_equal(low, (void *)(LOWEST - 16 * page));
	assert_true(ask(&v) < 0);
	assert_int_equal(munmap(low, page), 0);
	lowest_is_free();
}

static void refused__another_file(void **state)
{
	struct vmflags f = vmflags_begin(text);
	struct vma v = by_smaps();

	(void)state;
	v.ino++;
	assert_int_equal(vmflags_find(&f, &v, buf, sizeof(buf)), -ESTALE);
	vmflags_end(&f);
	lowest_is_free();
}

static void refused__nothing_there(void **state)
{
	struct vmflags f = vmflags_begin(text);
	struct vma v = by_smaps();

	(void)state;
	assert_int_equal(munmap(map, len), 0);
	assert_true(vmflags_add(&f, &v) < 0);
	vmflags_end(&f);
	lowest_is_free();
	assert_ptr_equal(
		mmap(map, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), map);
}

#define T(f) cmocka_unit_test_setup_teardown(f, map_file, unmap)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(flags__plain),
		T(flags__advised),
		T(flags__locked),
		T(flags__without_access),
		T(flags__never_to_be_written),
		T(flags__of_one_with_its_neighbours),
		T(flags__key),
		T(flags__watched),
		T(refused__lowest_is_taken),
		T(refused__something_lies_lower),
		T(refused__another_file),
		T(refused__nothing_there),
	};

	return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
