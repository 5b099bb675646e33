/* SPDX-License-Identifier: Apache-2.0
 *
 * Orders of people. Deploying may be refused; rolling back, aborting and holding never are, but for
 * what does not exist.
 */
#include "ship/ship.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static bool in_hand(const struct ship_app *a)
{
	return a->change && !a->change->ended_ms;
}

bool ship_is_done(const struct ship_app *a, const char *key, uint64_t *ret_change)
{
	if (!a->change || !key[0] ||
	    (strcmp(key, a->change->key) != 0 && strcmp(key, a->change->abort_key) != 0))
		return false;
	*ret_change = a->change->number;
	return true;
}

/* What history says of an order: as long as in a change. */
static json_t *said_by(const char *who, const char *why)
{
	struct ship_change c; /* for the sizes alone */
	json_t *o;

	util_text(c.who, sizeof(c.who), who);
	util_text(c.why, sizeof(c.why), why);
	o = json_pack("{s:s, s:s}", "who", c.who, "why", c.why);
	ensure(o);
	return o;
}

/* A deploy of what is in force already: said so, recorded, nothing to do. */
static int already(struct ship_app *a, enum ship_kind kind, const char *who, const char *why,
		   uint64_t *ret_change)
{
	ship_change_begin(a, kind, a->rollout.current, who, why);
	*ret_change = a->change->number;
	ship_change_fail(a, "done", "this very release is in force already");
	return 0;
}

int ship_deploy(struct ship_app *a, const struct store_manifest *m, const char *source, const char *who,
		const char *why, uint64_t *ret_change, struct err *e)
{
	struct ship *s = a->ship;
	CLEANUP(json_decrefp) json_t *settings = NULL;
	struct rollout_version to;
	json_t *record;
	size_t noted;
	char from[500];
	uint64_t lacking;
	uint32_t number;
	bool *want;
	int r;

	if (!a->conf->run)
		return err_set(e, ERR_INPUT, "app '%s' has targets, but nothing that Upstate runs (run:)",
			       a->name);
	if (in_hand(a) || a->rollout.phase != ROLLOUT_IDLE)
		return err_set(e, ERR_REFUSED,
			       "change %llu of app '%s' (by %s) is going on: wait for it (upstate attach "
			       "%llu), or `upstate abort %s`",
			       (unsigned long long)(a->change ? a->change->number : 0), a->name,
			       a->change ? a->change->who : "nobody",
			       (unsigned long long)(a->change ? a->change->number : 0), a->name);
	if (a->stage_pipe >= 0)
		return err_set(e, ERR_REFUSED, "the files of change %llu of app '%s', which ended, are "
					       "still in the making: try again",
			       (unsigned long long)a->stage_change, a->name);
	ship_prune_stop(s);
	if (store_room(s->store, 0, e) < 0)
		return err_wrap(e, "deploys are refused (rollback, abort and hold still work)");
	want = util_alloc(m->len * sizeof(*want));
	r = store_missing(s->store, m, want, &lacking, e);
	free(want);
	if (r < 0)
		return r;
	if (lacking)
		return err_set(e, ERR_INPUT, "%llu bytes of files of this release were not sent",
			       (unsigned long long)lacking);
	settings = ship_settings_json(a->conf);
	if (ship_settings_number(a, settings, &number, e) < 0)
		return -(int)e->code;
	to = (struct rollout_version){ship_release_add(a, m->id)->number, number};
	if (rollout_same(to, a->rollout.current))
		return already(a, SHIP_DEPLOY, who, why, ret_change);
	ship_change_begin(a, SHIP_DEPLOY, to, who, why);
	a->change->staging = true;
	ship_change_step(a, "accepted from %.100s: %zu %s, %llu bytes", source, m->len,
			 m->len == 1 ? "entry" : "entries", (unsigned long long)m->bytes);
	record = ship_change_json(a, a->change);
	util_text(from, sizeof(from), source);
	json_object_set_new(record, "source", json_string(from));
	noted = json_array_size(a->unsaved);
	ship_note(a, "change.accepted", record);
	if (ship_commit(a, false, e) < 0) {
		ship_unnote(a, noted);
		ship_change_drop(a);
		return err_wrap(e, "recording the deploy");
	}
	if (ship_stage_begin(a, e) < 0) {
		ship_change_fail(a, "failed", e->msg);
		return -(int)e->code;
	}
	*ret_change = a->change->number;
	log_info("change.begin", "app=%s change=%llu kind=deploy who=%s", a->name,
		 (unsigned long long)a->change->number, who);
	return 0;
}

