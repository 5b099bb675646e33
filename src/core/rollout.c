/* SPDX-License-Identifier: Apache-2.0
 *
 * Each step runs the rule of its phase until nothing more moves. A rule looks
 * only at the state and at what was seen of the units, never at how it got there;
 * that is what makes a crash between any two lines of the shell harmless.
 */
#include "core/rollout.h"

#include <string.h>

#define AGAIN_MS 100 /* to look again at what nothing announces */

struct step {
	struct rollout *r;
	const struct rollout_rules *rules;
	uint64_t now_ms;
	uint64_t *next_unit;
	struct rollout_result *ret;
	bool again; /* another step is due at once */
};

static const char *const phase_names[ROLLOUT_PHASE_COUNT] = {
#define X(name, lower, what) [ROLLOUT_##name] = #lower,
	ROLLOUT_PHASE_TABLE(X)
#undef X
};

static const char *const outcome_names[ROLLOUT_OUTCOME_COUNT] = {
#define X(name, lower) [ROLLOUT_##name] = #lower,
	ROLLOUT_OUTCOME_TABLE(X)
#undef X
};

static const char *const step_texts[] = {
#define X(name, text) [ROLLOUT_STEP_##name] = text,
	ROLLOUT_STEP_TABLE(X)
#undef X
};

const char *rollout_phase_name(enum rollout_phase p)
{
	return phase_names[p];
}

const char *rollout_outcome_name(enum rollout_outcome o)
{
	return outcome_names[o];
}

const char *rollout_step_text(enum rollout_step_type t)
{
	return step_texts[t];
}

struct rollout_version rollout_goal(const struct rollout *r)
{
	if (r->phase == ROLLOUT_IDLE)
		return r->current;
	return r->undoing ? r->from : r->to;
}

static void note(struct step *s, enum rollout_step_type type, const struct rollout_unit *u)
{
	struct rollout_result *ret = s->ret;

	ret->changed = true;
	if (ret->step_count == ROLLOUT_STEPS_MAX) {
		ret->steps_left_out++;
		return;
	}
	ret->steps[ret->step_count].type = type;
	ret->steps[ret->step_count].unit = u ? u->id : 0;
	ret->steps[ret->step_count].slot = u ? u->slot : 0;
	ret->steps[ret->step_count].version = u ? u->version
					      : type == ROLLOUT_STEP_UNDO ? s->r->to
									 : rollout_goal(s->r);
	ret->step_count++;
}

static void set_phase(struct step *s, enum rollout_phase phase)
{
	s->r->phase = phase;
	s->ret->changed = true;
}

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
	note(s, ROLLOUT_STEP_START, u);
	return u;
}

static void serve(struct step *s, struct rollout_unit *u)
{
	u->use = USE_SERVE;
	u->until_ms = 0;
	note(s, ROLLOUT_STEP_SERVE, u);
}

static void drain(struct step *s, struct rollout_unit *u, uint32_t within_ms)
{
	if (u->use != USE_SERVE || u->stop)
		return;
	u->use = USE_DRAIN;
	u->until_ms = s->now_ms + within_ms;
	u->seen.drained = false; /* what was seen is older than this order */
	note(s, ROLLOUT_STEP_DRAIN, u);
}

static void stop(struct step *s, struct rollout_unit *u)
{
	if (u->stop)
		return;
	ensure(u->use != USE_SERVE);
	u->stop = true;
	note(s, ROLLOUT_STEP_STOP, u);
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

static bool failed(const struct rollout_unit *u)
{
	return u->seen.starts > MAX(1, u->starts_before) || u->seen.gone;
}

/* The goal is another one now. Units of it that exist already get their time anew, and what
 * happened to them earlier, perhaps months ago, says nothing about this change. */
static void renew_goal(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);

	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (u->stop || !rollout_same(u->version, goal))
			continue;
		u->starts_before = u->seen.starts + !u->seen.ready;
		u->until_ms = u->use == USE_SERVE && u->seen.ready ? 0 : s->now_ms + s->rules->ready_ms;
	}
}

static void forget_gone(struct step *s)
{
	struct rollout *r = s->r;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < r->unit_count; i++) {
		if (r->units[i].stop && r->units[i].seen.gone)
			s->ret->changed = true;
		else
			r->units[kept++] = r->units[i];
	}
	r->unit_count = kept;
}

