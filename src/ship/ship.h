/* SPDX-License-Identifier: Apache-2.0
 *
 * Apps, their releases, instances and changes: what core/rollout decides, made real.
 *
 * One rule holds for everything here: decide, save, then make the world like it.
 * ship_app_step() steps the rollout with what is seen now, saves state and history in one
 * transaction, and only then sends START and STOP to the keeper (idempotent by the instance's
 * number) and publishes a routing table. A controller that dies between any two of these loads
 * the state and does the rest again.
 *
 * All of it belongs to the controller's one thread.
 */
#pragma once

#include <jansson.h>

#include "base/list.h"
#include "base/map.h"
#include "conf/conf.h"
#include "core/rollout.h"
#include "loop/loop.h"
#include "ship/store.h"
#include "state/state.h"
#include "wire/msg.h"
#include "wire/shm.h"

#define SHIP_NAME 64
#define SHIP_KEY 40
#define SHIP_DRAIN_MS 10000   /* of what is not configured any more */
#define SHIP_STEPS_MAX 400    /* of one change; more are counted */
#define SHIP_RELEASES_MAX 10000 /* remembered by number for an app; manifests stay for ever */
#define SHIP_UID_BASE 66000   /* users of apps, when Upstate runs as root: above what Debian gives out,
				 below what containers take */
#define SHIP_UIDS 30000

struct ship;

/* A release of an app. */
struct ship_release {
	uint32_t number;
	uint32_t before; /* the release that was in force when this one was first established */
	char id[STORE_HASH];
	uint64_t created_ms; /* wall */
	uint64_t established_ms; /* wall; last time it was; 0: never */
};

/* How instances are started: what of the configuration reaches them. Saved as a text by its hash. */
struct ship_settings {
	uint32_t number;
	char hash[STATE_HASH];
	json_t *json; /* {run, env[], data, stop_signal, grace_ms, notify, files_max, port} */
};

/* Numbers of what users saw. */
struct ship_receipt {
	uint64_t requests, answered, failed, refused, held, retried, slowed, client_left;
	uint64_t p50_us, p99_us, longest_us;
};

enum ship_kind { SHIP_DEPLOY, SHIP_ROLLBACK, SHIP_SETTINGS };

struct ship_step {
	char name[160];
	uint64_t at_ms; /* wall */
	uint64_t ms;	/* since the change began */
};

/* A change in hand, or the last one that ended. */
struct ship_change {
	uint64_t number;
	enum ship_kind kind;
	struct rollout_version from, to;
	char outcome[16]; /* "running", "done", "undone", "superseded", "failed" */
	char reason[200];
	char who[64];
	char why[500];
	char key[SHIP_KEY];	   /* of the order that began it; see struct ship_app */
	char abort_key[SHIP_KEY]; /* of the order that aborted it */
	uint64_t began_ms, ended_ms; /* wall */
	bool staging; /* files are being put in place; the rollout has not begun */
	struct shm_sum base; /* the app's numbers when it began */
	struct ship_receipt receipt; /* once ended */
	struct ship_step *steps;
	uint32_t step_count, steps_dropped;
	uint32_t told; /* steps that followers have seen */
};

/* An instance, beside its unit in the rollout. */
struct ship_unit {
	struct list link;
	uint64_t id;
	struct ship_app *app;
	uint32_t slot; /* of the app */
	uint32_t shm_slot;
	struct rollout_version version;
	uint16_t port; /* 0: a unix socket */
	bool known;    /* the keeper has told of it */
	bool ordered_start, ordered_stop; /* to the keeper that is there now */
	bool gone;
	uint32_t refused;  /* starts in a row that the keeper refused */
	uint64_t again_ms; /* not ordered before */
	struct msg_instance seen;
	char why[MSG_REASON]; /* it ended last, or could not be started; "": it never did */
	enum target_use published; /* use in the newest table */
	uint64_t published_generation; /* first table with this use */
	uint64_t cut_before;	       /* requests that were cut before its drain began */
};

