/* SPDX-License-Identifier: MIT */
/* How numbers, names and tables look. */
#ifndef PINSTAGE_FORMAT_H
#define PINSTAGE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 512, 1.5K, 12M: at most five characters and no loss below 1024; exact if `exact`. */
void format_bytes(uint64_t bytes, bool exact, char *text, size_t size);

/* 0.4 s, 17 s, 5 min, 3 h */
void format_age(uint64_t ms, char *text, size_t size);

/* For one line and for JSON: what is neither printable nor valid UTF-8 as \xNN. */
void format_name(const char *name, char *text, size_t size);
#define FORMAT_NAME_MOST(n) (4 * (n) + 1)

/* Whether standard output is a terminal, and whether it may have colours there: see
 * https://no-color.org. */
bool format_terminal(void);
bool format_colours(void);

const char *format_user(unsigned uid, char *text, size_t size);

#endif
