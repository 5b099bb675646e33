/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of the controller, the shell around core/rollout: it looks, steps, saves,
 * and only then acts. line() stands wherever the real one could be killed.
 *
 * What was not saved has not happened: after any failure of the store the state is
 * loaded again, for the transaction may have been done all the same.
 *
 * It steps only when something that it sees is new or a time has come, as
 * rollout_step() allows; from time to time it proves that a step in between would
 * have changed nothing.
 */
#include "sim.h"

#include <string.h>

/* True: the controller died here. */
static bool line(struct sim *s)
{
	struct controller *c = &s->ctl;

	if (++s->count_lines != s->die_at_line && (!c->crash_in || --c->crash_in))
		return false;
	sim_say(s, "(the controller is killed between two lines)");
	keeper_part_died(s, P_CONTROLLER);
	return true;
}

static void load(struct sim *s, uint32_t app)
{
	struct controller *c = &s->ctl;

	store_copy(&c->app[app].r, &s->store.app[app].r);
	c->app[app].boot = s->store.app[app].boot;
	c->next_unit = s->store.next_unit;
	c->next_change = s->store.next_change;
	c->generation = s->store.generation;
	c->wake[app] = 0;
}

void controller_start(struct sim *s)
{
	struct controller *c = &s->ctl;

	c->synced = false;
	c->crash_in = s->o.crash_lines && !s->calm && sim_chance(s, 40) ? sim_between(s, 1, 80) : 0;
	memset(c->view, 0, sizeof(c->view));
	memset(c->pending_act, 0, sizeof(c->pending_act));
	for (uint32_t i = 0; i < s->o.apps; i++)
		load(s, i);
	if (sim_mutated(s, MUTATE_TWO_ENDS) && s->store.last_ended &&
	    s->store.change[s->store.last_ended].ended++)
		sim_broken(s, "change %llu ended twice", (unsigned long long)s->store.last_ended);
	sim_at(s, s->now + 100, E_TICK, 0, s->part[P_CONTROLLER].epoch, 0);
}

/* --- what it sees --- */

static void see(struct sim *s, uint32_t app, struct rollout_unit *u)
{
	struct controller *c = &s->ctl;
	bool known = c->view[u->id].known, runs = known && c->view[u->id].state == I_RUNNING;
	enum health_state health = s->numbers.state[u->id];

	u->seen.ready = runs && health == HEALTH_UP;
	u->seen.unknown = (runs || (known && c->view[u->id].state == I_STARTING)) && !u->seen.ready &&
			  (health == HEALTH_UNKNOWN || !check_looked_lately(s, app, u->id));
	u->seen.starts = known ? c->view[u->id].starts : 0;
	u->seen.drained = u->use == USE_DRAIN && s->numbers.generation >= c->published &&
			  c->published == c->generation && s->numbers.inside[u->id] == 0;
	u->seen.gone = c->view[u->id].gone || (u->stop && !known && !c->view[u->id].ordered);
	if (sim_mutated(s, MUTATE_BLIND))
		u->seen.ready = known;
	if (sim_mutated(s, MUTATE_DRAINED))
		u->seen.drained = u->use == USE_DRAIN;
	if (sim_mutated(s, MUTATE_GONE))
		u->seen.gone = u->stop;
}

/* Copies the state into c->next with what is seen now. True when something is new. */
static bool look(struct sim *s, uint32_t app)
{
	struct controller *c = &s->ctl;
	bool waiting = s->router.app[app].held_now > 0, news = waiting != c->app[app].r.seen_waiting;

	store_copy(&c->next, &c->app[app].r);
	c->next.seen_waiting = waiting;
	for (uint32_t i = 0; i < c->next.unit_count; i++) {
		struct rollout_seen *now = &c->next.units[i].seen, was = *now;

		see(s, app, &c->next.units[i]);
		news |= now->ready != was.ready || now->unknown != was.unknown ||
			now->starts != was.starts || now->drained != was.drained ||
			now->gone != was.gone;
	}
	return news;
}

