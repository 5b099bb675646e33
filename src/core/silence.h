/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a target stuck? One that is stopped or deadlocked still takes connections and
 * requests, because its kernel does; what shows it is silence: it owes answers, and for
 * longer than it usually takes nothing comes.
 *
 * "Usually" is learned from its answers, as TCP learns when to send again (RFC 6298): the mean, and the
 * mean of what they are off it, each new answer weighing an eighth and a quarter. The limit is
 * four times what lies within that, and never below a floor. What it answers late because it was
 * stuck is not usual: of each such time one answer counts, and with no more than the limit, so that the
 * next time is noticed as soon, and yet who is only slow is known for that in the end.
 *
 * One record for each target in each thread, plain memory; when the target was last heard of by
 * any thread comes in as a parameter.
 */
#pragma once

#include "base/util.h"

struct silence {
	uint32_t owed;		/* requests that it got whole and has not begun to answer */
	uint32_t usual_us;	/* 0: it has not answered yet */
	uint32_t spread_us;
	uint64_t since_ms;	/* since when it has owed anything */
	uint64_t late_ms;	/* the time of being stuck of which an answer was counted */
};

static inline void silence_asked(struct silence *s, uint64_t now_ms)
{
	if (s->owed++ == 0)
		s->since_ms = now_ms;
}

/* An answer began, us after the request was sent at sent_ms. stuck_ms: when it was last found to be
 * stuck; 0: never. */
void silence_answered(struct silence *s, uint64_t us, uint64_t sent_ms, uint64_t stuck_ms);

/* A request went without an answer: its client left, it broke, it was moved. */
static inline void silence_dropped(struct silence *s)
{
	s->owed--;
}

/* How long it may be silent. */
uint64_t silence_limit_ms(const struct silence *s, uint32_t floor_ms);
/* Is it silent for longer? heard_ms: when it was last heard of (may lie in the future: then it is
 * excused until then). floor_ms 0: never. */
bool silence_suspects(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms);
/* It owes nothing, or was heard of within half of what it may be silent. */
bool silence_does_well(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms);
/* When to look (again) whether it is: no later than a floor from now, for the limit may shrink. */
uint64_t silence_look_ms(const struct silence *s, uint32_t floor_ms, uint64_t heard_ms, uint64_t now_ms);
