/* SPDX-License-Identifier: Apache-2.0
 *
 * The waiting room of an app: requests wait here when the app is held by order,
 * when none of its targets is up, and when all are at their limit. One room, one
 * set of bounds (requests, bytes, time), first come first served.
 *
 * How long one may wait: by order or for a place, its own hold_wait from when it
 * came; in an outage until hold_wait after the outage began, so that an app that is gone
 * for hours answers 503 at once and does not make everyone wait first.
 *
 * After a hold or an outage, requests are let out at the pace of the targets' answers: a window
 * that starts at a few and grows by one with each answer (slow start), so that what has just
 * come up is not knocked over.
 */
#pragma once

#include "base/util.h"

struct hold_limits {
	uint32_t wait_ms, requests;
	uint64_t bytes;
};

enum hold_reason {
	HOLD_NO,
	HOLD_ORDER,  /* upstate hold, or a step of a change */
	HOLD_OUTAGE, /* nobody can serve */
	HOLD_FULL,   /* all targets at their limit, or the window is */
};

enum hold_verdict { HOLD_WAIT, HOLD_REFUSE_FULL, HOLD_REFUSE_LATE };

struct hold {
	enum hold_reason reason;
	uint64_t outage_since_ms; /* 0: no outage */
	uint32_t window;	  /* requests that may be inside at once; 0: no limit (steady) */
};

#define HOLD_WINDOW_START 8
#define HOLD_WINDOW_STEADY 1024 /* a window that has grown to this is taken away */

/* What the app is in now; call whenever that may have changed. Returns true when waiting requests
 * should be looked at (something was released). */
bool hold_set(struct hold *h, enum hold_reason reason, uint64_t now_ms);
/* May a request that came at `came_ms` wait? requests and bytes are what waits already.
 * ret_until_ms: until when. */
enum hold_verdict hold_admit(const struct hold *h, const struct hold_limits *l, uint32_t requests,
			     uint64_t bytes, uint64_t more_bytes, uint64_t came_ms, uint64_t now_ms,
			     uint64_t *ret_until_ms);
/* May one more go to a target, with `inside` requests there now? */
bool hold_may_pass(const struct hold *h, uint32_t inside);
/* A target answered. */
void hold_answered(struct hold *h);
/* Seconds for Retry-After. */
uint32_t hold_retry_after(const struct hold *h, const struct hold_limits *l, uint64_t now_ms);