/* The release before the one in force: the one that was in force when that was first established. */
static int release_before(const struct ship_app *a, struct ship_release **ret, struct err *e)
{
	const struct ship_release *now = ship_release(a, a->rollout.current.release);
	struct ship_release *before = now ? ship_release(a, now->before) : NULL;

	if (!before)
		return err_set(e, ERR_NOT_FOUND, "app '%s' has no release before %s@%u", a->name, a->name,
			       now ? now->number : 0);
	*ret = before;
	return 0;
}

int ship_rollback(struct ship_app *a, const char *release, const char *who, const char *why,
		  uint64_t *ret_change, struct err *e)
{
	struct ship *s = a->ship;
	struct rollout_event ev = {.type = ROLLOUT_ROLLBACK};
	CLEANUP(json_decrefp) json_t *settings = NULL;
	struct ship_release *to;
	uint32_t number;

	if (!a->conf->run)
		return err_set(e, ERR_INPUT, "app '%s' has targets, but nothing that Upstate runs (run:)",
			       a->name);
	/* In the middle of a change, "back" without a name means: undo it. */
	if (in_hand(a) && !release && (a->change->staging || a->rollout.current.release))
		return ship_abort(a, who, why, ret_change, e);
	if (release ? ship_release_parse(a, release, &to, e) < 0 : release_before(a, &to, e) < 0)
		return -(int)e->code;
	ship_prune_stop(s);
	if (!store_has_tree(s->store, to->id))
		return err_set(e, ERR_NOT_FOUND,
			       "the files of %s@%u are no longer kept (keep: %u); deploy it anew", a->name,
			       to->number, a->conf->keep);
	settings = ship_settings_json(a->conf);
	if (ship_settings_number(a, settings, &number, e) < 0) {
		/* No disk for new settings: those in force will do. */
		number = a->rollout.current.settings;
		if (!number)
			return -(int)e->code;
	}
	ev.version = (struct rollout_version){to->number, number};
	if (!in_hand(a) && a->rollout.phase == ROLLOUT_IDLE && rollout_same(ev.version, a->rollout.current))
		return already(a, SHIP_ROLLBACK, who, why, ret_change);
	ship_change_begin(a, SHIP_ROLLBACK, ev.version, who, why); /* supersedes what is in hand */
	ev.change = *ret_change = a->change->number;
	if (ship_app_step(a, &ev, e) < 0) {
		ship_change_drop(a);
		return err_wrap(e, "the rollback could not be recorded, not even in the reserve (free disk "
				   "space below '%s')", s->dir);
	}
	ship_stage_stop(a);
	return 0;
}

/* Its files are being put in place: the rollout knows nothing of it yet. */
static int abort_staging(struct ship_app *a, const char *reason, struct err *e)
{
	size_t noted = json_array_size(a->unsaved);

	ship_change_end(a, a->change, "undone", reason);
	ship_note(a, "change.end", ship_change_json(a, a->change));
	if (ship_commit(a, true, e) < 0) {
		ship_unnote(a, noted);
		ship_change_revive(a->change);
		a->change->staging = true;
		return -(int)e->code;
	}
	ship_stage_stop(a);
	ship_change_tell(a, a->change, true);
	a->settings_due = true;
	ship_app_look(a);
	return 0;
}

