/* SPDX-License-Identifier: Apache-2.0
 *
 * Decide, save, act: the one place where an app's rollout moves.
 */
#include "ship/ship.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_MS 1000 /* before saving is tried again */
#define UNSAVED_MAX 100 /* records of history of an app that wait for that */

void ship_rules(const struct ship_app *a, struct rollout_rules *ret)
{
	const struct conf_app *c = a->conf;

	if (!c || !c->run) { /* not configured any more: what runs drains and ends */
		*ret = (struct rollout_rules){.ready_ms = 60000, .drain_ms = SHIP_DRAIN_MS};
		return;
	}
	*ret = (struct rollout_rules){
		.instances = c->instances,
		.ready_ms = c->ready_ms,
		.drain_ms = c->drain_ms,
		.bake_ms = c->bake_ms,
		/* Those who are held meanwhile must still get their answer within hold.wait. */
		.switch_ms = MIN(c->drain_ms, c->hold_wait_ms / 3),
		.hold_ms = c->hold_wait_ms,
		.never_mixed = c->mixed == CONF_MIXED_NEVER,
	};
}

void ship_note(struct ship_app *a, const char *kind, json_t *data)
{
	if (json_array_size(a->unsaved) < UNSAVED_MAX)
		json_array_append_new(a->unsaved, json_pack("[s, I, O]", kind,
							    (json_int_t)clock_wall_ms(), data));
	else
		log_error("history.lost", "app=%s kind=%s reason=\"too many wait to be saved\"", a->name,
			  kind);
	json_decref(data);
}

void ship_unnote(struct ship_app *a, size_t count)
{
	while (json_array_size(a->unsaved) > count)
		json_array_remove(a->unsaved, json_array_size(a->unsaved) - 1);
}

static int save(struct ship_app *a, struct err *e)
{
	struct ship *s = a->ship;
	json_t *one;
	size_t i;

	if (state_begin(s->state, e) < 0)
		return -(int)e->code;
	if (ship_app_save(a, e) < 0 || ship_numbers_save(s, e) < 0)
		goto failed;
	json_array_foreach (a->unsaved, i, one)
		if (state_history_add(s->state, (uint64_t)json_integer_value(json_array_get(one, 1)),
				      json_string_value(json_array_get(one, 0)), a->name,
				      json_array_get(one, 2), NULL, e) < 0)
			goto failed;
	return state_commit(s->state, e);
failed:
	state_rollback(s->state);
	return -(int)e->code;
}

int ship_commit(struct ship_app *a, bool vital, struct err *e)
{
	struct ship *s = a->ship;
	int r = save(a, e);

	if (r == -ERR_FULL && vital && state_reserve_use(s->state)) {
		log_warn("disk.full", "app=%s using=reserve", a->name);
		r = save(a, e);
	}
	if (r == 0) {
		json_array_clear(a->unsaved);
		return 0;
	}
	log_error("state", "app=%s reason=\"%s\"", a->name, e->msg);
	loop_timer_set(s->loop, &s->retry, s->loop->now_ms + RETRY_MS);
	return r;
}

/* What the end of a drain cut, from the router's numbers: noted as it begins, told when it is over. A
 * parked unit has told it already. */
static uint64_t drain_cut(struct ship_app *a, enum rollout_step_type step, uint64_t id)
{
	struct ship_unit *x = ship_unit(a, id);
	struct shm_sum sum;

	shm_sum_slot(a->ship->shm, x->shm_slot, &sum);
	if (step == ROLLOUT_STEP_DRAIN)
		x->cut_before = sum.failed_cut;
	if (step == ROLLOUT_STEP_DRAINED)
		return sum.failed_cut - x->cut_before;
	for (uint32_t i = 0; step == ROLLOUT_STEP_STOP && i < a->rollout.unit_count; i++)
		if (a->rollout.units[i].id == id && a->rollout.units[i].use == USE_DRAIN)
			return sum.failed_cut - x->cut_before;
	return 0;
}

/* What else there is to say of a step. */
static void step_more(const struct ship_app *a, enum rollout_step_type step, uint64_t cut, char *ret,
		      size_t size)
{
	struct rollout_rules rules;

	*ret = '\0';
	ship_rules(a, &rules);
	if (step == ROLLOUT_STEP_BAKE)
		snprintf(ret, size, " for %g s: undone if it fails meanwhile", rules.bake_ms / 1000.0);
	else if (cut)
		snprintf(ret, size, "; its drain cut %llu", (unsigned long long)cut);
}

