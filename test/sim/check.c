/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules. They look at what really is in the model's world (processes, the
 * router's table, executions), not at what the code under test believes, and they
 * count for themselves.
 *
 *	to a target only when it serves and is not known to be down      check_send()
 *	no unit started twice, versions that must not mix do not         check_spawn()
 *	nothing inside a unit is cut before its drain is over            check_stop()
 *	capacity does not fall because of us                             check_table()
 *	rollback and abort are taken in every phase, the way back is kept  check_step()
 *	back-off: never nothing, never without end                       check_pause()
 *	the waiting room: bounded, and nobody waits who need not         check_room()
 *	nothing is done that is not saved                                check_order_saved()
 *	one end for each beginning                                       store.c
 *	a POST is executed at most once                                  clients.c
 *	never the last and never more than half are ejected              check_ejected()
 *	retries stay within their share                                  check_retried()
 *	a GET does not wait for a stuck target when another is up        failure.c
 */
#include "sim.h"

#define LAG_MS 30000 /* a hung router or controller sees this late what became of a process */

static bool is_able(struct sim *s, uint64_t id)
{
	const struct proc *p = proc_of(s, id);

	return p && p->up && !p->hung && !p->flapping;
}

static bool was_able(struct sim *s, uint64_t id)
{
	return s->last_up[id] && s->now - s->last_up[id] <= LAG_MS;
}

static const struct rollout_unit *unit_in(const struct rollout *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->unit_count; i++)
		if (r->units[i].id == id)
			return &r->units[i];
	return NULL;
}

/* What is not saved must not be done: the next controller would know nothing of it. */
void check_order_saved(struct sim *s, uint32_t app, const struct rollout_unit *u)
{
	const struct rollout_unit *saved = unit_in(&s->store.app[app].r, u->id);

	if (!saved || saved->stop != u->stop || !rollout_same(saved->version, u->version))
		sim_broken(s, "unit %llu is told to %s, and that is not saved",
			   (unsigned long long)u->id, u->stop ? "end" : "start");
}

static void check_order(struct sim *s, uint32_t app, const struct rollout *before,
			const struct rollout *after, const struct rollout_event *ev)
{
	const struct rollout_result *res = &s->ctl.result;
	struct rollout_version goal = rollout_goal(after);

	if (ev->type == ROLLOUT_ABORT && before->phase != ROLLOUT_IDLE && !before->undoing &&
	    !rollout_same(goal, before->from))
		sim_broken(s, "app %u: an abort in %s does not lead back", app,
			   rollout_phase_name(before->phase));
	if (ev->type == ROLLOUT_ROLLBACK && after->change != ev->change && res->ended != ev->change)
		sim_broken(s, "app %u: a rollback in %s was not begun", app,
			   rollout_phase_name(before->phase));
	if (ev->type == ROLLOUT_ROLLBACK && !after->undoing && !rollout_same(goal, ev->version))
		sim_broken(s, "app %u: a rollback in %s leads elsewhere", app,
			   rollout_phase_name(before->phase));
	if (before->change && after->change != before->change && res->ended != before->change)
		sim_broken(s, "app %u: change %llu vanished", app,
			   (unsigned long long)before->change);
}

/* The checker's own notes about the change in hand, when a step is saved. */
void check_saved(struct sim *s, uint32_t app, const struct rollout *before,
		 const struct rollout *after)
{
	struct notes *n = &s->app[app].notes;

	n->saved_ms = s->now;
	if (after->change && after->change != before->change) {
		n->begun_ms = s->now;
		n->first_unit = s->ctl.unit_before_step;
	}
	if (after->undoing && (!before->undoing || after->change != before->change))
		n->undo_ms = s->now;
	if (after->phase == ROLLOUT_BAKE &&
	    (before->phase != ROLLOUT_BAKE || after->change != before->change))
		n->bake_ms = s->now;
}

bool check_looked_lately(const struct sim *s, uint32_t app, uint64_t id)
{
	return s->now - s->numbers.looked_ms[id] <=
	       s->app[app].probe_ms + s->app[app].probe_timeout_ms + 1000;
}

/* Did a unit of the goal really break its word? What the router says of one at which it did not look
 * lately is no proof. */
