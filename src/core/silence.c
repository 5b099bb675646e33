/* SPDX-License-Identifier: Apache-2.0 */
#include "core/silence.h"

#define LATE_FLOOR_MS 250

void silence_answered(struct silence *s, uint64_t us, uint64_t sent_ms, uint64_t stuck_ms)
{
	uint32_t t = (uint32_t)MIN(us, (uint64_t)INT32_MAX), off;

	s->owed--;
	if (sent_ms <= stuck_ms) {
		if (s->late_ms == stuck_ms)
			return;
		s->late_ms = stuck_ms;
		t = (uint32_t)MIN((uint64_t)t, 1000 * silence_limit_ms(s, LATE_FLOOR_MS));
	}
	if (!s->usual_us) {
		s->usual_us = MAX(t, 1u);
		s->spread_us = t / 2;
		return;
	}
	off = t > s->usual_us ? t - s->usual_us : s->usual_us - t;
	s->spread_us += (int32_t)(off - s->spread_us) / 4;
	s->usual_us += (int32_t)(t - s->usual_us) / 8;
	s->usual_us = MAX(s->usual_us, 1u);
}

uint64_t silence_limit_ms(const struct silence *s, uint32_t floor_ms)
{
	uint64_t usual = ((uint64_t)s->usual_us + 4ull * s->spread_us) / 1000;

	return MAX(4 * usual, (uint64_t)floor_ms);
}

static uint64_t over_ms(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms)
{
	return MAX(s->since_ms, heard_ms) + silence_limit_ms(s, floor_ms);
}

uint64_t silence_look_ms(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms)
{
	return MIN(over_ms(s, floor_ms, heard_ms), now_ms + floor_ms);
}

bool silence_suspects(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms)
{
	return floor_ms && s->owed && now_ms >= over_ms(s, floor_ms, heard_ms);
}

bool silence_does_well(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms)
{
	return !s->owed ||
	       now_ms < MAX(s->since_ms, heard_ms) + silence_limit_ms(s, floor_ms) / 2;
}
