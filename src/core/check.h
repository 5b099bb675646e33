/* SPDX-License-Identifier: Apache-2.0
 *
 * What one check's results say. Each result is good, bad, ugly or unknown; the check's *hard* status is what
 * enough of them in a row agree on, so that one lost packet is no news:
 *
 *	hard status   becomes ugly           becomes bad                becomes good
 *	-----------   --------------------   ------------------------   -----------------------
 *	good          `fall` ugly in a row   `fall` bad or ugly         -
 *	bad           `fall` ugly in a row   -                          `rise` good in a row
 *	ugly          -                      `rise` of bad or good      `rise` good in a row
 *	unknown       `fall` ugly in a row   `fall` bad or ugly         the first good one
 *
 * A result that speaks against the hard status makes the check *soft*: it is measured sooner then, and told
 * to nobody.
 *
 * Unknown is the monitor's own fault (no network, no descriptors, suspended), so it is evidence for nothing: it
 * counts neither up nor down, rows go on behind it where they stopped, and its time is nobody's.
 * After `fall` of them in a row the status is shown as unknown (it is *blind*) until a result agrees with the
 * hard status or there is another one; the hard status stays below it.
 *
 * What went bad and good again is told when it is over: the worst that was seen, and how long that lasted, also
 * where it never got hard. So "OK, was BAD for 4 min 10 s".
 *
 * Flapping is Nagios' measure (base/flapping.c, "Detection and Handling of State Flapping"): of the last 21
 * results, the share of the 20 places where one differs from the one before, newer ones weighing more,
 *
 *	percent = 100/20 * sum over x = 1..20 of c(x) * (0.75 + 0.5 * (x - 1) / 19)
 *
 * c(x) 1 where they differ, x = 20 the newest. It begins at flap_begin and ends below flap_end. Other than
 * there every result counts, not only hard ones: what comes and goes within `fall` is just what nobody else
 * would tell; one dip in 21 results makes about 10 %, so flap_begin is higher here (CHECK_FLAP_BEGIN).
 *
 * A check that is *pushed* (a job that says that it ran) is not measured but waited for: give it
 * rise = fall = 1, check_step() for each beat, and check_look() at check_late_ms(): late is bad, and
 * late_ms later it is ugly. Where nobody could have heard a beat, check_step(UNKNOWN) gives it a whole
 * interval from then on.
 *
 * One that should be measured and is not (the watcher is dead, or far behind) is *overdue* at check_late_ms(), too:
 * check_look() then takes that for an unknown result. What nobody looks at does not stay good for ever.
 *
 * How it is used. Times are ms of a steady clock that stands near the real one: what the wall clock showed when the
 * process began, and from there on the monotonic clock. So no jump of the clock makes or ends an interval, and
 * what was stored before a restart still means the same. A wall clock's time t of another process is
 * t + (now of the steady clock - now of the wall clock).
 *
 *	check_init()      a new check, or check_restore() for one whose bytes were stored
 *	check_step()      each result: the shell tells what `what` says
 *	check_due_ms()    when to measure next (the watcher runs check_step() for this alone)
 */
#pragma once

#include "core/status.h"

#define CHECK_HISTORY 21
#define CHECK_ROW_MAX 100	   /* the most that rise and fall may be */
#define CHECK_FIRST_SPREAD_MS 60000 /* within which all are measured once after a start */
#define CHECK_OVERDUE_LEAST_MS 30000 /* and at most so long, beyond its interval */
#define CHECK_OVERDUE_MOST_MS 300000
#define CHECK_FLAP_BEGIN 30	   /* percent: what a careful operator would choose */
#define CHECK_FLAP_END 15

struct check_rule {
	uint64_t interval_ms; /* between measurements, or beats */
	uint64_t retry_ms;    /* while it is soft; at most interval_ms */
	uint64_t late_ms;     /* pushed: how long it is only bad */
	uint8_t rise, fall;   /* 1 to CHECK_ROW_MAX */
	uint8_t flap_begin;   /* percent; 0: flapping is not looked for */
	uint8_t flap_end;     /* below this it is over */
	bool pushed;	      /* nobody can measure it now: it is waited for */
};