static bool has_cause(struct sim *s, uint32_t app, const struct rollout *r)
{
	const struct notes *n = &s->app[app].notes;
	/* What happened right before the change may be told after it began. */
	uint64_t since = n->begun_ms - (s->o.slow_messages ? 5000 : SIM_MESSAGE_MS);
	bool late = s->now >= n->begun_ms + s->app[app].rules.ready_ms;

	if (s->ch[CH_TO_CONTROLLER].len && s->ch[CH_TO_CONTROLLER].last_at >= s->now)
		return true; /* the news that it is ready may be under way */
	for (uint32_t i = 0; i < r->unit_count; i++) {
		const struct rollout_unit *u = &r->units[i];

		if (u->stop || !rollout_same(u->version, r->to))
			continue;
		if (s->crashed[u->id] >= since)
			return true;
		if (s->numbers.state[u->id] == HEALTH_DOWN && s->went_down[u->id] >= since)
			return true;
		if (!late || (is_able(s, u->id) && !check_looked_lately(s, app, u->id)))
			continue;
		if (s->numbers.state[u->id] == HEALTH_DOWN ||
		    (u->use != USE_SERVE && s->numbers.state[u->id] != HEALTH_UP) ||
		    !is_able(s, u->id))
			return true;
	}
	return false;
}

static void check_established(struct sim *s, uint32_t app, const struct rollout *r)
{
	const struct notes *n = &s->app[app].notes;
	uint32_t ready = 0;

	if (!r->direct && s->now < n->bake_ms + s->app[app].rules.bake_ms)
		sim_broken(s, "app %u: established before the bake was over", app);
	for (uint32_t i = 0; i < r->unit_count; i++) {
		const struct rollout_unit *u = &r->units[i];

		if (u->stop || !rollout_same(u->version, r->to))
			continue;
		ready += u->seen.ready && u->slot <= s->app[app].rules.instances;
		if (u->id >= n->first_unit && u->seen.starts > 1)
			sim_broken(s, "app %u: established, although unit %llu crashed", app,
				   (unsigned long long)u->id);
	}
	if (!r->direct && ready < s->app[app].rules.instances)
		sim_broken(s, "app %u: established with %u ready", app, ready);
}

/* What a step may do to single units. */
static void check_units(struct sim *s, uint32_t app, const struct rollout *before,
			const struct rollout *after)
{
	const struct rollout_rules *rules = &s->app[app].rules;
	struct rollout_version goal = rollout_goal(after);
	bool waited = after->undoing && s->now >= s->app[app].notes.undo_ms + rules->ready_ms;
	uint32_t starting = 0;

	for (uint32_t i = 0; i < after->unit_count; i++) {
		const struct rollout_unit *u = &after->units[i], *was = unit_in(before, u->id);
		bool of_goal = rollout_same(u->version, goal), moving = after->phase == ROLLOUT_SWITCH;
		unsigned long long id = u->id;

		if (was && was->use != USE_SERVE && u->use == USE_SERVE && !u->seen.ready &&
		    !waited && after->phase != ROLLOUT_IDLE && before->change == after->change &&
		    before->undoing == after->undoing)
			sim_broken(s, "app %u: unit %llu serves and is not ready", app, id);
		if (moving && !u->stop && u->use == USE_PROBE && !of_goal &&
		    (after->undoing || !rollout_same(u->version, after->from)))
			sim_broken(s, "app %u: nobody waits for unit %llu, and it runs", app, id);
		if (after->phase == ROLLOUT_EMPTY && !of_goal && u->use == USE_DRAIN && !u->stop &&
		    u->until_ms > s->now + rules->switch_ms)
			sim_broken(s, "app %u: unit %llu drains too long for a hold", app, id);
		starting += moving && of_goal && !u->stop && u->use == USE_PROBE;
	}
	if (starting > 1 && !after->undoing && !after->direct && after->from.release)
		sim_broken(s, "app %u: a deploy starts %u at once", app, starting);
}

static void check_ends(struct sim *s, uint32_t app, const struct rollout *before,
		       const struct rollout *after, const struct rollout_event *ev)
{
	const struct rollout_result *res = &s->ctl.result;

	if (ev->type == ROLLOUT_LOOK && after->undoing && !before->undoing &&
	    !has_cause(s, app, before))
		sim_broken(s, "app %u: undone without a cause: %s", app, after->reason);
	if (ev->type == ROLLOUT_LOOK && after->phase == ROLLOUT_FINISH && !after->undoing &&
	    before->change == after->change &&
	    (before->phase == ROLLOUT_SWITCH || before->phase == ROLLOUT_BAKE))
		check_established(s, app, after);
	if (!res->ended || res->ended != before->change || res->outcome == ROLLOUT_SUPERSEDED ||
	    after->phase != ROLLOUT_IDLE)
		return;
	for (uint32_t i = 0; i < after->unit_count; i++)
		if (!rollout_same(after->units[i].version, after->current))
			sim_broken(s, "app %u: ended with unit %llu of another version", app,
				   (unsigned long long)after->units[i].id);
}

