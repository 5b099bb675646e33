/* SPDX-License-Identifier: Apache-2.0
 *
 * Incidents: one for one cause, however many devices stand behind it, and who is to be told.
 *
 *	           a device is told to be bad or ugly on its own account
 *	(none) ───────────────────────────────────────────────────────────> OPEN
 *	                  the cause and all that is folded under it are good │ ^
 *	                                                           RESTORED  v │ REOPENED: within settle_ms
 *	(none) <──────────────────────────────────────────────────────── SETTLING
 *	  CLOSED: settle_ms later, and nothing flaps; told to all who were told
 *
 * That it is over is told at the end of settle_ms, with the time at which it was restored: so what comes back
 * within that comes back for people who still believe that it is open, and need not be paged anew.
 *
 * When a cause turns out to be on account of another, the two become one: the one that was announced stays, with its number,
 * its pages and those who were told of them; were both, MERGED says in which one the other ended.
 *
 * Pages: the first at once when it is as bad as page_from, then after repeat_ms, twice that, ... at most repeat_most_ms,
 * until someone takes it; whoever has had it for taken_ms without an end is reminded, and all go on. When it gets
 * worse than what was paged, at once again, to the same people. A silence or a maintenance window (core/quiet.h) puts a page off: it is sent at
 * the end of that if it still is so. Unknown opens nothing and resolves nothing.
 *
 * How it is used: each DEVICE_TELL of device_settle() goes to incident_tell(), in that order; then incident_settle(), also
 * at incident_next_ms(). Its actions are to be stored before they are carried out. Whom a page went to comes back
 * by incident_told() as bits, whose meaning is the shell's. After a restart: incident_restore() each that was
 * stored, then incident_rejoin() for each device.
 */
#pragma once

#include "core/quiet.h"

#define INCIDENT_FIRST_MAX 16 /* of the devices that deviated, the first so many are named */
#define INCIDENT_NONE UINT32_MAX

struct incident_rule {
	uint8_t page_from; /* enum status: BAD or UGLY; GOOD: nobody is paged */
	uint64_t settle_ms;
	uint64_t repeat_ms, repeat_most_ms; /* between pages */
	uint64_t taken_ms;		    /* 0: once taken, never again */
};

/* X(NAME, lower) */
#define INCIDENT_STATE_TABLE(X)                                                                    \
	X(FREE, free)                                                                              \
	X(OPEN, open)                                                                              \
	X(SETTLING, settling)

enum incident_state {
#define X(name, lower) INCIDENT_##name,
	INCIDENT_STATE_TABLE(X)
#undef X
	INCIDENT_STATE_COUNT
};

struct incident_first {
	uint64_t at_ms; /* its first result that was not good */
	uint32_t device;
	uint32_t status; /* enum status: as it was told then */
};

/* Bytes without pointers: may be stored as they are, for the same build. Devices are numbers of the graph: when that
 * is built anew, the shell writes the new ones into them, DEVICE_NONE for one that is gone: so its incident ends. */
struct incident {
	uint64_t number; /* 1, 2, ... */
	uint32_t cause;
	uint8_t state;		      /* enum incident_state */
	uint8_t status, worst, paged; /* enum status: of the cause now; the worst of it; as paged last, or taken */
	bool announced : 1;	      /* OPENED was done */
	bool has_cause : 1;	      /* the cause is not good again */
	bool flaps : 1;
	bool muted : 1; /* a page is put off */
	/* When it began, by its results; when that was known; 0: not yet; when it was good again; 0: it is not. */
	uint64_t start_ms, noticed_ms, taken_ms, restored_ms;
	uint64_t page_ms; /* when to page again */
	uint64_t quiet_ms; /* muted: when to look again */
	uint64_t told;	  /* bits */
	uint32_t pages, step, reopened; /* sent; times that nobody took it */
	uint32_t now, all; /* devices that are in it; all that ever were */
	uint32_t first_count;
	struct incident_first first[INCIDENT_FIRST_MAX]; /* in order */
};

/* X(NAME, what the shell does) */
#define INCIDENT_ACTION_TABLE(X)                                                                   \
	X(OPENED, "a new one: history")                                                            \
	X(PAGE, "page whoever step says, by the place on the ladder: 0, 1, 2, ...")                \
	X(MUTED, "a page is put off by `quiet`: history")                                          \
	X(CAUSE, "its cause is another now: tell those who were told")                             \
	X(MERGED, "it goes on in number `into`, with those who were told")                         \
	X(RESTORED, "all is good again: history")                                                  \
	X(REOPENED, "and no longer: history")                                                      \
	X(CLOSED, "it is over: tell those who were told")

enum incident_action_kind {
#define X(name, what) INCIDENT_DO_##name,
	INCIDENT_ACTION_TABLE(X)
#undef X
	INCIDENT_DO_COUNT
};

struct incident_action {
	enum incident_action_kind kind;
	const struct incident *incident; /* as it is now; valid during the call */
	uint32_t step;			 /* PAGE */
	const struct quiet *quiet;	 /* MUTED */
	uint64_t into;			 /* MERGED */
};

typedef void incident_act(void *arg, const struct incident_action *a);

struct incidents {
	struct incident_rule rule;
	struct incident *list;
	uint32_t max;
	uint32_t *of; /* of each device, or INCIDENT_NONE */
	uint32_t device_count;
	uint64_t next_number;
	uint64_t overflowed; /* devices that went into another one's because there was no room */
};

/* list (max of them) and of (one a device) are the caller's. next_number: one that was never used. */
void incident_init(struct incidents *is, const struct incident_rule *rule, struct incident *list, uint32_t max,
		   uint32_t *of, uint32_t device_count, uint64_t next_number);
/* false: not one of ours, or no room. Times that the clock has yet to reach, because it was set back, are now. */
bool incident_restore(struct incidents *is, const struct incident *i, uint64_t now_ms);
void incident_rejoin(struct incidents *is, uint32_t device, const struct device_told *told, uint64_t since_ms,
		     uint64_t now_ms);

/* a: a DEVICE_TELL. */
void incident_tell(struct incidents *is, const struct device_action *a, uint64_t now_ms, incident_act *act, void *arg);
void incident_settle(struct incidents *is, const struct quiet *quiets, uint32_t n, struct device_graph *g,
		     uint64_t now_ms, uint64_t wall_ms, incident_act *act, void *arg);
uint64_t incident_next_ms(const struct incidents *is);

/* Someone has it now (also: someone else); false: there is no such number. */
bool incident_take(struct incidents *is, uint64_t number, uint64_t now_ms);
/* A page of it went to them; false: there is no such number. */
bool incident_told(struct incidents *is, uint64_t number, uint64_t who);
const struct incident *incident_find(const struct incidents *is, uint64_t number);
