/* SPDX-License-Identifier: Apache-2.0
 *
 * Which target gets the next request: the one with the fewest outstanding
 * requests among those that may serve, are up and are below their limit. Ties go
 * round, so that equal targets get equal work at low load.
 *
 * One that is suspected or ejected (core/silence.h, core/eject.h) is avoided: it is taken when
 * nobody else is there at all, because then it is the best there is.
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
};

enum balance_verdict {
	BALANCE_PICKED,
	BALANCE_FULL, /* some are up, all at their limit: wait for one of them */
	BALANCE_NONE, /* nobody can serve: an outage of the app */
};

/* Looks at `n` targets; `turn` is any number that grows by one for each call. */
enum balance_verdict balance_pick(const struct balance_target *t, uint32_t n, uint32_t limit,
				  uint32_t turn, uint32_t *ret_index);
