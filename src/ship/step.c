/* SPDX-License-Identifier: Apache-2.0
 *
 * Decide, save, act: the one place where an app's rollout moves.
 */
#include "ship/ship.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_MS 1000 /* before saving is tried again */

void ship_rules(const struct ship_app *a, struct rollout_rules *ret)
{
	const struct conf_app *c = a->conf;

	if (!c || !c->run) { /* not configured any more: what runs drains and ends */
		*ret = (struct rollout_rules){.ready_ms = 60000, .drain_ms = 10000};
		return;
	}
	*ret = (struct rollout_rules){
		.instances = c->instances,
		.ready_ms = c->ready_ms,
		.drain_ms = c->drain_ms,
		.bake_ms = c->bake_ms,
		/* Those who are held meanwhile must still get their answer within hold.wait. */
		.switch_ms = MIN(c->drain_ms, c->hold_wait_ms / 3),
		.never_mixed = c->mixed == CONF_MIXED_NEVER,
	};
}

static int save(struct ship *s, struct ship_app *a, const char *kind, json_t *record, struct err *e)
{
	if (state_begin(s->state, e) < 0)
		return -(int)e->code;
	if (ship_app_save(a, e) < 0 || ship_numbers_save(s, e) < 0 ||
	    (record && state_history_add(s->state, clock_wall_ms(), kind, a->name, record, NULL, e) < 0)) {
		state_rollback(s->state);
		return -(int)e->code;
	}
	return state_commit(s->state, e);
}

int ship_commit(struct ship *s, struct ship_app *a, const char *kind, json_t *record, bool vital,
		struct err *e)
{
	int r = save(s, a, kind, record, e);

	if (r == -ERR_FULL && vital && state_reserve_use(s->state)) {
		log_warn("disk.full", "app=%s using=reserve", a->name);
		r = save(s, a, kind, record, e);
	}
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

static void note_end(struct ship_app *a, const struct rollout_result *result)
{
	struct ship_release *to;

	ship_change_end(a, rollout_outcome_name(result->outcome), result->reason);
	if (result->outcome != ROLLOUT_DONE)
		return;
	to = ship_release(a, result->ended_to.release);
	if (!to)
		return;
	if (!to->established_ms && to->number != result->ended_from.release)
		to->before = result->ended_from.release;
	to->established_ms = clock_wall_ms();
}

static void tell(struct ship_app *a, bool ended)
{
	struct ship_ops *ops = &a->ship->ops;

	if (!ops->on_change || !a->change)
		return;
	for (; a->change->told < a->change->step_count; a->change->told++)
		ops->on_change(ops->arg, a, &a->change->steps[a->change->told]);
	if (ended)
		ops->on_change(ops->arg, a, NULL);
}

/* The settings in the configuration differ from those in force: roll them out like files. */
static void begin_settings(struct ship_app *a)
{
	struct rollout_event ev = {.type = ROLLOUT_DEPLOY};
	CLEANUP(json_decrefp) json_t *wanted = NULL;
	uint32_t number;
	struct err e;

	if (a->rollout.phase != ROLLOUT_IDLE || !a->conf || !a->conf->run ||
	    !a->rollout.current.release || (a->change && !a->change->ended_ms))
		return;
	wanted = ship_settings_json(a->conf);
	if (ship_settings_number(a, wanted, &number, &e) < 0) {
		log_warn("settings", "app=%s reason=\"%s\"", a->name, e.msg);
		loop_timer_set(a->ship->loop, &a->ship->retry, a->ship->loop->now_ms + RETRY_MS);
		return;
	}
	/* An undone attempt is not repeated until the settings change again. */
	if (number == a->rollout.current.settings ||
	    (a->change && a->change->kind == SHIP_SETTINGS && a->change->to.settings == number &&
	     a->change->to.release == a->rollout.current.release))
		return;
	ev.version = (struct rollout_version){a->rollout.current.release, number};
	ship_change_begin(a, SHIP_SETTINGS, ev.version, "upstate", "the configuration changed");
	ev.change = a->change->number;
	ship_app_step(a, &ev);
}

void ship_app_step(struct ship_app *a, const struct rollout_event *ev)
{
	static struct rollout before; /* large; this thread is the only one */
	static struct rollout_result result;
	struct ship *s = a->ship;
	uint32_t steps_before = a->change ? a->change->step_count : 0;
	uint64_t unit_before = s->next_unit;
	bool ended;
	struct rollout_rules rules;
	json_t *record = NULL;
	struct err e;

	ship_rules(a, &rules);
	ship_units_look(a);
	before = a->rollout;
	rollout_step(&a->rollout, &rules, ev, s->loop->now_ms, &s->next_unit, &result);
	if (result.wake_ms != UINT64_MAX)
		loop_timer_set(s->loop, &a->wake, result.wake_ms);
	if (!result.changed)
		return;
	ship_units_prepare(a);
	note_steps(a, &result);
	ended = result.ended && a->change && a->change->number == result.ended &&
		!a->change->ended_ms;
	if (ended) {
		note_end(a, &result);
		record = ship_change_json(a, a->change);
	} else if (ev->type == ROLLOUT_DEPLOY || ev->type == ROLLOUT_ROLLBACK) {
		record = ship_change_json(a, a->change);
	}
	if (ship_commit(s, a, ended ? "change.end" : "change.begin", record, true, &e) < 0) {
		/* Nothing was done yet: be again what is saved, and try later. */
		log_error("state", "app=%s reason=\"%s\" next=\"tried again in 1 s\"", a->name, e.msg);
		a->rollout = before;
		s->next_unit = unit_before;
		if (a->change) {
			a->change->step_count = steps_before;
			if (ended) {
				a->change->ended_ms = 0;
				util_copy(a->change->outcome, sizeof(a->change->outcome), "running");
			}
		}
		json_decref(record);
		loop_timer_set(s->loop, &s->retry, s->loop->now_ms + RETRY_MS);
		return;
	}
	json_decref(record);
	ship_units_sync(a);
	ship_table_dirty(s);
	tell(a, ended);
	if (ended) {
		log_info("change.end", "app=%s change=%llu outcome=%s reason=\"%s\"", a->name,
			 (unsigned long long)a->change->number, a->change->outcome, a->change->reason);
		ship_prune(a);
		a->dirty = true; /* settings may wait */
	}
	if (s->ops.on_status)
		s->ops.on_status(s->ops.arg);
}

void ship_app_look(struct ship_app *a)
{
	a->dirty = true;
	loop_timer_set(a->ship->loop, &a->ship->turn, a->ship->loop->now_ms);
}

/* The end of a turn: every app that something happened to is stepped once, then the table goes out. */
void ship_turn(struct ship *s)
{
	static const struct rollout_event look = {.type = ROLLOUT_LOOK};
	struct ship_app *a;

	if (!s->synced)
		return;
	LIST_EACH (a, &s->apps, link) {
		for (int i = 0; a->dirty && i < 4; i++) {
			a->dirty = false;
			ship_app_step(a, &look);
			begin_settings(a);
		}
	}
	if (s->table_dirty)
		ship_publish(s);
	ship_slots_tidy(s);
}