void check_step(struct sim *s, uint32_t app, const struct rollout *before,
		const struct rollout *after, const struct rollout_event *ev)
{
	const char *wrong = rollout_check(after);

	if (wrong)
		sim_broken(s, "app %u: %s", app, wrong);
	if (after->hold && after->phase != ROLLOUT_EMPTY && after->phase != ROLLOUT_FILL)
		sim_broken(s, "app %u: held in %s", app, rollout_phase_name(after->phase));
	check_order(s, app, before, after, ev);
	check_ends(s, app, before, after, ev);
	check_units(s, app, before, after);
	if ((after->phase != ROLLOUT_SWITCH && after->phase != ROLLOUT_BAKE) || after->undoing ||
	    after->direct || before->change != after->change)
		return;
	for (uint32_t i = 0; i < before->unit_count; i++) {
		const struct rollout_unit *u = &before->units[i], *now = unit_in(after, u->id);

		if (!u->stop && rollout_same(u->version, after->from) && (!now || now->stop))
			sim_broken(s, "app %u: unit %llu was needed for the way back", app,
				   (unsigned long long)u->id);
	}
}

/* Two tables in a row: what serves after, of what there was to serve when that was decided: the disk may
 * have been slow since. */
void check_table(struct sim *s, const struct sim_table *before, const struct sim_table *after)
{
	for (uint32_t a = 0; a < s->o.apps; a++) {
		const struct rollout *r = &s->ctl.app[a].r;
		uint32_t was = 0, is = 0, wanted = s->ctl.wanted_least[a];

		if (after->app[a].hold || !rollout_goal(r).release)
			continue;
		for (uint32_t i = 0; i < before->app[a].len; i++) {
			const struct sim_target *t = &before->app[a].t[i];

			was += t->use == USE_SERVE && t->slot <= wanted && is_able(s, t->id) &&
			       s->numbers.state[t->id] == HEALTH_UP &&
			       s->came_up[t->id] <= s->app[a].notes.saved_ms;
		}
		for (uint32_t i = 0; i < after->app[a].len; i++) {
			const struct sim_target *t = &after->app[a].t[i];

			is += t->use == USE_SERVE && was_able(s, t->id);
		}
		if (is < MIN(was, wanted))
			sim_broken(s, "app %u: %u of %u could serve, now %u, because of us", a, was,
				   wanted, is);
	}
}

void check_spawn(struct sim *s, uint32_t app, uint32_t release, uint64_t unit)
{
	for (uint32_t i = 0; i < SIM_PROCS; i++) {
		const struct proc *p = &s->proc[i];

		if (p->pid && p->unit == unit)
			sim_broken(s, "unit %llu runs twice", (unsigned long long)unit);
		if (p->pid && p->app == app && p->release != release &&
		    s->app[app].rules.never_mixed)
			sim_broken(s, "app %u: @%u starts while @%u runs, and they must not mix",
				   app, release, p->release);
	}
}

void check_stop(struct sim *s, const struct inst *in)
{
	const struct rt_target *t = NULL;

	if (s->part[P_ROUTER].up)
		t = router_target(s, in->app, in->id);
	if (!t)
		return;
	if (t->use == USE_SERVE)
		sim_broken(s, "unit %llu is stopped while it serves", (unsigned long long)in->id);
	if (t->outstanding && s->now < t->until_ms)
		sim_broken(s,
			   "unit %llu is stopped with %u requests inside, before its drain is over",
			   (unsigned long long)in->id, t->outstanding);
}

