/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole Upstate in one thread and in virtual time: the decisions of src/core are
 * the real ones, everything around them (processes, messages, disk, clients) is a
 * model that a seed drives, with faults. The same seed gives the same run, event
 * by event: nothing reads a clock, and nothing is ordered by an address.
 *
 *	options.c     a seed becomes a world: apps, releases and how they behave, faults
 *	world.c       random numbers, the event heap, channels between processes, the trace
 *	apps.c        processes of the apps: start, serve, crash, hang, end
 *	keeper.c      model of the keeper: starts, restarts, stops, forwards tables
 *	controller.c  model of the controller: load, step the rollout, save, act
 *	store.c       what the controller saves, with a disk that fails; the history
 *	router.c      model of the router: tables, probes, balance, hold
 *	failure.c     model of the router: suspicion, ejection, what goes elsewhere
 *	clients.c     requests: arrivals, executions, answers, broken targets, retries
 *	operators.c   people and faults
 *	check.c       the rules that must hold, and what must be so when it is quiet
 *	sim.c         runs seeds
 */
#pragma once

#include "core/balance.h"
#include "core/budget.h"
#include "core/eject.h"
#include "core/hold.h"
#include "core/retry.h"
#include "core/rollout.h"
#include "core/silence.h"
#include "core/supervise.h"

#define SIM_APPS 3
#define SIM_SLOTS 4
#define SIM_RELEASES 8 /* numbers 1.. */
#define SIM_GOOD 2     /* the first of them never misbehave */
#define SIM_IDS 2048
#define SIM_PROCS 128
#define SIM_INSTANCES 128
#define SIM_TARGETS 32 /* of one app in a table */
#define SIM_TABLES 64
#define SIM_REQUESTS 2048
#define SIM_SERIALS 65536
#define SIM_CHANGES 1024
#define SIM_EVENTS 16384
#define SIM_MESSAGES 256
#define SIM_MESSAGE_MS 2 /* the longest way of one that is not slow */
#define SIM_NONE UINT32_MAX

/* Deliberate faults: one for each rule, at least. X(NAME, name, what is broken) */
#define MUTATION_TABLE(X)                                                                          \
	X(ACT_FIRST, "act-before-saving", "the controller makes the world before it saves")        \
	X(DRAIN_FIRST, "drain-first", "the old drain before the new serve")                        \
	X(BLIND, "see-ready", "every new unit is believed to be ready")                            \
	X(DRAINED, "see-drained", "every draining unit is believed to be empty")                   \
	X(GONE, "see-gone", "what was told to end is believed to be gone")                         \
	X(PARK, "park-loses", "the parked units are forgotten")                                    \
	X(OLD_NEWS, "old-news", "after a hang, deadlines are judged before messages are read")     \
	X(REFUSE, "refuse-abort", "an abort is refused in the bake")                               \
	X(NO_END, "lose-end", "a superseded change gets no end in the history")                    \
	X(TWO_ENDS, "end-twice", "a change that ended is told again after a crash")                \
	X(REORDER, "stale-table", "the keeper hands a new router the table before the last")       \
	X(STARTS, "start-twice", "START is not idempotent")                                        \
	X(FORGET, "forget-waiting", "the keeper forgets what is in its back-off")                  \
	X(REVIVE, "restart-stopping", "the keeper restarts what was told to end")                  \
	X(NO_CEILING, "no-ceiling", "the back-off doubles beyond its limit")                       \
	X(NO_PAUSE, "no-pause", "a crash loop restarts at once")                                   \
	X(NO_RESET, "no-reset", "a healthy spell does not start the back-off over")                \
	X(PICK_DRAIN, "pick-draining", "draining targets get requests")                            \
	X(UP_UNKNOWN, "up-on-unknown", "a target that nobody looked at counts as up")              \
	X(NEVER_DOWN, "never-down", "failed probes do not count")                                  \
	X(LIMIT, "no-limit", "the limit of a target is ignored")                                   \
	X(RETRY_SENT, "retry-sent", "a POST that was sent is sent again")                          \
	X(RETRY_EPIPE, "retry-epipe", "EPIPE on a later write counts as unread")                   \
	X(RETRY_BIG, "retry-big", "ECONNRESET counts as unread for requests of any size")          \
	X(RETRY_LATE, "retry-late", "a POST without an answer in time is sent again")              \
	X(MOVE_POST, "move-post", "a POST that a stuck target has is sent elsewhere")              \
	X(NO_MOVE, "move-none", "what a stuck target owes is not moved")                           \
	X(NO_SUSPECT, "no-suspect", "silence is no cause for suspicion")                           \
	X(EJECT_FLOOR, "eject-all", "the last and more than half may be ejected")                  \
	X(EJECT_EVER, "eject-ever", "who was ejected does not come back")                          \
	X(PICK_EJECTED, "pick-ejected", "ejected and suspected targets get requests")              \
	X(NO_BUDGET, "no-budget", "retries have no budget")                                        \
	X(ROOM_COUNT, "room-count", "the waiting room takes more requests than allowed")           \
	X(ROOM_BYTES, "room-bytes", "the waiting room takes more bytes than allowed")              \
	X(ROOM_TIME, "room-time", "nobody is refused when the wait is over")                       \
	X(ROOM_LEAK, "room-leak", "a client that left keeps its place")                            \
	X(ROOM_SLEEP, "room-sleep", "nobody looks at the room when it opens")                      \
	X(ROOM_RUSH, "room-rush", "after a hold all are let out at once")                          \
	X(MIX, "mix", "versions that must not mix are switched slot by slot")                      \
	X(STUCK, "stuck", "an undo waits for something that does not come")

