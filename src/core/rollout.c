/* SPDX-License-Identifier: Apache-2.0
 *
 * Each step runs the rule of its phase until nothing more moves. A rule looks
 * only at the state and at what was seen of the units, never at how it got there;
 * that is what makes a crash between any two lines of the shell harmless.
 *
 * Here: events, and what changes the goal. The rules are in rollout_rules.c.
 */
#include "core/rollout_priv.h"

#include <string.h>

#define AGAIN_MS 100 /* to look again at what nothing announces */

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

void step_note(struct step *s, enum rollout_step_type type, const struct rollout_unit *u)
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

void step_phase(struct step *s, enum rollout_phase phase)
{
	s->r->phase = phase;
	s->ret->changed = true;
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

void step_end_change(struct step *s, enum rollout_outcome outcome)
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

void step_hold(struct step *s, bool hold)
{
	if (s->r->hold == hold)
		return;
	s->r->hold = hold;
	step_note(s, hold ? ROLLOUT_STEP_HOLD : ROLLOUT_STEP_RELEASE, NULL);
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
		step_phase(s, ROLLOUT_EMPTY);
		return;
	}
	step_hold(s, false);
	step_phase(s, ROLLOUT_SWITCH);
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
	step_note(s, ROLLOUT_STEP_UNDO, NULL);
	set_out(s);
}

bool step_check_goal(struct step *s, bool must_be_ready)
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
	step_hold(s, false);
	if (r->phase == ROLLOUT_IDLE)
		return;
	if (r->phase != ROLLOUT_FINISH && !r->direct && !r->undoing) {
		r->undoing = true;
		snprintf(r->reason, sizeof(r->reason), "Upstate itself was restarted meanwhile");
	}
	/* Nothing runs, so nothing has to be switched: the goal's instances start as when idle. */
	r->current = rollout_goal(r);
	step_end_change(s, r->undoing ? ROLLOUT_UNDONE : ROLLOUT_DONE);
	step_phase(s, ROLLOUT_IDLE);
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
			step_end_change(s, ROLLOUT_SUPERSEDED);
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
		rollout_rule_of[r->phase](&s);
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