static void note_steps(struct ship_app *a, const struct rollout_result *result)
{
	for (uint32_t i = 0; i < result->step_count; i++) {
		const char *text = rollout_step_text(result->steps[i].type);
		struct rollout_unit u = {.version = result->steps[i].version,
					 .slot = result->steps[i].slot};
		char name[MSG_NAME], more[80];
		uint64_t n = 0;

		if (result->steps[i].unit) {
			ship_unit_name(a, &u, name, sizeof(name));
			n = drain_cut(a, result->steps[i].type, result->steps[i].unit);
		} else {
			ship_version_name(a, u.version, name, sizeof(name));
		}
		step_more(a, result->steps[i].type, n, more, sizeof(more));
		log_info("step", "app=%s what=\"%s %s%s\"", a->name, name, text, more);
		if (a->change && !a->change->ended_ms)
			ship_change_step(a, "%s %s%s", name, text, more);
	}
}

/* The rollout knows which instance broke its word; what is known of it besides is said here. */
static void say_why(struct ship_app *a, struct rollout_result *result)
{
	const struct ship_unit *x = ship_unit(a, result->culprit);
	/* It may have been undone altogether in the same step. */
	char *reason = a->rollout.reason[0] ? a->rollout.reason : result->reason;
	const char *end = strchr(reason, '/'); /* "instance @8/1 did not ..." */
	char what[sizeof(result->reason)], why[MSG_REASON];

	util_copy(what, sizeof(what), end ? end + 1 + strspn(end + 1, "0123456789") : "");
	if (strcmp(what, " ended") == 0 && x->why[0]) /* it may be up again by now */
		util_copy(why, sizeof(why), x->why);
	else
		ship_unit_why(a, x, why, sizeof(why));
	snprintf(reason, sizeof(a->rollout.reason), "instance %.40s@%u/%u%.50s: %.80s", a->name,
		 x->version.release, x->slot, what, why);
	util_utf8(reason);
}

/* The change in hand is over: done, it makes its release the established one. */
static void note_end(struct ship_app *a, const struct rollout_result *result, struct ship_release *to)
{
	ship_change_end(a, a->change, rollout_outcome_name(result->outcome), result->reason);
	if (result->outcome != ROLLOUT_DONE || !to)
		return;
	if (!to->established_ms && to->number != result->ended_from.release)
		to->before = result->ended_from.release;
	to->established_ms = clock_wall_ms();
}

/* The settings in the configuration differ from those in force: roll them out like files. */
static void begin_settings(struct ship_app *a)
{
	struct rollout_event ev = {.type = ROLLOUT_DEPLOY};
	CLEANUP(json_decrefp) json_t *wanted = NULL;
	const struct ship_change *last = a->change;
	uint32_t number;
	struct err e;

	if (!a->settings_due || a->rollout.phase != ROLLOUT_IDLE || (last && !last->ended_ms))
		return; /* looked at again when the change is over */
	a->settings_due = false;
	if (!a->conf || !a->conf->run || !a->rollout.current.release)
		return;
	wanted = ship_settings_json(a->conf);
	if (ship_settings_number(a, wanted, &number, &e) < 0)
		goto later;
	/* An undone attempt is not repeated until the settings change again. */
	if (number == a->rollout.current.settings ||
	    (last && last->kind == SHIP_SETTINGS && last->to.settings == number &&
	     last->to.release == a->rollout.current.release))
		return;
	ev.version = (struct rollout_version){a->rollout.current.release, number};
	ship_change_begin(a, SHIP_SETTINGS, ev.version, "upstate", "the configuration changed");
	ev.change = a->change->number;
	if (ship_app_step(a, &ev, &e) == 0)
		return;
	ship_change_drop(a);
later:
	log_warn("settings", "app=%s reason=\"%s\" next=\"tried again soon\"", a->name, e.msg);
	a->settings_due = true;
	loop_timer_set(a->ship->loop, &a->ship->retry, a->ship->loop->now_ms + RETRY_MS);
}

/* What a step says of changes: one that was superseded, and the one in hand, may be over with it. */
struct ends {
	bool superseded, was_staging, ended;
	struct ship_release *to, to_before;
	uint32_t steps_before;
	size_t noted;
};