enum mutation {
	MUTATE_NOTHING,
#define X(name, text, what) MUTATE_##name,
	MUTATION_TABLE(X)
#undef X
	MUTATE_COUNT
};

enum part_id { P_CONTROLLER, P_ROUTER, P_COUNT };

struct part {
	bool up;
	uint32_t epoch; /* counts lives; what is scheduled for an earlier one is void */
	uint64_t hung_until, resumed_ms; /* resumed: also started */
	struct supervise sup;
};

/* --- events --- */

#define EVENT_TABLE(X)                                                                             \
	X(DELIVER)                                                                                 \
	X(PART_START)                                                                              \
	X(PART_KILL) X(TICK) X(BELL) X(ACT) X(OPERATE) X(FAULT) X(CALM) X(QUIET) X(PROC_UP)        \
	    X(PROC_CRASH) X(PROC_HANG) X(PROC_UNHANG) X(PROC_FLAP) X(PROC_EXIT) X(PROC_KILL)       \
		X(RESTART) X(PROBE) X(PROBE_LATE) X(DRAIN_OVER) X(ARRIVE) X(READ) X(ANSWER)        \
		    X(BROKE) X(TIMEOUT) X(RETRY) X(LEAVE) X(WAIT_OVER) X(DISK_OK) X(LOOK) X(WATCH)     \
			X(ACCUSED) X(STUCK_CHECK)

enum event_type {
#define X(name) E_##name,
	EVENT_TABLE(X)
#undef X
	E_COUNT
};

struct event {
	uint64_t at, seq;
	uint32_t type, a;
	uint64_t b, c;
};

/* --- channels: in order, delayed, gone with the death of an end --- */

enum channel_id { CH_TO_KEEPER, CH_TO_CONTROLLER, CH_TO_ROUTER, CH_COUNT };

enum message_type { M_START, M_STOP, M_TABLE, M_INSTANCE, M_SYNCED };

struct message {
	enum message_type type;
	uint32_t app, slot, state, starts;
	uint64_t id; /* of the unit; of the table; of the keeper's life */
	struct rollout_version version;
};

struct channel {
	struct message queue[SIM_MESSAGES];
	uint32_t head, len, epoch;
	uint64_t last_at;
};

/* --- apps --- */

struct behaviour {
	uint32_t start_ms, service_ms, stop_ms;
	uint32_t crash_ms, hang_ms, flap_ms; /* mean times; 0: never */
	bool never_ready, ignores_term;
};

struct proc {
	uint32_t pid; /* 0: a free place */
	uint32_t app, release;
	uint64_t unit;
	bool up, hung, flapping, ending;
	uint64_t hung_ms; /* since when */
};

struct notes { /* the checker's, of the change in hand */
	uint64_t saved_ms, begun_ms, undo_ms, bake_ms, first_unit;
};