/* --- what it does --- */

static void publish(struct sim *s)
{
	struct controller *c = &s->ctl;
	struct sim_table *t = &s->table[c->generation % SIM_TABLES];
	const struct sim_table *before = &s->table[s->last_table % SIM_TABLES];
	struct sim_table old;
	struct message m = {.type = M_TABLE, .id = c->generation};

	if (before->generation == s->last_table)
		old = *before;
	else
		old.generation = 0;
	t->generation = c->generation;
	for (uint32_t a = 0; a < s->o.apps; a++) {
		const struct rollout *r = &c->app[a].r;

		c->wanted_least[a] = MIN(c->wanted_least[a], s->app[a].rules.instances);
		t->app[a].hold = r->hold || s->app[a].held;
		t->app[a].len = 0;
		for (uint32_t i = 0; i < r->unit_count; i++) {
			const struct rollout_unit *u = &r->units[i];

			if (u->stop)
				continue;
			if (t->app[a].len == SIM_TARGETS) {
				sim_broken(s, "more targets than the model has room for");
				return;
			}
			t->app[a].t[t->app[a].len++] =
			    (struct sim_target){u->id, u->until_ms, u->use, u->slot};
		}
	}
	if (old.generation)
		check_table(s, &old, t);
	for (uint32_t a = 0; a < s->o.apps; a++)
		c->wanted_least[a] = UINT32_MAX;
	s->last_table = c->published = c->generation;
	sim_send(s, CH_TO_KEEPER, &m);
}

static void order(struct sim *s, uint32_t app, const struct rollout_unit *u)
{
	struct message m = {.type = u->stop ? M_STOP : M_START,
			    .app = app,
			    .slot = u->slot,
			    .id = u->id,
			    .version = u->version};

	if (u->stop)
		s->ctl.view[u->id].told = 1;
	else
		s->ctl.view[u->id].ordered = 1;
	check_order_saved(s, app, u);
	sim_send(s, CH_TO_KEEPER, &m);
}

/* Makes the world like the saved state. Idempotent. */
void controller_act(struct sim *s, uint32_t app)
{
	struct controller *c = &s->ctl;
	const struct rollout *r = &c->app[app].r;

	c->pending_act[app] = false;
	for (uint32_t i = 0; i < r->unit_count; i++) {
		const struct rollout_unit *u = &r->units[i];

		if (u->stop ? c->view[u->id].told : c->view[u->id].ordered)
			continue;
		if (line(s))
			return;
		order(s, app, u);
	}
	if (!line(s))
		publish(s);
}

/* --- deliberate faults of the shell --- */

static void spoil(struct sim *s, uint32_t app, struct rollout *r)
{
	struct rollout_version goal = rollout_goal(r);
	uint32_t kept = 0;

	if (sim_mutated(s, MUTATE_DRAIN_FIRST) && r->phase == ROLLOUT_SWITCH && !r->undoing) {
		for (uint32_t i = 0; i < r->unit_count; i++)
			for (uint32_t j = 0; j < r->unit_count; j++)
				if (rollout_same(r->units[i].version, goal) &&
				    r->units[i].use == USE_PROBE && r->units[j].use == USE_SERVE &&
				    r->units[j].slot == r->units[i].slot) {
					r->units[j].use = USE_DRAIN;
					r->units[j].until_ms = s->now + s->app[app].rules.drain_ms;
				}
	}
	if (sim_mutated(s, MUTATE_PARK) && r->phase == ROLLOUT_BAKE && !r->undoing) {
		for (uint32_t i = 0; i < r->unit_count; i++)
			if (r->units[i].use != USE_PROBE ||
			    !rollout_same(r->units[i].version, r->from))
				r->units[kept++] = r->units[i];
		r->unit_count = kept;
	}
}

/* --- a step --- */

enum step_verdict { STEP_SAVED, STEP_FAILED, STEP_DIED };

