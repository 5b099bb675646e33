/* SPDX-License-Identifier: Apache-2.0 */
#include "core/silence.h"

uint64_t silence_limit_ms(const struct silence *s, uint32_t floor_ms)
{
	uint64_t usual = ((uint64_t)s->usual_us + 4ull * s->spread_us) / 1000;

	return MAX(4 * usual, (uint64_t)floor_ms);
}

uint64_t silence_look_ms(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms)
{
	return MAX(s->since_ms, heard_ms) + silence_limit_ms(s, floor_ms);
}

bool silence_suspects(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms)
{
	return floor_ms && s->owed && now_ms >= silence_look_ms(s, floor_ms, heard_ms);
}

bool silence_does_well(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms)
{
	return !s->owed ||
	       now_ms < MAX(s->since_ms, heard_ms) + silence_limit_ms(s, floor_ms) / 2;
}