/* X(NAME, what happened) bits of check_change.what */
#define CHECK_WHAT_TABLE(X)                                                                        \
	X(HARD, "another hard status")                                                             \
	X(SOFT, "the first result in a row that speaks against the hard status")                   \
	X(OVER, "what spoke against it is over, and it never got hard")                            \
	X(FLAPS, "it began to flap")                                                               \
	X(STEADY, "it no longer flaps")                                                            \
	X(BLIND, "nobody could look, for so long that it is unknown")                              \
	X(SEES, "it is known again")

enum check_what_bit {
#define X(name, what) CHECK_BIT_##name,
	CHECK_WHAT_TABLE(X)
#undef X
	CHECK_BIT_COUNT
};
enum check_what {
#define X(name, what) CHECK_##name = 1 << CHECK_BIT_##name,
	CHECK_WHAT_TABLE(X)
#undef X
};

struct check_change {
	unsigned what;
	enum status from, to; /* with HARD: the hard statuses; else both are the one it has */
	/* With HARD to good, and with OVER: what is over. */
	enum status worst;
	uint64_t worst_ms; /* spent there, as far as somebody looked */
	uint64_t away_ms;  /* from the first result that was not good to the first that was */
};

/* Bytes without pointers: may be stored as they are, for the same build. */
struct check {
	uint64_t since_ms;   /* the first of the results that made the hard status */
	uint64_t heard_ms;   /* the last result; of a pushed one the last beat, or when its time began anew */
	uint64_t seen_ms;    /* until when time is accounted for */
	uint64_t turn_ms[2]; /* when each row began */
	uint64_t away_ms;    /* since when results are not good; 0: they are */
	uint64_t worst_ms;   /* spent in the worst of that */
	uint64_t was_ms;     /* the same of the last time that it got hard and good again */
	uint64_t history;    /* CHECK_HISTORY results of 2 bits, the newest lowest */
	int8_t row[2];	     /* results in a row: 1.. of bad or worse, -1.. of good; of ugly, of not ugly */
	uint8_t hard, last;  /* enum status; the last result */
	uint8_t worst, was;  /* enum status; good: nothing */
	uint8_t blind;	     /* unknown results in a row */
	bool is_blind : 1, flaps : 1;
};

void check_init(struct check *c, uint64_t now_ms);
/* Makes stored bytes fit to go on with: false when they are none of ours (then check_init() it). Times that the
 * clock has yet to reach, because it was set back, are now. */
bool check_restore(struct check *c, uint64_t now_ms);
/* A result. now_ms: when it was measured; what came out of order counts as if it came just now. */
void check_step(struct check *c, const struct check_rule *r, enum status outcome, uint64_t now_ms,
		struct check_change *ret);

/* What is shown: the hard status, or unknown. */
enum status check_status(const struct check *c);
/* Does the last result (or the last unknown ones, before they are shown) speak against what is shown? */
bool check_soft(const struct check *c);
/* The measure above, in tenths of a percent: 0 to 1000. */
unsigned check_flap_permille(const struct check *c);

/* When to measure, after a result at now_ms. id spreads checks evenly over the interval, the same over
 * restarts; while it is soft, within half and one and a half of retry_ms. */
uint64_t check_due_ms(const struct check *c, const struct check_rule *r, uint64_t id, uint64_t now_ms);
/* When to measure first, at a start, and when a time was slept through: spread over the interval, at most
 * CHECK_FIRST_SPREAD_MS. */
uint64_t check_first_ms(const struct check_rule *r, uint64_t id, uint64_t now_ms);
/* A number as good as random in [0, below) out of an id: for spreading. */
uint64_t check_spread(uint64_t id, uint64_t below);

/* When to look, if nothing is heard of it; UINT64_MAX: never, it cannot get worse. */
uint64_t check_late_ms(const struct check *c, const struct check_rule *r);
/* Is it late, or overdue, by now? Then a step that says so, and true. */
bool check_look(struct check *c, const struct check_rule *r, uint64_t now_ms, struct check_change *ret);
