/* SPDX-License-Identifier: Apache-2.0
 *
 * The word: the limit plus one in the lower half (0: nothing learned), the second in
 * which it was last confirmed in the upper.
 */
#include "core/idle.h"

static uint64_t limit_of(uint64_t learned)
{
	return (learned & UINT32_MAX) - 1;
}

uint64_t idle_learn(uint64_t learned, uint64_t age_ms, uint64_t now_ms)
{
	uint64_t sample = MIN(age_ms ? age_ms - 1 : 0, (uint64_t)UINT32_MAX - 1);
	uint64_t now_s = now_ms / 1000 & UINT32_MAX;
	bool old = now_s - (learned >> 32) >= IDLE_FORGET_MS / 1000;

	/* A target that ends connections at random says a longer age most of the time: that confirms
	 * nothing. One with a fixed limit says the same again, give or take its own clock. */
	if (!learned || sample <= limit_of(learned) || old)
		return now_s << 32 | (sample + 1);
	if (sample - limit_of(learned) <= limit_of(learned) / 8)
		return now_s << 32 | (learned & UINT32_MAX);
	return learned;
}

uint64_t idle_sure_ms(uint64_t learned)
{
	return learned ? limit_of(learned) / 2 : IDLE_SURE_MS;
}

uint64_t idle_near_ms(uint64_t learned)
{
	return learned ? limit_of(learned) - limit_of(learned) / 8 : UINT64_MAX;
}