static void end_change(struct step *s, enum rollout_outcome outcome)
{
	struct rollout *r = s->r;

	s->ret->ended = r->change;
	s->ret->outcome = outcome;
	s->ret->ended_from = r->from;
	s->ret->ended_to = r->to;
	memcpy(s->ret->reason, r->reason, sizeof(r->reason));
	s->ret->changed = true;
	r->change = 0;
	r->undoing = r->direct = false;
	r->reason[0] = '\0';
}

static void set_hold(struct step *s, bool hold)
{
	if (s->r->hold == hold)
		return;
	s->r->hold = hold;
	note(s, hold ? ROLLOUT_STEP_HOLD : ROLLOUT_STEP_RELEASE, NULL);
}

/* The first phase on the way to a new goal. */
static void set_out(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = r->undoing ? r->from : r->to;
	bool others = false; /* not only of `from`: a first deploy that is superseded has none */

	for (uint32_t i = 0; i < r->unit_count; i++)
		others |= !rollout_same(r->units[i].version, goal);
	if (s->rules->never_mixed && goal.release && others) {
		set_phase(s, ROLLOUT_EMPTY);
		return;
	}
	set_hold(s, false);
	set_phase(s, ROLLOUT_SWITCH);
}

/* Turns round: from here on the goal is what ran before. */
static void undo(struct step *s, const char *fmt, const struct rollout_unit *u, const char *text)
{
	struct rollout *r = s->r;

	s->ret->culprit = u ? u->id : 0;
	if (u)
		snprintf(r->reason, sizeof(r->reason), fmt, u->version.release, u->slot);
	else
		snprintf(r->reason, sizeof(r->reason), "%s", text ? text : "aborted");
	r->undoing = true;
	renew_goal(s);
	note(s, ROLLOUT_STEP_UNDO, NULL);
	set_out(s);
}

/* Looks whether a unit of the goal broke its word. True when the rollout was turned round. */
static bool check_goal(struct step *s, bool must_be_ready)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);

	if (r->undoing)
		return false; /* there is nothing better to turn to: its supervision goes on */
	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (u->stop || !rollout_same(u->version, goal))
			continue;
		if (failed(u))
			return undo(s, "instance @%u/%u ended", u, NULL), true;
		if (u->seen.ready && u->use == USE_SERVE && u->until_ms) {
			u->until_ms = 0;
			s->ret->changed = true;
		}
		if (u->seen.ready || u->seen.unknown || s->now_ms < u->until_ms)
			continue;
		if (u->use != USE_SERVE)
			return undo(s, "instance @%u/%u did not become ready in time", u, NULL), true;
		if (must_be_ready)
			return undo(s, "instance @%u/%u is no longer healthy", u, NULL), true;
	}
	return false;
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
			note(s, ROLLOUT_STEP_DRAINED, u);
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
	set_phase(s, ROLLOUT_FINISH);
	note(s, ROLLOUT_STEP_ESTABLISHED, NULL);
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
	set_phase(s, ROLLOUT_BAKE);
	note(s, ROLLOUT_STEP_BAKE, NULL);
}

static void rule_switch(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool all = true, parallel;

	if (check_goal(s, true))
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

	if (check_goal(s, true))
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
	end_change(s, r->undoing ? ROLLOUT_UNDONE : ROLLOUT_DONE);
	set_phase(s, ROLLOUT_IDLE);
}

static void rule_empty(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool left = false;

	set_hold(s, true);
	for (uint32_t i = 0; i < r->unit_count; i++) {
		struct rollout_unit *u = &r->units[i];

		if (rollout_same(u->version, goal))
			continue;
		retire(s, u, s->rules->switch_ms);
		left = true;
	}
	if (!left)
		set_phase(s, ROLLOUT_FILL);
}

static void rule_fill(struct step *s)
{
	struct rollout *r = s->r;
	struct rollout_version goal = rollout_goal(r);
	bool all = true, waited = r->undoing;

	if (check_goal(s, false))
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
	set_hold(s, false);
	arrive(s);
}

static void begin(struct step *s, const struct rollout_event *ev, bool direct)
{
	struct rollout *r = s->r;

	r->from = r->current;
	r->to = ev->version;
	r->change = ev->change;
	r->direct = direct;
	r->undoing = false;
	r->reason[0] = '\0';
	set_out(s);
	renew_goal(s);
}

