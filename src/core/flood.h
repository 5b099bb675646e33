/* SPDX-License-Identifier: Apache-2.0
 *
 * How much that leads to nothing an HTTP/2 client may ask for. Each kind of frame
 * that costs us and not the client has a bucket that leaks: so many at once, so many
 * a second for ever. Who overflows one is told to calm down (RFC 9113, 10.5) and loses
 * the connection. The bounds are far above what browsers, gRPC and tools do.
 */
#pragma once

#include "base/util.h"

/* X(NAME, at once, a second, what) */
#define FLOOD_TABLE(X)                                                                             \
	X(RESET, 200, 20, "streams ended by an error, beyond one for each that was answered")            \
	X(SETTINGS, 20, 2, "SETTINGS frames")                                                      \
	X(PING, 200, 50, "PING frames, beyond one for each DATA frame they got")                   \
	X(PRIORITY, 500, 100, "PRIORITY frames")                                                  \
	X(EMPTY, 100, 20, "DATA frames without data that end nothing")                             \
	X(WINDOW, 2000, 200, "WINDOW_UPDATE frames, beyond two for each DATA frame they got")      \
	X(TINY, 1000, 100, "DATA frames that they made us cut small")

enum flood_kind {
#define X(name, at_once, a_second, what) FLOOD_##name,
	FLOOD_TABLE(X)
#undef X
	FLOOD_COUNT
};

struct flood { /* zero: nothing came yet */
	uint64_t at_ms;
	uint32_t level[FLOOD_COUNT]; /* in thousandths */
};

/* One more of a kind. False: too many. */
bool flood_note(struct flood *f, enum flood_kind kind, uint64_t now_ms);
/* n of them were called for. */
void flood_credit(struct flood *f, enum flood_kind kind, uint32_t n);
