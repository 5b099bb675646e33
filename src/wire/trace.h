/* SPDX-License-Identifier: Apache-2.0
 *
 * W3C Trace Context (https://www.w3.org/TR/trace-context/): the traceparent of a request, read and written.
 * Pure.
 *
 *	00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *	version, trace id, parent id, flags
 */
#pragma once

#include <string.h>

#include "base/util.h"

#define TRACE_ID 32	 /* hexadecimal digits */
#define TRACE_PARENT 55	 /* bytes of a traceparent of version 00 */
#define TRACE_SAMPLED 1
#define TRACE_RANDOM 2 /* level 2: the trace id was made by chance */
#define TRACE_STATE_MAX 512 /* bytes of tracestate that are passed on: what must be at least (3.3.1.5) */

struct trace {
	const char *id; /* TRACE_ID digits, in what was read */
	uint8_t flags;	/* those that are known; others must be set to 0 (3.2.2.5) */
};

/* Reads a traceparent. False when it is not valid, and then a new trace begins (3.2.4): a version ff, an
 * id of zeros only, upper case, another length. A version that is higher than 00 may be followed by
 * "-" and more, which is not looked at. */
bool trace_parse(const char *p, size_t len, struct trace *ret);

/* Sixteen lower-case hexadecimal digits of n. Which digit stands where is nobody's business: n is a
 * random number. Eight digits at once: nibbles are spread over the bytes of a word. */
static inline char *trace_hex(char *to, uint64_t n)
{
	for (int half = 0; half < 2; half++, n >>= 32) {
		uint64_t x = n & 0xffffffff;

		x = (x << 16 | x) & 0x0000ffff0000ffff;
		x = (x << 8 | x) & 0x00ff00ff00ff00ff;
		x = (x << 4 | x) & 0x0f0f0f0f0f0f0f0f;
		/* 10 to 15 carry into bit 4 when 6 is added; 'a' - 10 is 39 above '0'. */
		x += 0x3030303030303030 + ((x + 0x0606060606060606) >> 4 & 0x0101010101010101) * 39;
		to = mempcpy(to, &x, 8);
	}
	return to;
}

/* Writes a traceparent of version 00, TRACE_PARENT bytes; returns its end. parent is not 0. */
static inline char *trace_write(char *to, const char id[TRACE_ID], uint64_t parent, uint8_t flags)
{
	to = mempcpy(to, "00-", 3);
	to = mempcpy(to, id, TRACE_ID);
	*to++ = '-';
	to = trace_hex(to, parent);
	*to++ = '-';
	*to++ = '0';
	*to++ = (char)('0' + (flags & (TRACE_SAMPLED | TRACE_RANDOM)));
	return to;
}
