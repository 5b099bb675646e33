/* SPDX-License-Identifier: Apache-2.0
 *
 * Ejection: a target that probes find up, but that serves users worse than the others,
 * gets no requests for a while. It is the circuit breaker as well: a row of failures opens
 * it, the time of ejection is its pause, which doubles with each time, and what
 * comes after is tried with real requests again.
 *
 *	cause       what speaks against it                            it comes back
 *	----------  ------------------------------------------------  ----------------------
 *	failures    so many tries in a row failed: no connection,     when its time is over,
 *	            broken off, no answer in time                     and `rise` probes in a
 *	errors      such a share of its tries in the window failed    row passed where there
 *	5xx         its share of 5xx is so far above that of the      is a health path
 *	            other targets
 *	latency     so many times slower than the others
 *	stuck       silent (core/silence.h), and no probe was         as soon as `rise` probes
 *	            answered either; also when it is ejected already  in a row are answered
 *
 * Why 5xx are only compared: an answer is proof that the target works, and an app with a bug gives
 * them everywhere; to eject for that would take targets away from an app in trouble. One that gives
 * many more than its neighbours does so for a reason of its own (its disk, its connection to the
 * database), and there its neighbours are better.
 *
 * A target is compared with the median of the others, each of which must have had enough
 * requests; so a target cannot be ejected for what all do, and nothing is judged by a few.
 *
 * The panic floor: never the last one that is up, never more than half of the app's serving
 * targets. When those that are left go down, the ejected ones serve again (core/balance.h).
 */
#pragma once

#include "core/health.h"
#include "core/table.h"

/* X(NAME, lower) */
#define EJECT_CAUSE_TABLE(X)                                                                       \
	X(NO, no)                                                                                  \
	X(FAILURES, failures)                                                                      \
	X(ERRORS, errors)                                                                          \
	X(SERVER_ERRORS, server_errors)                                                            \
	X(LATENCY, latency)                                                                        \
	X(STUCK, stuck)

enum eject_cause {
#define X(name, lower) EJECT_##name,
	EJECT_CAUSE_TABLE(X)
#undef X
	EJECT_CAUSE_COUNT
};

/* What counts up, of one target, over all threads. */
struct eject_numbers {
	uint64_t tries, failed, server_errors;
	uint64_t answers, answers_us; /* and the sum of the times until they began */
};

/* A sliding window over them: the one that is filled, and a share of the one before that shrinks
 * while the new one is filled. */
struct eject_window {
	struct eject_numbers base, before, last; /* at its begin; of the one before; so far */
	uint64_t since_ms;
};

struct eject {
	enum eject_cause cause;
	uint64_t until_ms, ended_ms;
	uint32_t times;	 /* in a row */
	uint32_t passes; /* probes in a row since it was ejected */
	uint32_t value;	 /* what spoke against it: failures, percent, percent, ms, ms */
	struct eject_window window;
};

/* A target as the judge sees it; all of an app's targets make the picture. */
struct eject_seen {
	enum target_use use;
	enum health_state health;
	const struct eject *e; /* NULL: it cannot be ejected */
	uint32_t streak;       /* failures in a row */
	bool silent;	       /* suspected, and it had its time to answer a probe */
};

/* Takes the numbers as they are now; window_ms is that of the rules. */
void eject_count(struct eject_window *w, const struct eject_numbers *now, uint32_t window_ms,
		 uint64_t now_ms);
/* What speaks against target i; EJECT_NO: nothing, or the panic floor forbids it. ret_value as in
 * struct eject. */
enum eject_cause eject_judge(const struct eject_rules *r, const struct eject_seen *all, uint32_t n,
			     uint32_t i, uint64_t now_ms, uint32_t *ret_value);
/* May one more be ejected, namely i? */
bool eject_allowed(const struct eject_seen *all, uint32_t n, uint32_t i);
void eject_begin(struct eject *e, const struct eject_rules *r, enum eject_cause cause,
		 uint32_t value, uint64_t now_ms);
/* It was ejected for another reason, and is silent now. Its time still has to be over as well. */
void eject_turned_stuck(struct eject *e);
void eject_probed(struct eject *e, bool passed);
/* May it come back now? has_path: its probes ask for a health path. The caller then calls eject_end(). */
bool eject_over(const struct eject *e, uint32_t rise, bool has_path, uint64_t now_ms);
void eject_end(struct eject *e, uint64_t now_ms);
