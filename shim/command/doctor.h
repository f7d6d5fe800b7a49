/* SPDX-License-Identifier: MIT */
/* pinstage doctor: findings, and what follows from each. */
#ifndef PINSTAGE_DOCTOR_H
#define PINSTAGE_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

enum level {
	FINDING_OK,
	FINDING_NOTE, /* worth knowing */
	FINDING_BAD,  /* pinstage, or the program, will not work like this */
};

struct finding {
	enum level level;
	const char *topic; /* a fixed word: programs may look for it */
	char *what, *so;   /* what was found; what follows from it */
};

struct findings {
	struct finding *finding;
	size_t n;
};

/* `so` is the last argument that the format takes, after a '|': "8 MiB|more is refused". */
void find(struct findings *f, enum level level, const char *topic, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

void doctor_machine(struct findings *f);		   /* doctor_machine.c */
void doctor_rdma(struct findings *f);			   /* doctor_rdma.c */
void doctor_path(struct findings *f, const char *path);	   /* doctor_path.c; PATH exists */
void doctor_program(struct findings *f, const char *file); /* doctor_program.c; an ELF file */

/* Whether machine code (for an EM_...) seems to make the system call io_uring_register()
 * itself: where its number is put into the register for numbers, and a system call follows
 * close by. */
bool code_registers(unsigned machine, const void *code, size_t n); /* doctor_code.c */

#endif
