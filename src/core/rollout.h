/* SPDX-License-Identifier: Apache-2.0
 *
 * How an app gets from one version to another, and back.
 *
 * The state says which units (instances) there should be and what the router may
 * do with each. The shell saves it whenever a step changed it, and only then makes
 * the world like it: starts what should run, stops what should not, publishes a
 * routing table. Both are idempotent, so after a crash at any line it loads the
 * state, makes the world like it again, and goes on stepping.
 *
 *	        DEPLOY                     all slots serve the goal      bake over
 *	IDLE ───────────> SWITCH ──────────────────────────> BAKE ──────────────> FINISH ──> IDLE
 *	  │                │  ^ a new unit fails, or abort:   │ fails                ^
 *	  │ ROLLBACK       │  └── undoing, goal = from <──────┘                      │
 *	  ├──────────────> │ (all slots at once) ────────────────────────────────────┤
 *	  │ mixed: never                                                             │
 *	  └──────────────> EMPTY (hold, drain, stop) ──> FILL (start, ready) ──> BAKE┘
 *
 * SWITCH: in each slot a unit of the goal is started and probed; when it is ready
 * it serves, and in the same table the others in the slot drain: capacity never
 * falls below what is configured on our account. A deploy does one slot at a time
 * and keeps the drained units running (parked) until the bake is over, so that the
 * way back is one table; a rollback and an undo do all slots at once.
 *
 * Back never repeats the careful way forward, and is legal in every phase. An undo
 * that waited for ready_ms takes what it has, except that it never trades an
 * instance that is ready for one that is not: then it goes on waiting, with the
 * ready one serving, until the old release gets up or a rollback says where to go.
 */
#pragma once

#include "core/table.h"

#define ROLLOUT_INSTANCES_MAX 64
#define ROLLOUT_UNITS_MAX (3 * ROLLOUT_INSTANCES_MAX)
#define ROLLOUT_STEPS_MAX (4 * ROLLOUT_INSTANCES_MAX) /* all start, serve, drain and stop at once */

/* X(NAME, lower, what is going on) */
#define ROLLOUT_PHASE_TABLE(X)                                                                     \
	X(IDLE, idle, "nothing is changing")                                                       \
	X(SWITCH, switch, "new instances start and take over, slot by slot")                       \
	X(EMPTY, empty, "requests are held while the old instances drain and end")                 \
	X(FILL, fill, "requests are held until the new instances are ready")                       \
	X(BAKE, bake, "the new release serves; the old one is kept ready")                         \
	X(FINISH, finish, "instances that are no longer wanted drain and end")

enum rollout_phase {
#define X(name, lower, what) ROLLOUT_##name,
	ROLLOUT_PHASE_TABLE(X)
#undef X
	ROLLOUT_PHASE_COUNT
};

/* X(NAME, lower) how a change ended */
#define ROLLOUT_OUTCOME_TABLE(X)                                                                   \
	X(NONE, running)                                                                           \
	X(DONE, done)                                                                              \
	X(UNDONE, undone)                                                                          \
	X(SUPERSEDED, superseded)

enum rollout_outcome {
#define X(name, lower) ROLLOUT_##name,
	ROLLOUT_OUTCOME_TABLE(X)
#undef X
	ROLLOUT_OUTCOME_COUNT
};

/* What runs: a release (number of the app's) with the settings it is started with (number of the
 * shell's). 0: nothing. */
struct rollout_version {
	uint32_t release, settings;
};

static inline bool rollout_same(struct rollout_version a, struct rollout_version b)
{
	return a.release == b.release && a.settings == b.settings;
}

struct rollout_rules {
	uint32_t instances; /* 0: the app is no longer configured; what runs drains and ends */
	uint32_t ready_ms; /* a new unit must be ready by then */
	uint32_t drain_ms;
	uint32_t bake_ms;
	uint32_t switch_ms; /* mixed: never: how long the drain may take while requests are held */
	uint32_t hold_ms; /* how long a request may be held */
	bool never_mixed;
};