int ship_abort(struct ship_app *a, const char *who, const char *why, uint64_t *ret_change, struct err *e)
{
	struct rollout_event ev = {.type = ROLLOUT_ABORT};
	char reason[200];
	uint32_t steps;
	int r;

	if (!in_hand(a))
		return err_set(e, ERR_NOT_FOUND, "nothing is changing in app '%s'", a->name);
	*ret_change = a->change->number;
	snprintf(reason, sizeof(reason), "aborted by %.60s: %.100s", who, why[0] ? why : "no reason given");
	util_utf8(reason);
	steps = a->change->step_count;
	ship_change_step(a, "%s", reason);
	util_copy(a->change->abort_key, sizeof(a->change->abort_key), a->order_key);
	ev.reason = reason;
	r = a->change->staging ? abort_staging(a, reason, e) : ship_app_step(a, &ev, e);
	if (r == 0)
		return 0;
	a->change->step_count = steps;
	return err_wrap(e, "the abort could not be recorded, not even in the reserve (free disk space below "
			   "'%s')", a->ship->dir);
}

int ship_hold(struct ship_app *a, bool hold, const char *who, const char *why, struct err *e)
{
	bool was = a->held;

	a->held = hold;
	if (was != hold) {
		ship_note(a, hold ? "hold" : "resume", said_by(who, why));
		ship_commit(a, true, e); /* done all the same; else it is saved later */
	}
	ship_table_dirty(a->ship);
	if (a->ship->ops.on_status)
		a->ship->ops.on_status(a->ship->ops.arg);
	return 0;
}

int ship_maintenance(struct ship_app *a, bool on, const char *who, const char *why, struct err *e)
{
	CLEANUP(json_decrefp) json_t *record = said_by(who, why);
	bool was = a->maintenance;

	if (!on && a->conf->maintenance.on)
		return err_set(e, ERR_REFUSED, "the configuration says that app '%s' is in maintenance: take "
					       "'maintenance' out there", a->name);
	a->maintenance = on;
	if (was != on) {
		ship_note(a, on ? "maintenance" : "maintenance.end", TAKE(record));
		ship_commit(a, true, e); /* done all the same; else it is saved later */
	}
	ship_table_dirty(a->ship);
	if (a->ship->ops.on_status)
		a->ship->ops.on_status(a->ship->ops.arg);
	return 0;
}

static bool has_target(const struct ship_app *a, const char *name, char *known, size_t size)
{
	char unit[MSG_NAME];
	size_t n = 0;
	bool found = false;

	known[0] = '\0';
	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		ship_unit_name(a, &a->rollout.units[i], unit, sizeof(unit));
		found |= strcmp(unit, name) == 0;
		if (n < size)
			n += (size_t)snprintf(known + n, size - n, "%s%s", n ? ", " : "", unit);
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		found |= strcmp(a->targets[i].name, name) == 0;
		if (n < size)
			n += (size_t)snprintf(known + n, size - n, "%s%s", n ? ", " : "",
					      a->targets[i].name);
	}
	return found;
}

void ship_orders_tidy(struct ship_app *a)
{
	char known[500];
	const char *name;
	json_t *order;
	void *tmp;

	json_object_foreach_safe (a->ordered, tmp, name, order)
		if (!has_target(a, name, known, sizeof(known)))
			json_object_del(a->ordered, name);
}

int ship_order_target(struct ship_app *a, const char *target, enum target_use use, const char *who,
		      const char *why, struct err *e)
{
	static const char *const kinds[USE_COUNT] = {[USE_SERVE] = "serve", [USE_DRAIN] = "drain",
						     [USE_FENCE] = "fence"};
	CLEANUP(json_decrefp) json_t *record = said_by(who, why);
	char known[500];

	if (!has_target(a, target, known, sizeof(known)))
		return err_set(e, ERR_NOT_FOUND, "app '%s' has no target '%s'; it has: %s", a->name, target,
			       known[0] ? known : "none now");
	json_object_set_new(record, "target", json_string(target));
	if (use == USE_SERVE)
		json_object_del(a->ordered, target);
	else
		json_object_set_new(a->ordered, target,
				    json_pack("{s:s, s:I}", "use", kinds[use], "until",
					      (json_int_t)(a->ship->loop->now_ms + a->conf->drain_ms)));
	ship_note(a, kinds[use], TAKE(record));
	ship_commit(a, true, e); /* done all the same; else it is saved later */
	ship_table_dirty(a->ship);
	if (a->ship->ops.on_status)
		a->ship->ops.on_status(a->ship->ops.arg);
	return 0;
}