void check_send(struct sim *s, const struct request *q, const struct rt_target *t)
{
	const struct app *a = &s->app[q->app];
	const struct rt_app *ra = &s->router.app[q->app];
	const struct inst *in = keeper_find(s, t->id);
	unsigned long long id = t->id;

	if (t->use != USE_SERVE)
		sim_broken(s, "a request to unit %llu, which does not serve", id);
	if (in && in->stopping)
		sim_broken(s, "a request to unit %llu, which was told to end", id);
	if (t->down)
		sim_broken(s, "a request to unit %llu, which failed %u probes in a row and then "
			      "passed %u",
			   id, a->fall, t->passes_in_row);
	if (a->target_limit && t->outstanding >= a->target_limit)
		sim_broken(s, "a request to unit %llu beyond its limit", id);
	for (uint32_t i = 0; (t->suspect || t->eject.cause != EJECT_NO) && i < ra->len; i++) {
		const struct rt_target *o = &ra->t[i];

		if (o->use == USE_SERVE && o->health.state == HEALTH_UP && !o->suspect &&
		    o->eject.cause == EJECT_NO)
			sim_broken(s, "a request to unit %llu, which is avoided, though %llu is up", id,
				   (unsigned long long)o->id);
	}
	if (ra->order)
		sim_broken(s, "a request passed although app %u is held", q->app);
	for (uint32_t i = 0; t->passes == 0 && i < ra->len; i++) {
		const struct rt_target *o = &ra->t[i];
		bool tried = false;

		for (uint32_t j = 0; j < q->tried_len; j++)
			tried |= q->tried[j] == o->id;
		if (o->use == USE_SERVE && o->passes && o->health.state == HEALTH_UP && !tried &&
		    !o->suspect && o->eject.cause == EJECT_NO)
			sim_broken(s,
				   "a request to unit %llu, which nobody looked at, though %llu "
				   "is up",
				   id, (unsigned long long)o->id);
	}
}

/* The panic floor, when one was just ejected. */
void check_ejected(struct sim *s, uint32_t app, const struct rt_target *t)
{
	const struct rt_app *ra = &s->router.app[app];
	uint32_t serving = 0, out = 0, up = 0;

	for (uint32_t i = 0; i < ra->len; i++) {
		const struct rt_target *o = &ra->t[i];

		if (o->use != USE_SERVE)
			continue;
		serving++;
		out += o->eject.cause != EJECT_NO;
		up += o->eject.cause == EJECT_NO && o->health.state == HEALTH_UP;
	}
	if (2 * out > serving)
		sim_broken(s, "app %u: %u of %u are ejected", app, out, serving);
	if (!up)
		sim_broken(s, "app %u: unit %llu is ejected, the last one that is up", app,
			   (unsigned long long)t->id);
}

/* Over any time, retries stay near their share; what fades in the sum is allowed for by a factor of two. */
void check_retried(struct sim *s, uint32_t app)
{
	const struct app *a = &s->app[app];
	const struct rt_app *ra = &s->router.app[app];
	uint64_t windows = (s->now - ra->since_ms) / BUDGET_WINDOW_MS + 2;

	if (ra->retried > 2 * ra->requests * a->retry_share / 100 + windows * a->retry_least + 1)
		sim_broken(s, "app %u: %llu retries for %llu requests, %u %% are allowed", app,
			   (unsigned long long)ra->retried, (unsigned long long)ra->requests,
			   a->retry_share);
}

void check_pause(struct sim *s, const struct supervise_rule *rule, uint32_t ends_before,
		 uint64_t ran_ms, uint64_t pause)
{
	uint64_t want = rule->first_ms;

	if (ran_ms >= rule->healthy_ms || ends_before < rule->free_ends)
		want = 0;
	else
		for (uint32_t i = rule->free_ends; i < ends_before && want < rule->max_ms; i++)
			want *= 2;
	want = MIN(want, rule->max_ms);
	if (pause > want || pause < want - want / 4)
		sim_broken(s, "a pause of %llu ms after %u quick ends and %llu ms: expected %llu",
			   (unsigned long long)pause, ends_before, (unsigned long long)ran_ms,
			   (unsigned long long)want);
}

static void check_waiting(struct sim *s, uint32_t app)
{
	const struct rt_app *ra = &s->router.app[app];
	uint64_t bytes = 0, slack = MAX(s->part[P_ROUTER].hung_until, s->part[P_ROUTER].resumed_ms);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->request_top; i++) {
		const struct request *q = &s->request[i];

		if (q->state != R_WAITING || q->app != app)
			continue;
		n++;
		bytes += q->bytes;
		if (s->now > MAX(q->until_ms, slack) + 1)
			sim_broken(s, "request %u waits beyond its time", q->serial);
	}
	if (n != ra->waiting || bytes != ra->waiting_bytes)
		sim_broken(s, "app %u: %u wait with %llu bytes, the room counts %u with %llu", app,
			   n, (unsigned long long)bytes, ra->waiting,
			   (unsigned long long)ra->waiting_bytes);
	if (n > s->app[app].limits.requests || bytes > s->app[app].limits.bytes)
		sim_broken(s, "app %u: the waiting room holds more than is allowed", app);
}

