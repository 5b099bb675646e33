/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a target up? Probes that pass and fail are counted: `rise` passes in a row
 * make it up, `fall` failures in a row make it down. A target that is unknown
 * (new, or after the router's own restart) becomes up with its first pass; a
 * restored one that is still serving must not be thrown out on suspicion.
 *
 * A refused connection under a request counts as a failed probe at once, and the
 * next probe is then due immediately: a process that ended is known in one round
 * trip, not in `fall` intervals.
 */
#pragma once

#include "base/util.h"

enum health_state { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };

struct health {
	enum health_state state;
	uint32_t run;	      /* results in a row that speak against the state */
	uint64_t next_probe_ms;
};

enum health_event {
	HEALTH_PASSED,	/* a probe passed */
	HEALTH_FAILED,	/* a probe failed or took too long */
	HEALTH_REFUSED, /* a connection was refused, or its socket is gone: nobody listens */
};

/* Takes one event; returns true when the state changed. interval_ms is the time between probes:
 * while a target is not up, probes come faster (1/10 of it, at least 20 ms apart), so that a
 * start is noticed at once. */
bool health_step(struct health *h, enum health_event ev, uint32_t rise, uint32_t fall,
		 uint32_t interval_ms, uint64_t now_ms);