struct app {
	struct rollout_rules rules;
	struct behaviour behaviour[SIM_RELEASES + 1];
	struct hold_limits limits;
	uint32_t probe_ms, probe_timeout_ms, rise, fall, target_limit, response_ms, grace_ms;
	struct eject_rules eject;
	uint32_t slow_start_ms, retry_share, retry_least;
	uint32_t arrive_ms; /* mean time between requests */
	bool is_unix, unread_counts;
	bool held; /* by an operator: part of the configuration here */
	struct notes notes;
	bool rescued;
	uint32_t expect; /* release that must be established when it is quiet; 0: any */
};

/* --- keeper --- */

enum inst_state { I_STARTING, I_RUNNING, I_WAITING, I_STOPPING, I_GONE };

struct inst {
	uint64_t id;
	uint32_t app, slot;
	struct rollout_version version;
	enum inst_state state;
	bool stopping;
	uint32_t starts, pid;
	struct supervise sup;
	uint64_t started_ms;
};

struct keeper {
	uint64_t boot;
	uint32_t epoch;
	struct inst inst[SIM_INSTANCES];
	uint32_t len;
	uint64_t table, table_before; /* generations */
};

/* --- tables and numbers --- */

struct sim_target {
	uint64_t id, until_ms;
	enum target_use use;
	uint32_t slot;
};

struct sim_table {
	uint64_t generation;
	struct {
		bool hold;
		uint32_t len;
		struct sim_target t[SIM_TARGETS];
	} app[SIM_APPS];
};

struct numbers { /* shared memory: outlives router and controller */
	uint64_t generation;
	enum health_state state[SIM_IDS];
	uint64_t looked_ms[SIM_IDS]; /* the last probe */
	uint32_t inside[SIM_IDS];
};

/* --- controller and store --- */

struct saved {
	struct rollout r;
	uint64_t boot;
};

struct store {
	struct saved app[SIM_APPS];
	uint64_t next_unit, next_change, generation;
	uint64_t last_ended;
	bool full, reserve_open;
	struct {
		uint8_t begun, ended;
	} change[SIM_CHANGES];
};

struct controller {
	bool synced, pending_act[SIM_APPS];
	uint32_t wanted_least[SIM_APPS]; /* instances, since the last table */
	bool touched[SIM_APPS];		 /* configuration that the table has to follow */
	uint32_t crash_in;		 /* lines until it dies; 0: not planned */
	uint64_t unit_before_step, keeper_boot, next_unit, next_change, generation, published;
	struct saved app[SIM_APPS];
	uint64_t wake[SIM_APPS];
	struct {
		uint8_t known, gone, ordered, told; /* ordered: START sent; told: STOP sent */
		uint8_t state;
		uint32_t starts;
	} view[SIM_IDS];
	struct rollout next; /* room for a step */
	struct rollout_result result;
};

/* --- router and requests --- */

struct rt_target {
	uint64_t id, until_ms;
	enum target_use use;
	struct health health;
	uint32_t outstanding;
	uint32_t probe_serial;
	struct silence silence;
	struct eject eject;
	struct eject_numbers counts;
	uint64_t heard_ms, judge_ms, up_since_ms, stuck_ms;
	uint32_t streak;
	bool suspect, watched;
	/* the checker's own count */
	uint32_t passes, passes_in_row, fails_in_row;
	bool down;
};

struct rt_app {
	struct hold hold;
	bool order;
	uint32_t len, head, tail, waiting, inside, turn;
	uint32_t held_now; /* that waited, and are still owed an answer */
	uint64_t waiting_bytes;
	struct budget budget;
	uint64_t requests;
	/* the checker's own count */
	uint64_t since_ms, retried;
	struct rt_target t[SIM_TARGETS];
};

struct router {
	uint64_t generation;
	struct rt_app app[SIM_APPS];
};

enum request_state { R_FREE, R_WAITING, R_INSIDE, R_RETRYING };

struct request {
	enum request_state state;
	uint32_t app, serial, attempt, next, pid, died_under, writes, bytes;
	uint64_t came_ms, until_ms, target, sent_ms;
	uint64_t tried[4];
	uint32_t tried_len;
	bool post, read, held;
	bool moved, refused; /* refused: by the retry budget */
	/* the checker's: how often it was, and for how long it should have been */
	uint32_t moves, stuck;
};

/* --- the run --- */