void check_room(struct sim *s, uint32_t app)
{
	struct rt_app *ra = &s->router.app[app];
	uint32_t at, turn = ra->turn;

	if (!ra->waiting || s->now < s->part[P_ROUTER].hung_until)
		return;
	if (s->events % 8 == 0)
		check_waiting(s, app);
	if (ra->head == SIM_NONE || !hold_may_pass(&ra->hold, ra->inside) || ra->order)
		return;
	if (router_pick(s, app, &s->request[ra->head], &at) == BALANCE_PICKED)
		sim_broken(s, "app %u: request %u waits, and need not", app,
			   s->request[ra->head].serial);
	ra->turn = turn;
}

/* --- at rest --- */

/* An undo may wait without end only while something else serves that it must not give up. */
void check_waits_rightly(struct sim *s, uint32_t app)
{
	const struct rollout *r = &s->store.app[app].r;

	for (uint32_t i = 0; i < r->unit_count; i++)
		if (r->units[i].use == USE_SERVE &&
		    !rollout_same(r->units[i].version, rollout_goal(r)))
			return;
	sim_broken(s, "app %u: an undo waits, and nothing would be lost by its end", app);
}

static bool unit_rests(struct sim *s, uint32_t app, const struct rollout_unit *u, char *why,
		       size_t size)
{
	const struct inst *in = keeper_find(s, u->id);
	const struct rt_target *t = router_target(s, app, u->id);
	unsigned long long id = u->id;

	if (!in || in->stopping || !rollout_same(in->version, u->version)) {
		snprintf(why, size, "unit %llu is wanted and not run", id);
		return false;
	}
	if (u->use != USE_SERVE || !t || t->use != USE_SERVE) {
		snprintf(why, size, "unit %llu is established and does not serve", id);
		return false;
	}
	if (t->eject.cause != EJECT_NO && u->version.release <= SIM_GOOD) {
		snprintf(why, size, "unit %llu is ejected", id);
		return false;
	}
	if (u->version.release <= SIM_GOOD && (!is_able(s, id) || t->health.state != HEALTH_UP)) {
		snprintf(why, size, "unit %llu is not up", id);
		return false;
	}
	return true;
}

static bool app_rests(struct sim *s, uint32_t app, char *why, size_t size)
{
	const struct rollout *r = &s->store.app[app].r;
	uint32_t wanted = r->current.release ? s->app[app].rules.instances : 0;

	if (r->phase != ROLLOUT_IDLE) {
		snprintf(why, size, "app %u is in %s%s", app, rollout_phase_name(r->phase),
			 r->undoing ? ", undoing" : "");
		return false;
	}
	if (r->unit_count != wanted) {
		snprintf(why, size, "app %u has %u units of %u", app, r->unit_count, wanted);
		return false;
	}
	if (s->app[app].expect && r->current.release != s->app[app].expect) {
		snprintf(why, size, "app %u has @%u, @%u was ordered", app, r->current.release,
			 s->app[app].expect);
		return false;
	}
	for (uint32_t i = 0; i < r->unit_count; i++)
		if (!unit_rests(s, app, &r->units[i], why, size))
			return false;
	if (s->router.app[app].waiting && s->now > s->arrive_until + s->app[app].limits.wait_ms) {
		snprintf(why, size, "requests wait in app %u", app);
		return false;
	}
	return true;
}

bool check_quiet(struct sim *s, char *why, size_t size)
{
	uint32_t units = 0, live = 0, with_process = 0;

	if (!s->part[P_CONTROLLER].up || !s->part[P_ROUTER].up || s->now <= s->arrive_until) {
		snprintf(why, size, "something is still to come");
		return false;
	}
	for (uint32_t i = 0; i < s->o.apps; i++) {
		if (!app_rests(s, i, why, size))
			return false;
		units += s->store.app[i].r.unit_count;
	}
	for (uint32_t i = 0; i < SIM_PROCS; i++)
		live += s->proc[i].pid != 0;
	for (uint32_t i = 0; i < s->keeper.len; i++)
		with_process += s->keeper.inst[i].pid != 0;
	if (s->keeper.len != units || live != with_process) {
		snprintf(why, size, "%u units are wanted, the keeper has %u, %u processes live",
			 units, s->keeper.len, live);
		return false;
	}
	for (uint32_t i = 1; i < SIM_CHANGES; i++)
		if (s->store.change[i].begun != s->store.change[i].ended) {
			snprintf(why, size, "change %u began and never ended", i);
			return false;
		}
	return true;
}