static void booted(struct step *s)
{
	struct rollout *r = s->r;

	r->unit_count = 0;
	s->ret->changed = true;
	set_hold(s, false);
	if (r->phase == ROLLOUT_IDLE)
		return;
	if (r->phase != ROLLOUT_FINISH && !r->direct && !r->undoing) {
		r->undoing = true;
		snprintf(r->reason, sizeof(r->reason), "Upstate itself was restarted meanwhile");
	}
	/* Nothing runs, so nothing has to be switched: the goal's instances start as when idle. */
	r->current = rollout_goal(r);
	end_change(s, r->undoing ? ROLLOUT_UNDONE : ROLLOUT_DONE);
	set_phase(s, ROLLOUT_IDLE);
}

static void take_event(struct step *s, const struct rollout_event *ev)
{
	struct rollout *r = s->r;

	switch (ev->type) {
	case ROLLOUT_LOOK:
		break;
	case ROLLOUT_DEPLOY:
		ensure(r->phase == ROLLOUT_IDLE);
		begin(s, ev, false);
		break;
	case ROLLOUT_ROLLBACK:
		if (r->phase != ROLLOUT_IDLE)
			end_change(s, ROLLOUT_SUPERSEDED);
		begin(s, ev, true);
		break;
	case ROLLOUT_ABORT:
		if (r->phase != ROLLOUT_IDLE && !r->undoing)
			undo(s, NULL, NULL, ev->reason);
		break;
	case ROLLOUT_BOOTED:
		booted(s);
		break;
	}
}

static uint64_t next_wake(const struct rollout *r, uint64_t now_ms)
{
	bool waits = r->phase == ROLLOUT_FINISH && r->seen_waiting;
	bool ends = (waits || r->phase == ROLLOUT_BAKE) && r->until_ms > now_ms;
	uint64_t wake = ends ? r->until_ms : UINT64_MAX;

	if (waits)
		wake = MIN(wake, now_ms + AGAIN_MS);

	for (uint32_t i = 0; i < r->unit_count; i++) {
		const struct rollout_unit *u = &r->units[i];

		if (!u->stop && u->until_ms > now_ms)
			wake = MIN(wake, u->until_ms);
		else if (!u->stop && u->seen.unknown && !u->seen.ready) /* its time was put off */
			wake = MIN(wake, now_ms + AGAIN_MS);
	}
	return wake;
}

void rollout_step(struct rollout *r, const struct rollout_rules *rules,
		  const struct rollout_event *ev, uint64_t now_ms, uint64_t *next_unit,
		  struct rollout_result *ret)
{
	static void (*const rule_of[ROLLOUT_PHASE_COUNT])(struct step *) = {
		[ROLLOUT_IDLE] = rule_idle,   [ROLLOUT_SWITCH] = rule_switch,
		[ROLLOUT_EMPTY] = rule_empty, [ROLLOUT_FILL] = rule_fill,
		[ROLLOUT_BAKE] = rule_bake,   [ROLLOUT_FINISH] = rule_finish,
	};
	struct step s = {r, rules, now_ms, next_unit, ret, false};
	bool changed;

	ensure(rules->instances <= ROLLOUT_INSTANCES_MAX);
	memset(ret, 0, sizeof(*ret));
	take_event(&s, ev);
	/* Until nothing moves: an undo may stay in its phase and yet have new work in it. Each phase is
	 * left at most a few times in a step: forward, then perhaps round. */
	for (int turns = 0; turns < 3 * ROLLOUT_PHASE_COUNT; turns++) {
		changed = ret->changed;
		ret->changed = false;
		forget_gone(&s);
		rule_of[r->phase](&s);
		if (!ret->changed) {
			ret->changed = changed;
			break;
		}
	}
	ret->wake_ms = s.again ? now_ms : next_wake(r, now_ms);
}

const char *rollout_check(const struct rollout *r)
{
	if (r->unit_count > ROLLOUT_UNITS_MAX)
		return "more units than there is room for";
	if ((r->phase == ROLLOUT_IDLE) != (r->change == 0))
		return "a change without a phase, or a phase without a change";
	if (r->phase == ROLLOUT_IDLE && (r->hold || r->undoing || r->direct))
		return "idle, but something is still set";
	for (uint32_t i = 0; i < r->unit_count; i++) {
		const struct rollout_unit *u = &r->units[i];

		if (u->stop && u->use == USE_SERVE)
			return "a unit that should end may still serve";
		for (uint32_t j = 0; j < i; j++) {
			const struct rollout_unit *o = &r->units[j];

			if (o->id == u->id)
				return "two units have the same number";
			if (!o->stop && !u->stop && o->slot == u->slot &&
			    rollout_same(o->version, u->version))
				return "two units of one version in one slot";
		}
	}
	return NULL;
}
