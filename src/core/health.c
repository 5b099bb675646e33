/* SPDX-License-Identifier: Apache-2.0
 *
 * A refusal is surer than a probe that failed: nobody listens. So after one the
 * next probe is due at once, and its refusal makes the next due at once again:
 * `fall` of them take as many round trips, not as many intervals. Only while the
 * target is not known to be down: then there is nothing to hurry for.
 */
#include "core/health.h"

#define PROBE_FAST_MIN_MS 20

static uint32_t fast_ms(uint32_t interval_ms)
{
	return MAX(interval_ms / 10, PROBE_FAST_MIN_MS);
}

static bool step_passed(struct health *h, uint32_t rise)
{
	if (h->state == HEALTH_UP) {
		h->run = 0;
		return false;
	}
	if (h->state == HEALTH_DOWN && ++h->run < rise)
		return false;
	h->state = HEALTH_UP;
	h->run = 0;
	return true;
}

static bool step_failed(struct health *h, uint32_t fall)
{
	if (h->state == HEALTH_DOWN) {
		h->run = 0;
		return false;
	}
	if (++h->run < fall)
		return false;
	h->state = HEALTH_DOWN;
	h->run = 0;
	return true;
}

bool health_step(struct health *h, enum health_event ev, uint32_t rise, uint32_t fall,
		 uint32_t interval_ms, uint64_t now_ms)
{
	bool changed = ev == HEALTH_PASSED ? step_passed(h, rise) : step_failed(h, fall);

	if (ev == HEALTH_REFUSED && h->state != HEALTH_DOWN)
		h->next_probe_ms = now_ms;
	else if (h->state == HEALTH_UP)
		h->next_probe_ms = now_ms + interval_ms;
	else
		h->next_probe_ms = now_ms + fast_ms(interval_ms);
	return changed;
}
