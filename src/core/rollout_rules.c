/* SPDX-License-Identifier: Apache-2.0
 *
 * What each phase does to the units, and when it is over.
 */
#include "core/rollout_priv.h"

static struct rollout_unit *find(struct rollout *r, uint32_t slot, struct rollout_version v)
{
	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (u->slot == slot && !u->stop && rollout_same(u->version, v))
			return u;
	}
	return NULL;
}

/* NULL when there is no place: units that are still ending take it; the next step tries again. */
static struct rollout_unit *create(struct step *s, uint32_t slot, struct rollout_version v,
				   enum target_use use)
{
	struct rollout_unit *u;

	if (s->r->unit_count == ROLLOUT_UNITS_MAX)
		return NULL;
	u = &s->r->units[s->r->unit_count++];
	*u = (struct rollout_unit){.id = (*s->next_unit)++, .version = v, .slot = slot, .use = use};
	if (use == USE_PROBE)
		u->until_ms = s->now_ms + s->rules->ready_ms;
	step_note(s, ROLLOUT_STEP_START, u);
	return u;
}

static void serve(struct step *s, struct rollout_unit *u)
{
	u->use = USE_SERVE;
	u->until_ms = 0;
	step_note(s, ROLLOUT_STEP_SERVE, u);
}

static void drain(struct step *s, struct rollout_unit *u, uint32_t within_ms)
{
	if (u->use != USE_SERVE || u->stop)
		return;
	u->use = USE_DRAIN;
	u->until_ms = s->now_ms + within_ms;
	u->seen.drained = false; /* what was seen is older than this order */
	step_note(s, ROLLOUT_STEP_DRAIN, u);
}

static void stop(struct step *s, struct rollout_unit *u)
{
	if (u->stop)
		return;
	ensure(u->use != USE_SERVE);
	u->stop = true;
	step_note(s, ROLLOUT_STEP_STOP, u);
}

/* A unit that nobody wants any more: out of traffic, then out. What is only probed has no requests
 * inside. One that drains already may have got a longer time for another reason. */
static void retire(struct step *s, struct rollout_unit *u, uint32_t within_ms)
{
	if (u->stop)
		return;
	drain(s, u, within_ms);
	if (u->use == USE_DRAIN && u->until_ms > s->now_ms + within_ms) {
		u->until_ms = s->now_ms + within_ms;
		s->ret->changed = true;
	}
	if (u->use == USE_PROBE || (u->use == USE_DRAIN && u->seen.drained))
		stop(s, u);
}

static void rule_idle(struct step *s)
{
	struct rollout *r = s->r;

	for (uint32_t slot = 1; r->current.release && slot <= s->rules->instances; slot++) {
		struct rollout_unit *u = find(r, slot, r->current);

		if (!u)
			create(s, slot, r->current, USE_SERVE);
		else if (u->use != USE_SERVE) /* fewer were wanted for a moment */
			serve(s, u);
	}
	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (u->slot > s->rules->instances || !rollout_same(u->version, r->current))
			retire(s, u, s->rules->drain_ms);
	}
}

/* Others in the slot of a unit that serves now: out of traffic; a deploy keeps them, parked. */
static void retire_others(struct step *s, const struct rollout_unit *keep)
{
	struct rollout *r = s->r;
	bool park = !r->undoing && !r->direct;

	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (u == keep || u->slot != keep->slot || u->stop)
			continue;
		if (!park || !rollout_same(u->version, r->from)) {
			retire(s, u, s->rules->drain_ms);
			continue;
		}
		drain(s, u, s->rules->drain_ms);
		if (u->use == USE_DRAIN && u->seen.drained) {
			u->use = USE_PROBE; /* parked: it is looked at and ready for the way back */
			u->until_ms = 0;
			step_note(s, ROLLOUT_STEP_DRAINED, u);
		}
	}
}

/* An undo has waited long enough for this unit, and nothing better serves in its slot. */
static bool take_unready(struct step *s, const struct rollout_unit *u)
{
	const struct rollout *r = s->r;

	if (!r->undoing || s->now_ms < u->until_ms)
		return false;
	for (uint32_t i = 0; i < r->unit_count; i++) {
		const struct rollout_unit *o = &r->units[i];

		if (o->slot == u->slot && o->use == USE_SERVE && (o->seen.ready || o->seen.unknown))
			return false;
	}
	return true;
}

/* Units that have no requests, of versions that nobody waits for any more: neither the goal, nor
 * the one that an undo would go back to. They only cost, and take places in the table. */
static void stop_superseded(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);

	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (u->use == USE_PROBE && !rollout_same(u->version, goal) &&
		    (r->undoing || !rollout_same(u->version, r->from)))
			stop(s, u);
	}
}

