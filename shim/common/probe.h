/* SPDX-License-Identifier: MIT */
/*
 * Static probes for tracers (USDT), where <sys/sdt.h> is there when this is built: a nop and a
 * note each. docs/diagnostics.md lists them and their arguments, which are promises.
 */
#ifndef PINSTAGE_PROBE_H
#define PINSTAGE_PROBE_H

#if !defined(PINSTAGE_NO_PROBES) && __has_include(<sys/sdt.h>)
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define PROBE(name, ...) STAP_PROBEV(pinstage, name, __VA_ARGS__)
#else
#define PROBE(name, ...)                               \
	do {                                           \
		if (0)                                 \
			probe_nothing(0, __VA_ARGS__); \
	} while (0)
static inline void probe_nothing(int n, ...)
{
	(void)n;
}
#endif

#endif