struct options {
	uint64_t seed;
	uint32_t apps, calm_ms, fault_ms, operate_ms;
	bool liveness, crash_loop;
	bool kill_controller, crash_lines, hang_controller, kill_router, hang_router, kill_procs,
	    hang_procs, disk, keeper_restart, slow_messages;
};

struct sim {
	struct options o;
	struct app app[SIM_APPS];
	enum mutation mutation;
	bool trace, failed, calm, quiet;
	char why[300];
	uint64_t rng[4], now, seq, hash, events;
	struct event heap[SIM_EVENTS];
	uint32_t heap_len;
	struct channel ch[CH_COUNT];
	struct part part[P_COUNT];
	struct proc proc[SIM_PROCS];
	uint32_t next_pid;
	uint64_t last_up[SIM_IDS]; /* when the unit was last able to serve */
	uint64_t went_down[SIM_IDS]; /* when the router last found it down */
	uint64_t came_up[SIM_IDS];
	uint64_t crashed[SIM_IDS]; /* when a process of it last ended unasked */
	struct keeper keeper;
	struct store store;
	struct controller ctl;
	struct sim_table table[SIM_TABLES];
	uint64_t last_table;   /* generation that was published last */
	struct rollout before; /* room for the checker */
	struct numbers numbers;
	struct router router;
	struct request request[SIM_REQUESTS];
	uint32_t request_top, next_serial;
	uint8_t executed[SIM_SERIALS];
	uint64_t post[SIM_SERIALS / 64]; /* which are POSTs; outlives the request */
	uint64_t calm_at, arrive_until;
	uint64_t count_ejected[EJECT_CAUSE_COUNT], count_moved, count_refused;
	uint64_t count_requests, count_changes, count_lines;
	uint64_t die_at_line;
	uint32_t reached[ROLLOUT_PHASE_COUNT][2][4]; /* phase, undoing: orders that came in it */
	uint64_t slowest_rest_ms;
};

/* world.c */
void sim_init(struct sim *s, uint64_t seed, enum mutation m, bool trace);
/* The same, without any fault but one: the controller dies at its line `line` (0: never). */
void sim_init_line(struct sim *s, uint64_t seed, uint64_t line, bool trace);
bool sim_run(struct sim *s); /* false: a rule was broken; s->why says which */
uint64_t sim_random(struct sim *s);
uint32_t sim_between(struct sim *s, uint32_t lo, uint32_t hi); /* both included */
uint32_t sim_around(struct sim *s, uint32_t mean);	       /* 1.., roughly exponential */
bool sim_chance(struct sim *s, uint32_t percent);
void sim_at(struct sim *s, uint64_t at, enum event_type type, uint32_t a, uint64_t b, uint64_t c);
void sim_say(struct sim *s, const char *fmt, ...) PRINTF(2, 3);
void sim_broken(struct sim *s, const char *fmt, ...) PRINTF(2, 3);
void sim_send(struct sim *s, enum channel_id ch, const struct message *m);
void sim_cut(struct sim *s, enum channel_id ch);
static inline bool sim_mutated(const struct sim *s, enum mutation m)
{
	return s->mutation == m;
}

/* options.c */
void options_expand(struct sim *s, uint64_t seed);
void options_print(const struct sim *s);

/* apps.c */
uint32_t proc_start(struct sim *s, uint32_t app, uint32_t release, uint64_t unit); /* pid */
void proc_end(struct sim *s, uint32_t pid); /* dies now, however */
void proc_term(struct sim *s, uint32_t pid);
void proc_hang(struct sim *s, uint32_t pid, uint32_t ms); /* 0: until killed */
struct proc *proc_find(struct sim *s, uint32_t pid);
struct proc *proc_of(struct sim *s, uint64_t unit);
void proc_event(struct sim *s, const struct event *e);
void proc_event_unhang(struct sim *s, struct proc *p);

/* keeper.c */
void keeper_boot(struct sim *s);
void keeper_restart(struct sim *s);
void keeper_message(struct sim *s, const struct message *m);
void keeper_proc_up(struct sim *s, uint32_t pid);
void keeper_proc_ended(struct sim *s, uint32_t pid);
void keeper_part_died(struct sim *s, enum part_id p);
void keeper_part_start(struct sim *s, enum part_id p);
void keeper_restart_inst(struct sim *s, uint64_t id);
struct inst *keeper_find(struct sim *s, uint64_t id);