/* A server that Upstate does not run. */
struct ship_target {
	char name[MSG_NAME]; /* its address, as configured */
	uint64_t id;
	uint32_t shm_slot;
	uint16_t kind, addr_len;
	uint8_t addr[TABLE_ADDR_MAX];
	bool by_name;	   /* the address is what the name meant when it was looked up last; len 0: none */
	char problem[400]; /* with looking it up; "": none */
	uint64_t until_ms;   /* of one that left the configuration: what is inside may go on so long */
	uint64_t generation; /* first table in which that one drains */
};

struct ship_app {
	char name[SHIP_NAME];
	struct ship *ship;
	struct list link;
	const struct conf_app *conf; /* NULL: not configured (any more) */
	uint64_t id;		     /* map_hash of the name */
	uint32_t shm_slot;
	bool has_slot; /* while it is configured or has instances */
	uint32_t uid; /* (uint32_t)-1: everything runs as one user */
	uint32_t next_release, next_settings;
	struct ship_release *releases;
	uint32_t release_count;
	struct ship_settings *settings;
	uint32_t settings_count;
	struct rollout rollout;
	struct list units;
	struct ship_target *targets;
	struct ship_target *leaving; /* no longer configured, and perhaps not empty yet */
	uint32_t target_count, leaving_count;
	bool held;		  /* by order of a person */
	bool maintenance;	  /* the same */
	/* Of the order being carried out, "" if it has none: a client that lost its connection says the same
	 * order again with the same key, and is told of the change that it made, not given another. */
	char order_key[SHIP_KEY];
	json_t *ordered;	  /* {target name: "drain" | "fence"} */
	struct ship_change *change; /* in hand, or the last one; NULL: none yet */
	struct ship_change *before; /* what `change` took the place of */
	json_t *unsaved; /* [[kind, time, data]]: history that waits to be saved with the app */
	bool settings_due; /* those of the configuration may differ from those in force */
	struct loop_timer wake;
	struct loop_timer again; /* a start that was refused is ordered again */
	struct loop_child stage_child;
	int stage_pipe; /* its words when it fails; -1: it does not run */
	uint64_t stage_change; /* for which it works */
	bool dirty; /* to be stepped at the end of this turn */
};

struct ship_ops {
	/* A step was added to, or (step NULL) an end came for, a change of the app. */
	void (*on_change)(void *arg, struct ship_app *app, const struct ship_change *c,
			  const struct ship_step *step);
	/* Something that a status is made of may have changed. */
	void (*on_status)(void *arg);
	void *arg;
};

struct ship {
	struct loop *loop;
	struct state *state;
	struct store *store;
	struct shm *shm;
	struct msg_channel *keeper;
	struct ship_ops ops;
	char dir[512]; /* the state directory */
	bool root;
	char acme[48]; /* thumbprint of the account's key; "": nothing is got by itself */
	uint32_t router_uid, router_gid;
	const struct conf *conf;
	struct list apps; /* in order of their first appearance */
	struct map by_name, unit_by_id;
	struct map slot_by_id; /* id of app or target -> slot + 1 */
	uint32_t slot_hint;
	struct list leaving; /* slots to be freed once no table has them: struct slot_leaving */
	uint64_t generation, next_unit, next_change;
	uint64_t saved_generation; /* as loaded: the newest table when state was last saved */
	uint64_t world; /* of the keeper for which the state was made: saved */
	uint64_t upload_ms; /* when somebody last sent files, or was told which to send */
	struct map published_use; /* of targets that Upstate does not run */
	uint64_t key[2];   /* for the routing table; made once and saved */
	json_t *addresses; /* {name of a target: its last known address} */
	struct loop_io lookup; /* from the child that looks names up */
	struct buf looked_up;
	bool table_dirty;
	bool synced;  /* the keeper has told all */
	bool resumed; /* it is the same keeper as when the state was saved */
	struct loop_child prune_child; /* removes files; one at a time */
	struct loop_timer turn;	   /* end of this turn: steps, then a table */
	struct loop_timer retry;   /* something could not be saved */
	struct msg_part parts[PART_COUNT];
};

/* --- the whole --- */

/* Loads what was saved. shm may be the memory of a keeper that is new: then everything starts afresh
 * (the rollouts are told). */
