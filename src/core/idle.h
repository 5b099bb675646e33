/* SPDX-License-Identifier: Apache-2.0
 *
 * How long does a target keep a connection on which nothing is asked? It does not
 * say, but it shows: each connection that it ends while it is idle has an age, and
 * the least age seen lately is the limit that can be relied on. A request that may not
 * be sent twice takes, over TCP, only a connection well inside of it, because the end
 * of an older one may be on its way (RFC 9112, 9.3.1 leaves it to the client).
 *
 * What was learned is one word, so that threads share it without a lock; of two samples
 * at the same moment one may be lost, and the next one makes up for it.
 *
 * Ages are in milliseconds and a sample is taken as one less than was seen, because the clock
 * that both come from has that grain.
 */
#pragma once

#include "base/util.h"

#define IDLE_SURE_MS 1000	/* relied on before anything was learned */
#define IDLE_FORGET_MS 600000	/* a limit that nothing confirmed for so long yields to a longer one */

/* The target ended a connection that was idle for age_ms. Returns the new word; `learned` is the one
 * before, 0 at first. */
uint64_t idle_learn(uint64_t learned, uint64_t age_ms, uint64_t now_ms);
/* An idle connection younger than this is surely alive: half of the limit. */
uint64_t idle_sure_ms(uint64_t learned);
/* One as old as this is about to be ended, and better closed before; UINT64_MAX: nothing learned. */
uint64_t idle_near_ms(uint64_t learned);