/* store.c */
enum store_verdict { STORE_SAVED, STORE_FAILED, STORE_LOST_REPLY };
void store_copy(struct rollout *to, const struct rollout *from);
/* Saves app's rollout with the numbers in ctl; begun and res->ended go into the history. */
enum store_verdict store_save(struct sim *s, uint32_t app, const struct rollout *r, uint64_t begun,
			      const struct rollout_result *res, bool urgent);

/* controller.c */
void controller_start(struct sim *s);
void controller_message(struct sim *s, const struct message *m);
void controller_tick(struct sim *s);
void controller_look(struct sim *s, uint32_t app);
void controller_act(struct sim *s, uint32_t app);
enum op_verdict { OP_DONE, OP_REFUSED, OP_LATER };
enum op_verdict controller_op(struct sim *s, uint32_t app, enum rollout_event_type type,
			      uint32_t release);

/* router.c */
void router_start(struct sim *s);
void router_died(struct sim *s);
void router_take_table(struct sim *s, uint64_t generation);
void router_event(struct sim *s, const struct event *e);
struct rt_target *router_target(struct sim *s, uint32_t app, uint64_t id);
void router_health(struct sim *s, uint32_t app, struct rt_target *t, enum health_event ev);
/* The state of the app may have changed. */
enum settle_why {
	SETTLE_STATE, /* only that: the room is looked at when hold_set() says so */
	SETTLE_MORE,  /* there is a new table */
	SETTLE_FREED, /* a place became free */
};
void router_settle(struct sim *s, uint32_t app, enum settle_why why);
/* Sends it to a target, or lets it wait, or refuses it. */
void router_dispatch(struct sim *s, uint32_t i);
enum balance_verdict router_pick(struct sim *s, uint32_t app, const struct request *q,
				 uint32_t *ret);
void router_leave_room(struct sim *s, uint32_t i);

/* failure.c */
void failure_event(struct sim *s, const struct event *e);
void failure_look(struct sim *s); /* the router begins */
void failure_probed(struct sim *s, uint32_t app, struct rt_target *t, bool answered, bool passed);
void failure_came_up(struct sim *s, uint32_t app, struct rt_target *t);
void failure_asked(struct sim *s, uint32_t app, struct rt_target *t);
void failure_answered(struct sim *s, struct rt_target *t, uint64_t us);
void failure_failed(struct sim *s, uint32_t app, struct rt_target *t);
void failure_check_stuck(struct sim *s, uint32_t i);

/* clients.c */
void clients_move(struct sim *s, uint32_t i); /* its target is stuck */
void clients_event(struct sim *s, const struct event *e);
void clients_send(struct sim *s, uint32_t i, struct rt_target *t);
void clients_proc_died(struct sim *s, const struct proc *p);
void clients_finish(struct sim *s, uint32_t i, const char *how);
void clients_cut_target(struct sim *s, uint32_t app, uint64_t target, const char *how);

/* operators.c */
void operators_event(struct sim *s, const struct event *e);

/* check.c */
void check_step(struct sim *s, uint32_t app, const struct rollout *before,
		const struct rollout *after, const struct rollout_event *ev);
void check_order_saved(struct sim *s, uint32_t app, const struct rollout_unit *u);
void check_saved(struct sim *s, uint32_t app, const struct rollout *before,
		 const struct rollout *after);
/* Did the router look at the target as often as it should? */
bool check_looked_lately(const struct sim *s, uint32_t app, uint64_t id);
void check_table(struct sim *s, const struct sim_table *before, const struct sim_table *after);
void check_spawn(struct sim *s, uint32_t app, uint32_t release, uint64_t unit);
void check_stop(struct sim *s, const struct inst *in);
void check_send(struct sim *s, const struct request *q, const struct rt_target *t);
void check_ejected(struct sim *s, uint32_t app, const struct rt_target *t);
void check_retried(struct sim *s, uint32_t app);
void check_pause(struct sim *s, const struct supervise_rule *rule, uint32_t ends_before,
		 uint64_t ran_ms, uint64_t pause);
void check_room(struct sim *s, uint32_t app);
void check_waits_rightly(struct sim *s, uint32_t app);
bool check_quiet(struct sim *s, char *why, size_t size);