/* c->next holds the state with what is seen. */
static enum step_verdict step(struct sim *s, uint32_t app, const struct rollout_event *ev,
			      bool urgent)
{
	struct controller *c = &s->ctl;
	struct rollout_rules rules = s->app[app].rules;
	struct rollout *before = &s->before;
	uint64_t begun = ev->change;
	enum store_verdict v;

	if (sim_mutated(s, MUTATE_STUCK) && c->next.undoing && ev->type == ROLLOUT_LOOK)
		return STEP_SAVED;
	c->wanted_least[app] = MIN(c->wanted_least[app], rules.instances);
	if (sim_mutated(s, MUTATE_MIX))
		rules.never_mixed = false;
	store_copy(before, &c->next);
	c->unit_before_step = c->next_unit;
	rollout_step(&c->next, &rules, ev, s->now, &c->next_unit, &c->result);
	if (c->next_unit >= SIM_IDS) {
		sim_broken(s, "more units than the model has room for");
		return STEP_FAILED;
	}
	spoil(s, app, &c->next);
	check_step(s, app, before, &c->next, ev);
	c->wake[app] = c->result.wake_ms;
	if (!c->result.changed && ev->type == ROLLOUT_LOOK && !c->touched[app]) {
		store_copy(&c->app[app].r, &c->next);
		return STEP_SAVED;
	}
	for (uint32_t i = 0; i < c->result.step_count; i++)
		sim_say(s, "app %u %s%s: unit %llu @%u/%u %s", app,
			rollout_phase_name(c->next.phase), c->next.undoing ? " (undoing)" : "",
			(unsigned long long)c->result.steps[i].unit,
			c->result.steps[i].version.release, c->result.steps[i].slot,
			rollout_step_text(c->result.steps[i].type));
	c->generation++;
	if (line(s))
		return STEP_DIED;
	if (sim_mutated(s, MUTATE_ACT_FIRST)) {
		store_copy(&c->app[app].r, &c->next);
		controller_act(s, app);
		if (!s->part[P_CONTROLLER].up || line(s))
			return STEP_DIED;
	}
	c->touched[app] = false;
	v = store_save(s, app, &c->next, begun, &c->result, urgent);
	if (v == STORE_SAVED) {
		store_copy(&c->app[app].r, &c->next);
		c->app[app].boot = c->keeper_boot;
	} else {
		sim_say(s, "store: %s", v == STORE_FAILED ? "not saved" : "saved, reply lost");
		load(s, app);
		c->wake[app] = s->now + 300;
		c->touched[app] = true;
	}
	if (line(s))
		return STEP_DIED;
	if (v == STORE_FAILED)
		return STEP_FAILED;
	if (s->o.disk && !s->calm && sim_chance(s, 5)) { /* a slow disk: everything waits for it */
		s->part[P_CONTROLLER].hung_until = s->now + sim_between(s, 10, 1500);
		c->pending_act[app] = true;
		sim_at(s, s->part[P_CONTROLLER].hung_until, E_ACT, app, s->part[P_CONTROLLER].epoch,
		       0);
		return STEP_SAVED;
	}
	controller_act(s, app);
	return s->part[P_CONTROLLER].up ? STEP_SAVED : STEP_DIED;
}

/* A step that nobody asked for must have nothing to do. */
static void prove_idle(struct sim *s, uint32_t app)
{
	struct controller *c = &s->ctl;
	struct rollout_event ev = {ROLLOUT_LOOK, {0, 0}, 0, NULL};
	uint64_t next_unit = c->next_unit;

	if (s->mutation || c->touched[app]) /* touched: the store did not take it yet */
		return;
	rollout_step(&c->next, &s->app[app].rules, &ev, s->now, &next_unit, &c->result);
	if (c->result.changed)
		sim_broken(s, "app %u: a step was due, and wake_ms did not say so", app);
}