int ship_open(struct ship *s, struct err *e);
/* Takes up a configuration: apps come and go, settings that changed begin a change. Names in
 * ret_changed (an array, new reference) are those whose treatment changes. The old conf may be
 * freed afterwards. */
int ship_configure(struct ship *s, const struct conf *c, json_t *ret_changed, struct err *e);
/* The keeper has told all that it holds: what it runs and nobody wants is ended, the rest is ordered. */
void ship_synced(struct ship *s);
void ship_on_instance(struct ship *s, const struct msg_instance *m);
void ship_on_part(struct ship *s, const struct msg_part *m);
/* The router rang: a target's state or drain may have changed. */
void ship_on_bell(struct ship *s);

struct ship_app *ship_find(struct ship *s, const char *name); /* NULL when unknown */
/* ERR_NOT_FOUND that lists what there is. */
int ship_find_or_list(struct ship *s, const char *name, struct ship_app **ret, struct err *e);

/* --- orders of people; `who` and `why` go into history --- */

int ship_deploy(struct ship_app *a, const struct store_manifest *m, const char *source, const char *who,
		const char *why, uint64_t *ret_change, struct err *e);
/* release: "12", "app@12", an id (or its beginning, 6 digits at least), or NULL: the one before. */
int ship_rollback(struct ship_app *a, const char *release, const char *who, const char *why,
		  uint64_t *ret_change, struct err *e);
int ship_abort(struct ship_app *a, const char *who, const char *why, uint64_t *ret_change, struct err *e);
int ship_hold(struct ship_app *a, bool hold, const char *who, const char *why, struct err *e);
/* Off is ERR_REFUSED while the configuration says on. */
int ship_maintenance(struct ship_app *a, bool on, const char *who, const char *why, struct err *e);
/* use: USE_SERVE (as the rollout says), USE_DRAIN or USE_FENCE. */
int ship_order_target(struct ship_app *a, const char *target, enum target_use use, const char *who,
		      const char *why, struct err *e);

/* Orders for targets that are no more end with them; a later one of that name is another. */
void ship_orders_tidy(struct ship_app *a);
/* Was the order with this key carried out by the change in hand, or the last one? */
bool ship_is_done(const struct ship_app *a, const char *key, uint64_t *ret_change);

/* --- inner parts, by file --- */

/* app.c: what is saved */
struct ship_app *ship_app_create(struct ship *s, const char *name);
int ship_app_load(struct ship_app *a, json_t *saved, struct err *e);
json_t *ship_app_json(const struct ship_app *a);
int ship_app_save(struct ship_app *a, struct err *e); /* inside a transaction */
/* What the configuration (and orders) say of an app beyond how it is reached: policy.c. NULL: nothing.
 * It lives in `all`, which has room for one of each app. */
struct ship_policies {
	struct table_in_policy **items;
	uint32_t len;
};
uint32_t ship_nets(const struct conf_text_list *texts, struct table_net *ret); /* how many they are */
const struct table_in_policy *ship_policy(const struct ship_app *a, struct ship_policies *all);
void ship_policies_free(struct ship_policies *all);
int ship_numbers_save(struct ship *s, struct err *e);
struct ship_release *ship_release(const struct ship_app *a, uint32_t number);
struct ship_release *ship_release_add(struct ship_app *a, const char *id);
int ship_release_parse(const struct ship_app *a, const char *text, struct ship_release **ret,
		       struct err *e);

/* settings.c */
json_t *ship_settings_json(const struct conf_app *c);
/* The number of these settings, new ones are stored. */
int ship_settings_number(struct ship_app *a, json_t *settings, uint32_t *ret, struct err *e);
const struct ship_settings *ship_settings(const struct ship_app *a, uint32_t number);

/* step.c */
/* Fails when what was decided could not be saved: then all is as before. */
int ship_app_step(struct ship_app *a, const struct rollout_event *ev, struct err *e);
void ship_app_look(struct ship_app *a); /* step soon: at the end of this turn */
void ship_turn(struct ship *s);
void ship_rules(const struct ship_app *a, struct rollout_rules *ret);
/* A record of history (taken over) that the next commit of the app saves with its state. */
void ship_note(struct ship_app *a, const char *kind, json_t *data);
/* Takes back what was noted since there were so many. */
void ship_unnote(struct ship_app *a, size_t count);
/* Saves the app with what was noted, using the reserve if `vital`. When it fails, what was noted still
 * waits, and saving is tried again soon; who cannot wait takes everything back instead. */
