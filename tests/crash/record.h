/* SPDX-License-Identifier: MIT */
/*
 * Numbered records, as a program with several writers leaves them in a file, and what is known
 * of them. Writers 0 (threads of the program) and 1 (the device) share the first half of the
 * file, which stays registered; writers 2 and 3 the second half, which is registered and given
 * back to the file all the time. A slot is written once.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define RECORD	      512ul
#define WORDS	      (RECORD / sizeof(uint64_t))
#define WRITERS	      4
#define DEVICE_WRITER 1
#define AREA	      (2ul << 20) /* of two writers */
#define BATCH	      8		  /* records at most that one msync() confirms */
#define RECORDS_FILE  (2 * AREA)
#define RECORDS_EACH  (AREA / RECORD / 2)

/* In memory that the program shares with whoever kills it. */
struct counts {
	struct {
		_Atomic(uint64_t) stored;    /* the stores are done, or the device is */
		_Atomic(uint64_t) confirmed; /* by msync(MS_SYNC) */
		_Atomic(uint64_t) ahead;     /* at most so many are on their way to memory */
	} of[WRITERS];
	atomic_int ready; /* the first half is registered */
	atomic_int stop;  /* end, please */
	atomic_int error; /* that msync() or the device gave */
	_Atomic(uint64_t) swaps;
};

static inline uint64_t record_offset(unsigned writer, uint64_t number)
{
	return writer / 2 * AREA + (2 * number + writer % 2) * RECORD;
}

static inline uint64_t record_word(unsigned writer, uint64_t number, uint64_t i)
{
	uint64_t x = (number * WRITERS + writer + 1) * 0x9e3779b97f4a7c15ull + i;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return (x ^ x >> 32) | 1; /* never zero */
}

/* The last word last: whoever sees it sees the others. */
static inline void record_store(void *slot, unsigned writer, uint64_t number)
{
	uint64_t *word = slot;

	for (uint64_t i = 0; i < WORDS; i++)
		__atomic_store_n(&word[i], record_word(writer, number, i), __ATOMIC_RELEASE);
}

enum record_state { RECORD_EMPTY, RECORD_TORN, RECORD_WHOLE };

static inline enum record_state record_state(const void *slot, unsigned writer, uint64_t number)
{
	uint64_t word[WORDS];
	unsigned right = 0, zero = 0;

	memcpy(word, slot, sizeof(word));
	for (uint64_t i = 0; i < WORDS; i++) {
		right += word[i] == record_word(writer, number, i);
		zero += word[i] == 0;
	}
	return right == WORDS ? RECORD_WHOLE : zero == WORDS ? RECORD_EMPTY : RECORD_TORN;
}

#endif
