/* SPDX-License-Identifier: Apache-2.0 */
#include "core/budget.h"

#define ONE 1024u
#define MOST ((uint64_t)UINT32_MAX * ONE) /* so that no product below overflows */

static uint64_t fade(uint64_t v, uint64_t ms)
{
	return v * BUDGET_WINDOW_MS / (BUDGET_WINDOW_MS + MIN(ms, (uint64_t)UINT32_MAX));
}

bool budget_take(struct budget *b, uint32_t share_percent, uint32_t least, uint64_t requests,
		 uint64_t now_ms)
{
	uint64_t ms = b->at_ms ? now_ms - b->at_ms : BUDGET_WINDOW_MS;
	/* A counter that went back is another one: begin anew. */
	uint64_t more = requests >= b->seen ? requests - b->seen : requests;

	b->requests = fade(MIN(b->requests + MIN(more, (uint64_t)UINT32_MAX) * ONE, MOST), ms);
	b->spent = fade(b->spent, ms);
	b->at_ms = now_ms;
	b->seen = requests;
	if (b->spent + ONE > b->requests * share_percent / 100 + (uint64_t)least * ONE)
		return false;
	b->spent += ONE;
	return true;
}
