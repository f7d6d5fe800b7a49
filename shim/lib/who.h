/* SPDX-License-Identifier: MIT */
/* What a record says of the process and the machine, so that the logs of a fleet can be merged.
 */
#ifndef PINSTAGE_WHO_H
#define PINSTAGE_WHO_H

#include <stdbool.h>
#include <stddef.h>

/* At start, where a log is wanted: what a program may later hide from itself. With `arguments`
 * all of the command line, which may hold secrets; else what the program is called. */
void who_start(bool arguments);

/* A child is a process of its own. */
void who_after_fork(void);

/* "host=… boot=… started=…": with the pid, what no other process has. */
void who_print_name(char *dst, size_t size);

/* "tid=… thread=… uid=… exe=… cmd=… kernel=… cgroup=…", and the name. */
void who_print(char *dst, size_t size);

/* For tests: a command line as the kernel has it, escaped, its words separated by spaces. */
void who_command(char *dst, size_t size, const char *cmdline, size_t len, bool arguments);

#endif
