/* SPDX-License-Identifier: Apache-2.0
 *
 * When nobody is to be paged: silences ("I know") and maintenance windows ("it is planned"). They suppress paging,
 * never measuring; opening, never resolving: what was paged before is told to be resolved in the midst of one,
 * and what still is so at its end is paged then.
 *
 * Each ends, and says who and why: the silence that was forgotten is the outage that nobody heard of.
 *
 * Their times are the wall clock's, because that is what people mean by "until six".
 */
#pragma once

#include "base/err.h"
#include "core/device.h"

#define QUIET_MOST_MS (31 * 86400000ull) /* whoever wants longer has to say so again */

/* X(NAME, lower, what it covers) */
#define QUIET_SCOPE_TABLE(X)                                                                       \
	X(ALL, all, "every device")                                                                \
	X(BEHIND, behind, "the device and all that need it")                                       \
	X(TREE, tree, "the device and all that it needs (an app)")

enum quiet_scope {
#define X(name, lower, what) QUIET_##name,
	QUIET_SCOPE_TABLE(X)
#undef X
	QUIET_SCOPE_COUNT
};

struct quiet {
	enum quiet_scope scope;
	uint32_t device; /* not for ALL */
	bool planned;	 /* maintenance: what happens in it was expected */
	uint64_t from_ms, until_ms; /* [from, until) of the wall clock */
	const char *who, *why;	    /* the owner's */
};

/* Is it one that may be? Says what is missing when not. */
int quiet_check(const struct quiet *q, struct err *e);
/* Which covers an incident of this cause now? The one that ends last; NULL: none. */
const struct quiet *quiet_find(const struct quiet *q, uint32_t n, struct device_graph *g, uint32_t cause,
			       uint64_t wall_ms);