static void note_ends(struct ship_app *a, const struct rollout_event *ev,
		      const struct rollout_result *result, struct ends *ends)
{
	if (a->before && !a->before->ended_ms) {
		ends->superseded = true;
		ends->was_staging = a->before->staging;
		ship_change_end(a, a->before, "superseded", "rolled back meanwhile");
		ship_note(a, "change.end", ship_change_json(a, a->before));
	}
	if (result->ended && a->change && a->change->number == result->ended && !a->change->ended_ms) {
		ends->ended = true;
		ends->to = ship_release(a, result->ended_to.release);
		if (ends->to)
			ends->to_before = *ends->to;
		note_end(a, result, ends->to);
		ship_note(a, "change.end", ship_change_json(a, a->change));
	} else if (ev->type == ROLLOUT_DEPLOY || ev->type == ROLLOUT_ROLLBACK) {
		ship_note(a, "change.begin", ship_change_json(a, a->change));
	}
}

/* Nothing was done yet: be again what is saved. */
static void take_back(struct ship_app *a, const struct rollout *before, const struct ends *ends)
{
	a->rollout = *before;
	ship_units_tidy(a); /* new ones; their numbers are not used again */
	ship_unnote(a, ends->noted);
	if (ends->superseded) {
		ship_change_revive(a->before);
		a->before->staging = ends->was_staging;
	}
	if (ends->ended)
		ship_change_revive(a->change);
	if (ends->to)
		*ends->to = ends->to_before;
	if (a->change)
		a->change->step_count = ends->steps_before;
}

int ship_app_step(struct ship_app *a, const struct rollout_event *ev, struct err *e)
{
	static struct rollout before; /* large; this thread is the only one */
	static struct rollout_result result;
	struct ship *s = a->ship;
	struct ends ends = {.steps_before = a->change ? a->change->step_count : 0,
			    .noted = json_array_size(a->unsaved)};
	struct rollout_rules rules;
	int r;

	ship_rules(a, &rules);
	/* After a pause, what the keeper said meanwhile may stand behind this order. */
	if (s->synced && ev->type != ROLLOUT_LOOK)
		msg_channel_read(s->keeper);
	ship_units_look(a);
	before = a->rollout;
	rollout_step(&a->rollout, &rules, ev, s->loop->now_ms, &s->next_unit, &result);
	if (result.wake_ms != UINT64_MAX)
		loop_timer_set(s->loop, &a->wake, result.wake_ms);
	if (!result.changed)
		return 0;
	ship_units_prepare(a);
	if (result.culprit)
		say_why(a, &result);
	note_steps(a, &result);
	note_ends(a, ev, &result, &ends);
	r = ship_commit(a, ev->type != ROLLOUT_DEPLOY, e);
	if (r < 0) {
		take_back(a, &before, &ends);
		return r;
	}
	ship_units_sync(a);
	ship_orders_tidy(a);
	ship_table_dirty(s);
	if (ends.superseded)
		ship_change_tell(a, a->before, true);
	if (a->change)
		ship_change_tell(a, a->change, ends.ended);
	if (ends.ended) {
		log_info("change.end", "app=%s change=%llu outcome=%s reason=\"%s\"", a->name,
			 (unsigned long long)a->change->number, a->change->outcome, a->change->reason);
		ship_prune(a);
		a->settings_due = true;
		ship_app_look(a);
	}
	if (s->ops.on_status)
		s->ops.on_status(s->ops.arg);
	return 0;
}

void ship_app_look(struct ship_app *a)
{
	a->dirty = true;
	loop_timer_set(a->ship->loop, &a->ship->turn, a->ship->loop->now_ms);
}

/* The end of a turn: every app that something happened to is stepped, then the table goes out. */
void ship_turn(struct ship *s)
{
	static const struct rollout_event look = {.type = ROLLOUT_LOOK};
	struct ship_app *a;
	struct err e;

	if (!s->synced)
		return;
	LIST_EACH (a, &s->apps, link) {
		ship_targets_tidy(a);
		if (!a->dirty)
			continue;
		a->dirty = false; /* what sets it again arms the next turn */
		ship_app_step(a, &look, &e);
		ship_units_sync(a); /* starts that were refused */
		begin_settings(a);
		if (json_array_size(a->unsaved))
			ship_commit(a, true, &e);
	}
	if (s->table_dirty)
		ship_publish(s);
	ship_slots_tidy(s);
}
