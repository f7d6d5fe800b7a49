/* SPDX-License-Identifier: MIT */
/* A program: does it pin, and by ways that a preloaded library sees? */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command/doctor.h"
#include "common/cleanup.h"
#include "common/util.h"

struct program {
	Elf *elf;
	unsigned machine;
	bool uring_linked, verbs_linked; /* needs the shared libraries */
	bool uring_named, verbs_named;	 /* has their names as text: opens them itself */
	bool uring_inside;		 /* defines liburing's functions */
	bool uring_code;		 /* has code that looks like them */
	bool pins_verbs;		 /* has the name of a function that registers */
	bool versions;			 /* asks for symbols by version */
	bool raw;			 /* makes system calls through libc's syscall() */
	bool go;
};

static bool contains(const Elf_Data *d, const char *text)
{
	return d && d->d_buf && memmem(d->d_buf, d->d_size, text, strlen(text));
}

static void read_needed(struct program *p, Elf_Scn *scn, const GElf_Shdr *sh)
{
	Elf_Data *d = elf_getdata(scn, NULL);
	const char *name;
	GElf_Dyn dyn;

	for (int i = 0; d && gelf_getdyn(d, i, &dyn); i++) {
		name = dyn.d_tag == DT_NEEDED ? elf_strptr(p->elf, sh->sh_link, dyn.d_un.d_val)
					      : NULL;
		if (!name)
			continue;
		p->uring_linked |= !strncmp(name, "liburing.so", 11);
		p->verbs_linked |= !strncmp(name, "libibverbs.so", 13) ||
				   !strncmp(name, "librdmacm.so", 12);
	}
}

/* Functions of its own, and those that it wants from others. */
static void read_symbols(struct program *p, Elf_Scn *scn, const GElf_Shdr *sh)
{
	Elf_Data *d = elf_getdata(scn, NULL);
	const char *name;
	GElf_Sym sym;

	for (int i = 0; d && gelf_getsym(d, i, &sym); i++) {
		name = elf_strptr(p->elf, sh->sh_link, sym.st_name);
		if (!name)
			continue;
		p->versions |= !strcmp(name, "dlvsym");
		p->raw |= !strcmp(name, "syscall") && sym.st_shndx == SHN_UNDEF;
		if (sym.st_shndx != SHN_UNDEF && GELF_ST_TYPE(sym.st_info) == STT_FUNC)
			p->uring_inside |= !strncmp(name, "io_uring_register", 17) ||
					   !strcmp(name, "io_uring_queue_init");
	}
}

static void read_section(struct program *p, Elf_Scn *scn, size_t names)
{
	const char *name;
	GElf_Shdr sh;
	Elf_Data *d;

	if (!gelf_getshdr(scn, &sh))
		return;
	name = elf_strptr(p->elf, names, sh.sh_name);
	p->go |= name && (!strcmp(name, ".go.buildinfo") || !strcmp(name, ".gopclntab"));
	if (sh.sh_type == SHT_DYNAMIC) {
		read_needed(p, scn, &sh);
	} else if (sh.sh_type == SHT_DYNSYM || sh.sh_type == SHT_SYMTAB) {
		read_symbols(p, scn, &sh);
	} else if (sh.sh_type == SHT_PROGBITS && !(sh.sh_flags & SHF_EXECINSTR)) {
		d = elf_rawdata(scn, NULL);
		p->uring_named |= contains(d, "liburing.so");
		p->verbs_named |= contains(d, "libibverbs.so");
		p->pins_verbs |= contains(d, "ibv_reg_mr");
	} else if (sh.sh_type == SHT_PROGBITS) {
		d = elf_rawdata(scn, NULL);
		p->uring_code |=
			d && d->d_buf && code_registers(p->machine, d->d_buf, d->d_size);
	}
}

static void say_uring(struct findings *f, const struct program *p)
{
	if (p->uring_linked)
		find(f, FINDING_OK, "liburing",
		     "it is linked to liburing.so|its registrations are seen");
	else if (p->uring_named)
		find(f, FINDING_OK, "liburing",
		     "it opens liburing.so itself|its registrations are seen, unless it asks for "
		     "symbols by version");
	if (p->uring_inside && !p->uring_linked)
		find(f, FINDING_BAD, "liburing",
		     "it has liburing inside (statically linked)|its system calls are its own, so that "
		     "pinstage does not see its registrations: link it to liburing.so");
	else if (p->uring_code)
		find(f, FINDING_NOTE, "liburing",
		     "its machine code looks as if it made the system call io_uring_register itself, as "
		     "with liburing inside (statically linked)|if it does, pinstage sees none of these "
		     "registrations, not even to log them: link it to liburing.so");
}

static void say_verbs(struct findings *f, const struct program *p)
{
	if (p->verbs_linked)
		find(f, FINDING_OK, "verbs",
		     "it is linked to libibverbs or librdmacm|its registrations are seen");
	else if (p->verbs_named && p->versions && p->pins_verbs)
		find(f, FINDING_BAD, "verbs",
		     "it opens libibverbs.so itself and asks for functions by version (dlvsym)|pinstage "
		     "does not see these: if it cannot be changed, on-demand paging may help");
	else if (p->verbs_named)
		find(f, FINDING_OK, "verbs",
		     "it opens libibverbs.so itself|its registrations are seen");
}

static void say_privileges(struct findings *f, int fd)
{
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_mode & (S_ISUID | S_ISGID))
		find(f, FINDING_NOTE, "set-id",
		     "it is a set-user-ID or set-group-ID program|for everybody to whom that gives "
		     "privileges the loader ignores LD_PRELOAD");
}

static void say(struct findings *f, const struct program *p)
{
	if (p->go)
		find(f, FINDING_BAD, "go",
		     "it is a Go program|Go makes system calls without the C library: pinstage sees "
		     "only what it does through cgo");
	say_uring(f, p);
	say_verbs(f, p);
	if (p->raw)
		find(f, FINDING_OK, "syscall",
		     "it makes system calls through syscall() of the C library|if it registers with "
		     "io_uring so, that is seen");
	if (!p->uring_linked && !p->uring_named && !p->uring_inside && !p->uring_code &&
	    !p->verbs_linked && !p->verbs_named && !p->raw)
		find(f, FINDING_NOTE, "pins",
		     "nothing in the file itself names liburing or libibverbs|its libraries and plugins "
		     "may: pinstage run --mode log tells what it really does");
}

void doctor_program(struct findings *f, const char *file)
{
	cleanup_fd int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct program p = { 0 };
	Elf_Scn *scn = NULL;
	GElf_Ehdr head;
	size_t names;

	elf_version(EV_CURRENT);
	say_privileges(f, fd);
	p.elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ, NULL);
	if (!p.elf || elf_kind(p.elf) != ELF_K_ELF || elf_getshdrstrndx(p.elf, &names) < 0) {
		find(f, FINDING_NOTE, "program", "%s cannot be read as an ELF program: %s|",
		     file,
		     fd < 0 ? strerror(errno) : "it is something else, or has no sections");
	} else {
		p.machine = gelf_getehdr(p.elf, &head) ? head.e_machine : EM_NONE;
		while ((scn = elf_nextscn(p.elf, scn)))
			read_section(&p, scn, names);
		say(f, &p);
	}
	elf_end(p.elf);
}
