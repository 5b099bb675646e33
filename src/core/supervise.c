/* SPDX-License-Identifier: Apache-2.0 */
#include "core/supervise.h"

const struct supervise_rule supervise_instance = {
	.first_ms = 1000, .max_ms = 300000, .healthy_ms = 60000, .free_ends = 0};
const struct supervise_rule supervise_part = {
	.first_ms = 100, .max_ms = 5000, .healthy_ms = 1000, .free_ends = 3};

void supervise_started(struct supervise *s, uint64_t now_ms)
{
	s->started_ms = now_ms;
}

uint64_t supervise_ended(struct supervise *s, const struct supervise_rule *rule, uint32_t random,
			 uint64_t now_ms)
{
	uint64_t pause = rule->first_ms;

	if (now_ms - s->started_ms >= rule->healthy_ms) {
		s->quick_ends = 0;
		return 0;
	}
	if (s->quick_ends < UINT32_MAX)
		s->quick_ends++;
	if (s->quick_ends <= rule->free_ends)
		return 0;
	for (uint32_t i = rule->free_ends + 1; i < s->quick_ends && pause < rule->max_ms; i++)
		pause *= 2;
	pause = MIN(pause, rule->max_ms);
	return pause - pause * (random & 0xffff) / 0x10000 / 4;
}