struct rollout_unit {
	/* saved */
	uint64_t id; /* unique for ever; instances are started under it */
	struct rollout_version version;
	uint32_t slot; /* 1.. */
	enum target_use use;
	bool stop; /* should end; the unit is forgotten when it has */
	uint64_t until_ms; /* PROBE: to be ready by; DRAIN: to be empty by; SERVE: 0, or, when it
			      was not ready as the change began, to be ready by */
	uint32_t starts_before; /* starts that this change does not hold against it */
	/* seen: filled in by the shell before each step, as new as the step's now_ms: after a pause
	 * (stopped, slow disk) what waits in its sockets is read first, or a deadline is judged by
	 * old news */
	struct rollout_seen {
		bool ready;	 /* its process runs, said so if it should, and probes pass */
		bool unknown;	 /* its process runs, but nobody could look at it lately (the router
				    is new, or hangs): neither ready nor broken, and its time to
				    get ready does not run out */
		bool drained;	 /* the router took up its draining, and nothing is inside */
		bool gone;	 /* no process, and the keeper has forgotten it */
		uint32_t starts; /* processes started for it */
	} seen;
};

struct rollout {
	enum rollout_phase phase;
	bool undoing; /* the goal is `from` again */
	bool direct;  /* all slots at once, no bake */
	bool hold;    /* requests wait, by order of the rollout */
	struct rollout_version current; /* the last that was established */
	struct rollout_version from, to;
	uint64_t change; /* number of the change in hand; 0 when idle */
	uint64_t until_ms; /* BAKE: its end; FINISH: waits no longer for what was held */
	bool seen_waiting; /* as the units' seen: requests that were held are owed an answer */
	char reason[200]; /* why it is undone */
	uint32_t unit_count;
	struct rollout_unit units[ROLLOUT_UNITS_MAX];
};

enum rollout_event_type {
	ROLLOUT_LOOK,	  /* something was seen, or a time has come */
	ROLLOUT_DEPLOY,	  /* begin: to `version`, as change `change`; only when idle */
	ROLLOUT_ROLLBACK, /* begin, at any moment: supersedes what is going on */
	ROLLOUT_ABORT,	  /* undo what is going on; nothing when idle or already undoing */
	ROLLOUT_BOOTED,	  /* no unit exists any more: the keeper itself is new */
};

struct rollout_event {
	enum rollout_event_type type;
	struct rollout_version version;
	uint64_t change;
	const char *reason; /* ABORT: for the history */
};

/* X(NAME, text for the history; a unit's name follows) */
#define ROLLOUT_STEP_TABLE(X)                                                                      \
	X(START, "starts")                                                                         \
	X(SERVE, "ready, serves")                                                                  \
	X(DRAIN, "drains")                                                                         \
	X(DRAINED, "drained")                                                                      \
	X(STOP, "stops")                                                                           \
	X(HOLD, "requests are held")                                                               \
	X(RELEASE, "requests are released")                                                        \
	X(BAKE, "bakes")                                                                           \
	X(UNDO, "is undone")                                                                       \
	X(ESTABLISHED, "established")

enum rollout_step_type {
#define X(name, text) ROLLOUT_STEP_##name,
	ROLLOUT_STEP_TABLE(X)
#undef X
};

struct rollout_result {
	bool changed; /* the state must be saved before the world is made like it */
	uint64_t wake_ms; /* step again then at the latest; UINT64_MAX: no need */
	uint64_t culprit; /* the unit that had it turned round with this step; 0: none did */
	uint64_t ended;	  /* number of the change that ended with this step; 0: none */
	enum rollout_outcome outcome;
	struct rollout_version ended_from, ended_to;
	char reason[200]; /* of the outcome */
	struct {
		enum rollout_step_type type;
		uint64_t unit; /* 0: the app */
		uint32_t slot;
		struct rollout_version version;
	} steps[ROLLOUT_STEPS_MAX];
	uint32_t step_count, steps_left_out; /* beyond the room there is */
};

/* One decision. *next_unit is the number for the next new unit; it is counted up. A DEPLOY when
 * not idle is a bug of the caller. */
void rollout_step(struct rollout *r, const struct rollout_rules *rules,
		  const struct rollout_event *ev, uint64_t now_ms, uint64_t *next_unit,
		  struct rollout_result *ret);

/* The version that the rollout is heading for now (current when idle). */
struct rollout_version rollout_goal(const struct rollout *r);
/* Checks what must always hold (units within bounds, no two of one version in a slot, ...);
 * returns NULL, or what is wrong. For tests and the simulator. */
const char *rollout_check(const struct rollout *r);

const char *rollout_phase_name(enum rollout_phase p);
const char *rollout_outcome_name(enum rollout_outcome o);
const char *rollout_step_text(enum rollout_step_type t);
