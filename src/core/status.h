/* SPDX-License-Identifier: Apache-2.0
 *
 * The four words for how something is. In the order of the exit codes of monitoring-plugins, so that one
 * of those is a status as it is. Which of two is worse is another order: not to know is worse than to
 * know that all is well, and better than to have seen that it is not.
 */
#pragma once

#include "base/util.h"

/* X(NAME, lower, rank, what it means) */
#define STATUS_TABLE(X)                                                                            \
	X(GOOD, good, 0, "it works as it should")                                                  \
	X(BAD, bad, 2, "it works, but worse than it should")                                       \
	X(UGLY, ugly, 3, "it does not work")                                                       \
	X(UNKNOWN, unknown, 1, "nobody could look")

enum status {
#define X(name, lower, rank, what) STATUS_##name,
	STATUS_TABLE(X)
#undef X
	STATUS_COUNT
};

static inline int status_rank(enum status s)
{
	static const int8_t rank[STATUS_COUNT] = {
#define X(name, lower, rank_, what) [STATUS_##name] = rank_,
	    STATUS_TABLE(X)
#undef X
	};

	return rank[s];
}

static inline enum status status_worse(enum status a, enum status b)
{
	return status_rank(a) >= status_rank(b) ? a : b;
}

static inline const char *status_name(enum status s)
{
	static const char *const name[STATUS_COUNT] = {
#define X(name_, lower, rank, what) [STATUS_##name_] = #lower,
	    STATUS_TABLE(X)
#undef X
	};

	return name[s];
}