/* One slot of SWITCH. True when a unit of the goal serves in it. */
static bool switch_slot(struct step *s, uint32_t slot)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	struct rollout_unit *u = find(r, slot, goal);

	if (!u)
		u = create(s, slot, goal, USE_PROBE);
	if (!u)
		return false;
	if (u->use != USE_SERVE) {
		if (!u->seen.ready && !take_unready(s, u))
			return false;
		serve(s, u);
	}
	retire_others(s, u);
	return true;
}

static void establish(struct step *s)
{
	struct rollout *r = s->r;

	r->current = rollout_goal(r);
	r->until_ms = s->now_ms + s->rules->hold_ms;
	step_phase(s, ROLLOUT_FINISH);
	step_note(s, ROLLOUT_STEP_ESTABLISHED, NULL);
}

/* The goal serves in all slots: a deploy bakes, a way back needs no proof. */
static void arrive(struct step *s)
{
	struct rollout *r = s->r;

	if (r->undoing || r->direct) {
		establish(s);
		return;
	}
	r->until_ms = s->now_ms + s->rules->bake_ms;
	step_phase(s, ROLLOUT_BAKE);
	step_note(s, ROLLOUT_STEP_BAKE, NULL);
}

static void rule_switch(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool all = true, parallel;

	if (step_check_goal(s, true))
		return;
	stop_superseded(s);
	parallel = r->direct || r->undoing || !r->from.release;
	for (uint32_t slot = 1; goal.release && slot <= s->rules->instances; slot++) {
		if (!switch_slot(s, slot))
			all = false;
		if (!all && !parallel)
			return; /* one at a time */
	}
	if (!all)
		return;
	arrive(s);
}

static void rule_bake(struct step *s)
{
	struct rollout *r = s->r;
	bool all = true;

	if (step_check_goal(s, true))
		return;
	for (uint32_t slot = 1; slot <= s->rules->instances; slot++) {
		/* goes on draining and parking; follows a change of instances */
		struct rollout_unit *u = switch_slot(s, slot) ? find(r, slot, r->to) : NULL;

		if (!u || !u->seen.ready)
			all = false;
	}
	if (!all || s->now_ms < r->until_ms)
		return;
	establish(s);
}

/* Those whom the switch held are let in at the pace of the answers. What became of them belongs to
 * the receipt, so the change ends after them: that takes at most what a wait may take. */
static bool held_still_wait(const struct step *s)
{
	return s->rules->never_mixed && s->r->seen_waiting && s->now_ms < s->r->until_ms;
}

static void rule_finish(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool left = false;

	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (rollout_same(u->version, goal) && u->slot <= s->rules->instances)
			continue;
		retire(s, u, s->rules->drain_ms);
		left = true;
	}
	if (left || held_still_wait(s))
		return;
	if (s->ret->ended) {
		s->again = true; /* one end in a result: this one comes with the next step */
		return;
	}
	step_end_change(s, r->undoing ? ROLLOUT_UNDONE : ROLLOUT_DONE);
	step_phase(s, ROLLOUT_IDLE);
}

static void rule_empty(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool left = false;

	step_hold(s, true);
	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (rollout_same(u->version, goal))
			continue;
		retire(s, u, s->rules->switch_ms);
		left = true;
	}
	if (!left)
		step_phase(s, ROLLOUT_FILL);
}

static void rule_fill(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool all = true, waited = r->undoing;

	if (step_check_goal(s, false))
		return;
	for (uint32_t slot = 1; slot <= s->rules->instances; slot++) {
		struct rollout_unit *u = find(r, slot, goal);

		if (!u)
			u = create(s, slot, goal, USE_PROBE);
		if (u && (u->use == USE_SERVE || u->seen.ready))
			continue;
		all = false;
		if (!u || s->now_ms < u->until_ms)
			waited = false;
	}
	if (!all && !waited)
		return;
	/* All are ready; or the way back takes longer than a start may: then waiting is bounded by the
	 * rule for outages, and each serves as soon as it is up. */
	for (uint32_t slot = 1; slot <= s->rules->instances; slot++) {
		struct rollout_unit *u = find(r, slot, goal);

		if (u && u->use != USE_SERVE)
			serve(s, u);
	}
	step_hold(s, false);
	arrive(s);
}

rollout_rule *const rollout_rule_of[ROLLOUT_PHASE_COUNT] = {
	[ROLLOUT_IDLE] = rule_idle,   [ROLLOUT_SWITCH] = rule_switch, [ROLLOUT_EMPTY] = rule_empty,
	[ROLLOUT_FILL] = rule_fill,   [ROLLOUT_BAKE] = rule_bake,     [ROLLOUT_FINISH] = rule_finish,
};
