/* SPDX-License-Identifier: Apache-2.0
 *
 * The retry budget: of an app's recent requests only a share may be sent a second time,
 * and a few a second in any case. A retry is right for the one request and wrong for
 * all of them: when targets break under load, each retry is more load, and
 * without a bound everybody's second try breaks what is left.
 *
 * What counts: tries that a target may have worked on (enum retry_verdict: SAFE, MOVED). A
 * request that was proven unread or never sent has cost no target anything, so it is exempt, and so is
 * one that met a connection whose end was on its way: for it a fresh one is taken, once. The number of
 * targets and the waiting room bound those.
 *
 * "Recent" is a sum that fades: after t ms, W / (W + t) of it are left. It is brought up to date only
 * when a retry is wanted, from the counter of requests, so requests pay nothing for it.
 */
#pragma once

#include "base/util.h"

#define BUDGET_WINDOW_MS 10000u

struct budget {
	uint64_t at_ms, seen;	  /* when it was brought up to date, and the counter then */
	uint64_t requests, spent; /* recent ones, in 1/1024 */
};

/* May one more be sent? If so it is taken. requests: how many there were, ever; least: so many in
 * the window in any case. */
bool budget_take(struct budget *b, uint32_t share_percent, uint32_t least, uint64_t requests,
		 uint64_t now_ms);
