/* SPDX-License-Identifier: Apache-2.0
 *
 * Which target gets the next request: the one with the fewest outstanding
 * requests among those that may serve, are up and are below their limit. Ties go
 * round, so that equal targets get equal work at low load.
 *
 * One that is suspected or ejected (core/silence.h, core/eject.h) is avoided: it is taken when
 * nobody else is there at all, because then it is the best there is.
 *
 * One that is in its slow start has a weight: it takes part in that share of the choices only, and what
 * it has outstanding counts for more. So it gets little both when there is little to do, and when there
 * is much.
 *
 * When none is up, but one is still unknown, that one is tried (after a restart of
 * the router, nobody has been looked at yet).
 */
#pragma once

#include "core/health.h"
#include "core/table.h"

struct balance_target {
	enum target_use use;
	enum health_state health;
	uint32_t outstanding;
	uint64_t mark; /* core/near.h; not looked at here */
	bool tried; /* this request was sent to it before: only taken when nobody else has a place */
	bool avoid; /* suspected or ejected */
	uint32_t weight; /* 1..BALANCE_WEIGHT: of its full share; 0 means full too */
};

#define BALANCE_WEIGHT 256u

/* The weight of one that has been up for up_ms. */
static inline uint32_t balance_weight(uint64_t up_ms, uint32_t slow_start_ms)
{
	uint64_t w = slow_start_ms ? up_ms * BALANCE_WEIGHT / slow_start_ms : BALANCE_WEIGHT;

	/* A tenth to begin with: with nothing at all it would never get warm. */
	return (uint32_t)MAX(MIN(w, (uint64_t)BALANCE_WEIGHT), BALANCE_WEIGHT / 10);
}

enum balance_verdict {
	BALANCE_PICKED,
	BALANCE_FULL, /* some are up, all at their limit: wait for one of them */
	BALANCE_NONE, /* nobody can serve: an outage of the app */
};

/* Looks at `n` targets; `turn` is any number that grows by one for each call. */
enum balance_verdict balance_pick(const struct balance_target *t, uint32_t n, uint32_t limit,
				  uint32_t turn, uint32_t *ret_index);