int ship_commit(struct ship_app *a, bool vital, struct err *e);

/* unit.c */
struct ship_unit *ship_unit(struct ship_app *a, uint64_t id);
void ship_units_tidy(struct ship_app *a); /* forgets those that the rollout does not know */
void ship_units_prepare(struct ship_app *a); /* after a step, before it is saved: new ones get a port */
void ship_units_sync(struct ship_app *a);  /* make the keeper's world like the rollout */
void ship_units_look(struct ship_app *a);  /* fill in what is seen */
void ship_unit_name(const struct ship_app *a, const struct rollout_unit *u, char *ret, size_t size);
/* Why a unit is not ready, for a person. */
void ship_unit_why(const struct ship_app *a, const struct ship_unit *x, char *ret, size_t size);
/* The errno or HTTP status of a probe that failed, for a person. */
const char *ship_probe_error(int error);

/* slots.c */
uint32_t ship_slot(struct ship *s, uint64_t id); /* of an app or a target; the same for the same id */
void ship_slot_leave(struct ship *s, uint64_t id);
void ship_slots_tidy(struct ship *s);
/* Those that an earlier controller had given out and nobody has any more begin to leave. */
void ship_slots_reclaim(struct ship *s);
uint64_t ship_applied(const struct ship *s); /* newest table that all threads of the router use */

/* lookup.c */
void ship_lookup_apply(struct ship *s, struct ship_target *t); /* address from its name, if it is known */
void ship_lookup_begin(struct ship *s); /* for all targets that have a name, aside */

/* publish.c */
void ship_table_dirty(struct ship *s);
void ship_publish(struct ship *s);
/* The newest table that was handed over, without its generation (that is ship's); NULL: none yet. Valid
 * until the next is published. */
const struct table *ship_table(void);
/* What the router does with a unit or target now, by rollout and order. */
enum target_use ship_use(const struct ship_app *a, const char *name, enum target_use by_rollout);
void ship_targets_configure(struct ship_app *a);
void ship_targets_tidy(struct ship_app *a); /* forgets those that left and are empty */

/* change.c */
void ship_change_begin(struct ship_app *a, enum ship_kind kind, struct rollout_version to,
		       const char *who, const char *why);
void ship_change_step(struct ship_app *a, const char *fmt, ...) PRINTF(2, 3);
/* Takes back a begin that could not be saved: the change before is there again. */
void ship_change_drop(struct ship_app *a);
void ship_change_end(struct ship_app *a, struct ship_change *c, const char *outcome, const char *reason);
void ship_change_revive(struct ship_change *c); /* it did not end after all */
void ship_change_tell(struct ship_app *a, struct ship_change *c, bool ended); /* to who follows it */
void ship_change_free(struct ship_change *c);
json_t *ship_change_json(const struct ship_app *a, const struct ship_change *c); /* docs/API.md */
json_t *ship_change_save(const struct ship_change *c);
struct ship_change *ship_change_load(json_t *saved);
void ship_receipt(const struct shm_sum *now, const struct shm_sum *base, struct ship_receipt *ret);
void ship_receipt_json(const struct ship_receipt *r, json_t *into);
const char *ship_kind_name(enum ship_kind k);
void ship_version_name(const struct ship_app *a, struct rollout_version v, char *ret, size_t size);

/* stage.c */
int ship_stage_begin(struct ship_app *a, struct err *e);
void ship_stage_stop(struct ship_app *a); /* nobody wants its outcome any more */
/* Ends a change that is in hand but not (or not yet) a rollout. */
void ship_change_fail(struct ship_app *a, const char *outcome, const char *reason);
void ship_prune(struct ship_app *a);
/* Files are about to be counted on: nothing is removed from here on until the next change is over. */
void ship_prune_stop(struct ship *s);