void controller_look(struct sim *s, uint32_t app)
{
	struct controller *c = &s->ctl;
	bool booted = c->app[app].boot != c->keeper_boot;
	struct rollout_event ev = {booted ? ROLLOUT_BOOTED : ROLLOUT_LOOK, {0, 0}, 0, NULL};

	if (!c->synced || c->pending_act[app])
		return;
	if (look(s, app) || booted || s->now >= c->wake[app])
		step(s, app, &ev, false);
	else if (s->now % 16 == 0)
		prove_idle(s, app);
}

void controller_tick(struct sim *s)
{
	uint32_t epoch = s->part[P_CONTROLLER].epoch;

	sim_at(s, s->now + sim_between(s, 50, 200), E_TICK, 0, epoch, 0);
	for (uint32_t i = 0; i < s->o.apps; i++)
		if (s->part[P_CONTROLLER].up && s->part[P_CONTROLLER].epoch == epoch &&
		    s->now >= s->part[P_CONTROLLER].hung_until)
			controller_look(s, i);
}

static bool is_wanted(struct sim *s, uint64_t id)
{
	for (uint32_t a = 0; a < s->o.apps; a++)
		for (uint32_t i = 0; i < s->ctl.app[a].r.unit_count; i++)
			if (s->ctl.app[a].r.units[i].id == id)
				return true;
	return false;
}

static void synced(struct sim *s, uint64_t boot)
{
	struct controller *c = &s->ctl;

	c->synced = true;
	c->keeper_boot = boot;
	for (uint32_t id = 1; id < SIM_IDS; id++) {
		struct message m = {.type = M_STOP, .id = id};

		if (c->view[id].known && !is_wanted(s, id))
			sim_send(s, CH_TO_KEEPER, &m);
	}
	for (uint32_t i = 0; i < s->o.apps && s->part[P_CONTROLLER].up; i++) {
		c->wake[i] = 0;
		if (c->app[i].boot == boot)
			controller_act(s, i);
	}
}

void controller_message(struct sim *s, const struct message *m)
{
	struct controller *c = &s->ctl;

	if (m->type == M_SYNCED) {
		synced(s, m->id);
		return;
	}
	c->view[m->id].known = m->state != I_GONE;
	c->view[m->id].gone = m->state == I_GONE;
	c->view[m->id].state = (uint8_t)m->state;
	c->view[m->id].starts = m->starts;
	sim_at(s, s->now, E_BELL, m->app, s->part[P_CONTROLLER].epoch, 0);
}

/* --- what people ask for --- */

enum op_verdict controller_op(struct sim *s, uint32_t app, enum rollout_event_type type,
			      uint32_t release)
{
	struct controller *c = &s->ctl;
	struct rollout_event ev = {type, {release, 1}, 0, "a person said so"};
	enum step_verdict v;
	bool aborted;

	/* At the very end of a hang, what waits in the keeper's socket is read before an order. */
	if (!s->part[P_CONTROLLER].up || s->now <= s->part[P_CONTROLLER].hung_until || !c->synced ||
	    c->pending_act[app] || c->app[app].boot != c->keeper_boot)
		return OP_LATER;
	if (type == ROLLOUT_DEPLOY && (c->app[app].r.phase != ROLLOUT_IDLE || s->store.full))
		return OP_REFUSED;
	if (type == ROLLOUT_ABORT && c->app[app].r.phase == ROLLOUT_BAKE &&
	    sim_mutated(s, MUTATE_REFUSE))
		return OP_REFUSED;
	look(s, app);
	s->reached[c->next.phase][c->next.undoing][type]++;
	aborted = type == ROLLOUT_ABORT && c->next.phase != ROLLOUT_IDLE && !c->next.undoing;
	if (type == ROLLOUT_DEPLOY || type == ROLLOUT_ROLLBACK)
		ev.change = ++c->next_change;
	v = step(s, app, &ev, type == ROLLOUT_ABORT || type == ROLLOUT_ROLLBACK);
	if (s->calm) /* people may have been waiting with another order */
		s->app[app].expect =
		    aborted && v == STEP_SAVED ? s->store.app[app].r.from.release : 0;
	return v == STEP_FAILED ? OP_REFUSED : OP_DONE;
}
