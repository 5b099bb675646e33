/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hold.h"

#define RETRY_AFTER_MAX_S 60

static bool lets_nobody_in(enum hold_reason reason)
{
	return reason == HOLD_ORDER || reason == HOLD_OUTAGE;
}

bool hold_set(struct hold *h, enum hold_reason reason, uint64_t now_ms)
{
	enum hold_reason before = h->reason;

	h->reason = reason;
	if (reason != HOLD_OUTAGE)
		h->outage_since_ms = 0;
	else if (before != HOLD_OUTAGE)
		h->outage_since_ms = now_ms;
	if (lets_nobody_in(before) && !lets_nobody_in(reason)) {
		h->window = HOLD_WINDOW_START;
		return true;
	}
	return before == HOLD_FULL && reason == HOLD_NO;
}

enum hold_verdict hold_admit(const struct hold *h, const struct hold_limits *l, uint32_t requests,
			     uint64_t bytes, uint64_t more_bytes, uint64_t came_ms, uint64_t now_ms,
			     uint64_t *ret_until_ms)
{
	uint64_t from = h->reason == HOLD_OUTAGE ? h->outage_since_ms : came_ms;

	if (now_ms >= from + l->wait_ms)
		return HOLD_REFUSE_LATE;
	if (requests >= l->requests || bytes > l->bytes || more_bytes > l->bytes - bytes)
		return HOLD_REFUSE_FULL;
	*ret_until_ms = from + l->wait_ms;
	return HOLD_WAIT;
}

bool hold_may_pass(const struct hold *h, uint32_t inside)
{
	return !lets_nobody_in(h->reason) && (h->window == 0 || inside < h->window);
}

void hold_answered(struct hold *h)
{
	if (h->window && ++h->window >= HOLD_WINDOW_STEADY)
		h->window = 0;
}

/* An outage that has lasted will last: the clients' pause grows with it. An order ends when
 * someone says so, a full room as soon as one answer is out. */
uint32_t hold_retry_after(const struct hold *h, const struct hold_limits *l, uint64_t now_ms)
{
	uint64_t s = 1;

	if (h->reason == HOLD_OUTAGE)
		s = (now_ms - h->outage_since_ms) / 1000;
	else if (h->reason == HOLD_ORDER)
		s = l->wait_ms / 1000;
	return (uint32_t)MAX(1u, MIN(s, RETRY_AFTER_MAX_S));
}
