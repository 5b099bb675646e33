/* SPDX-License-Identifier: Apache-2.0
 *
 * A channel of c-ares on our loop: its sockets and its timer. Whoever asks over it counts `going` up, and its
 * callback counts it down.
 */
#pragma once

#include <ares.h>

#include "base/map.h"
#include "loop/loop.h"

struct watch_channel {
	struct loop *loop;
	ares_channel ares;
	struct loop_timer timer;
	struct map ios; /* by descriptor + 1 */
	uint32_t going;
};

/* servers: "ADDRESS[:PORT]", or NULL for those of this machine. Returns ARES_SUCCESS, or what ares_strerror() tells. */
int watch_channel_open(struct watch_channel *ch, struct loop *loop, const char *servers, int timeout_ms, int tries, int flags);
/* What was asked is answered with ARES_EDESTRUCTION. Not from within a callback of c-ares. */
void watch_channel_close(struct watch_channel *ch);
/* After each call that asks. */
void watch_channel_asked(struct watch_channel *ch);
