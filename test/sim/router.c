/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of the router: takes tables whole, probes each target, lets core/balance
 * pick, and keeps the waiting room with core/hold. It looks at the room only when
 * hold_set() says so, a place became free, or there is a new table.
 */
#include "sim.h"

#include <string.h>

struct rt_target *router_target(struct sim *s, uint32_t app, uint64_t id)
{
	struct rt_app *ra = &s->router.app[app];

	for (uint32_t i = 0; i < ra->len; i++)
		if (ra->t[i].id == id)
			return &ra->t[i];
	return NULL;
}

static uint64_t stamp(struct sim *s, uint32_t serial)
{
	return ((uint64_t)s->part[P_ROUTER].epoch << 32) | serial;
}

static void bell(struct sim *s, uint32_t app)
{
	if (s->part[P_CONTROLLER].up)
		sim_at(s, s->now + 1, E_BELL, app, s->part[P_CONTROLLER].epoch, 0);
}

static void write_numbers(struct sim *s, uint32_t app, const struct rt_target *t)
{
	s->numbers.state[t->id] = t->health.state;
	s->numbers.inside[t->id] = t->outstanding;
	if (t->use == USE_DRAIN && t->outstanding == 0)
		bell(s, app);
}

/* --- tables --- */

static void probe_at(struct sim *s, uint32_t app, struct rt_target *t)
{
	sim_at(s, t->health.next_probe_ms + 1, E_PROBE, app, t->id, stamp(s, ++t->probe_serial));
}

static void add_target(struct sim *s, uint32_t app, struct rt_target *t,
		       const struct sim_target *in)
{
	uint64_t until = t->until_ms;
	enum target_use use = t->use;
	bool is_new = t->id == 0;

	t->id = in->id;
	t->use = in->use;
	t->until_ms = in->until_ms;
	if (is_new) {
		t->health.next_probe_ms = s->now;
		if (sim_mutated(s, MUTATE_UP_UNKNOWN))
			t->health.state = HEALTH_UP;
		probe_at(s, app, t);
	}
	if (t->use == USE_DRAIN && (is_new || use != USE_DRAIN || until != t->until_ms))
		sim_at(s, t->until_ms, E_DRAIN_OVER, app, t->id, stamp(s, (uint32_t)t->until_ms));
}

static void take_app(struct sim *s, uint32_t app, const struct sim_table *table)
{
	struct rt_app *ra = &s->router.app[app], old = *ra;

	ra->order = table->app[app].hold;
	ra->len = table->app[app].len;
	for (uint32_t i = 0; i < ra->len; i++) {
		const struct sim_target *in = &table->app[app].t[i];

		ra->t[i] = (struct rt_target){0};
		for (uint32_t j = 0; j < old.len; j++)
			if (old.t[j].id == in->id) {
				ra->t[i] = old.t[j];
				old.t[j].id = 0;
			}
		add_target(s, app, &ra->t[i], in);
		write_numbers(s, app, &ra->t[i]);
	}
	for (uint32_t j = 0; j < old.len; j++) { /* no longer in the table */
		if (!old.t[j].id)
			continue;
		if (old.t[j].outstanding)
			sim_broken(s, "unit %llu left the table with %u requests inside",
				   (unsigned long long)old.t[j].id, old.t[j].outstanding);
		clients_cut_target(s, app, old.t[j].id, "its target left the table");
		s->numbers.inside[old.t[j].id] = 0;
	}
}

void router_take_table(struct sim *s, uint64_t generation)
{
	const struct sim_table *t = &s->table[generation % SIM_TABLES];

	if (t->generation != generation)
		return; /* a newer one follows */
	if (generation < s->router.generation)
		sim_broken(s, "the router took table %llu after %llu",
			   (unsigned long long)generation,
			   (unsigned long long)s->router.generation);
	for (uint32_t i = 0; i < s->o.apps; i++)
		take_app(s, i, t);
	s->router.generation = s->numbers.generation = generation;
	for (uint32_t i = 0; i < s->o.apps; i++) {
		router_settle(s, i, SETTLE_MORE);
		bell(s, i);
	}
}

void router_start(struct sim *s)
{
	memset(&s->router, 0, sizeof(s->router));
	for (uint32_t i = 0; i < s->o.apps; i++)
		s->router.app[i].head = s->router.app[i].tail = SIM_NONE;
	memset(s->numbers.inside, 0, sizeof(s->numbers.inside));
	memset(s->numbers.state, 0, sizeof(s->numbers.state));
	for (uint32_t i = 0; i < s->o.apps; i++)
		s->router.app[i].since_ms = s->now;
	failure_look(s);
}

void router_died(struct sim *s)
{
	for (uint32_t i = 0; i < s->request_top; i++)
		if (s->request[i].state == R_INSIDE || s->request[i].state == R_WAITING ||
		    s->request[i].attempt)
			s->request[i].state = R_FREE, s->request[i].held = false; /* lost */
}

/* --- health --- */

void router_health(struct sim *s, uint32_t app, struct rt_target *t, enum health_event ev)
{
	const struct app *a = &s->app[app];
	bool changed;

	if (ev == HEALTH_PASSED) {
		t->passes++;
		s->last_up[t->id] = s->now;
	}
	t->passes_in_row = ev == HEALTH_PASSED ? t->passes_in_row + 1 : 0;
	t->fails_in_row = ev == HEALTH_PASSED ? 0 : t->fails_in_row + 1;
	if (t->fails_in_row >= a->fall)
		t->down = true;
	if (t->passes_in_row >= a->rise)
		t->down = false;
	if (sim_mutated(s, MUTATE_NEVER_DOWN) && ev != HEALTH_PASSED) {
		t->health.next_probe_ms = s->now + a->probe_ms;
		return;
	}
	s->numbers.looked_ms[t->id] = s->now;
	changed = health_step(&t->health, ev, a->rise, a->fall, a->probe_ms, s->now);
	if (t->health.next_probe_ms > s->now + a->probe_ms)
		sim_broken(s, "a target is not probed within its interval");
	if (!changed)
		return;
	sim_say(s, "router: unit %llu is %s", (unsigned long long)t->id,
		t->health.state == HEALTH_UP ? "up" : "down");
	*(t->health.state == HEALTH_DOWN ? &s->went_down[t->id] : &s->came_up[t->id]) = s->now;
	write_numbers(s, app, t);
	bell(s, app);
	if (t->health.state == HEALTH_UP)
		failure_came_up(s, app, t);
	router_settle(s, app, SETTLE_STATE);
}

static void probed(struct sim *s, uint32_t app, uint64_t id, enum health_event ev, bool answered)
{
	struct rt_target *t = router_target(s, app, id);

	router_health(s, app, t, ev);
	failure_probed(s, app, t, answered, ev == HEALTH_PASSED);
	probe_at(s, app, t);
}

static void probe(struct sim *s, uint32_t app, struct rt_target *t)
{
	const struct proc *p = proc_of(s, t->id);

	if (!p || !p->up)
		probed(s, app, t->id, HEALTH_REFUSED, false);
	else if (p->hung)
		sim_at(s, s->now + s->app[app].probe_timeout_ms, E_PROBE_LATE, app, t->id,
		       stamp(s, t->probe_serial));
	else
		probed(s, app, t->id, p->flapping ? HEALTH_FAILED : HEALTH_PASSED, true);
}

void router_event(struct sim *s, const struct event *e)
{
	struct rt_target *t = router_target(s, e->a, e->b);

	if (!t)
		return;
	switch ((enum event_type)e->type) {
	case E_PROBE:
		if ((uint32_t)e->c == t->probe_serial)
			probe(s, e->a, t);
		break;
	case E_PROBE_LATE:
		if ((uint32_t)e->c == t->probe_serial)
			probed(s, e->a, e->b, HEALTH_FAILED, false);
		break;
	case E_DRAIN_OVER:
		if (t->use == USE_DRAIN && (uint32_t)t->until_ms == (uint32_t)e->c) {
			clients_cut_target(s, e->a, e->b, "the drain is over");
			write_numbers(s, e->a, t);
			router_settle(s, e->a, SETTLE_FREED);
		}
		break;
	default:
		break;
	}
}

/* --- the waiting room --- */

/* q NULL: for a request that was nowhere yet. */
enum balance_verdict router_pick(struct sim *s, uint32_t app, const struct request *q,
				 uint32_t *ret)
{
	struct rt_app *ra = &s->router.app[app];
	struct balance_target t[SIM_TARGETS];

	for (uint32_t i = 0; i < ra->len; i++) {
		const struct rt_target *from = &ra->t[i];

		t[i] = (struct balance_target){.use = from->use, .health = from->health.state,
					       .outstanding = from->outstanding};
		t[i].avoid = (from->suspect || from->eject.cause != EJECT_NO) &&
			     !sim_mutated(s, MUTATE_PICK_EJECTED);
		t[i].weight = balance_weight(s->now - from->up_since_ms, s->app[app].slow_start_ms);
		if (sim_mutated(s, MUTATE_PICK_DRAIN) && t[i].use == USE_DRAIN)
			t[i].use = USE_SERVE;
		for (uint32_t j = 0; q && j < q->tried_len; j++)
			t[i].tried |= q->tried[j] == from->id;
	}
	return balance_pick(t, ra->len, sim_mutated(s, MUTATE_LIMIT) ? 0 : s->app[app].target_limit,
			    ra->turn++, ret);
}

static enum hold_reason reason_of(struct sim *s, uint32_t app)
{
	struct rt_app *ra = &s->router.app[app];
	enum balance_verdict v;
	uint32_t i;

	if (ra->order)
		return HOLD_ORDER;
	v = router_pick(s, app, NULL, &i);
	if (v == BALANCE_NONE)
		return HOLD_OUTAGE;
	if (v == BALANCE_FULL || (ra->hold.window && ra->inside >= ra->hold.window))
		return HOLD_FULL;
	return HOLD_NO;
}

static bool try_pass(struct sim *s, uint32_t i)
{
	struct request *q = &s->request[i];
	struct rt_app *ra = &s->router.app[q->app];
	uint32_t at;

	if (!hold_may_pass(&ra->hold, ra->inside) &&
	    !(sim_mutated(s, MUTATE_ROOM_RUSH) && ra->hold.reason != HOLD_ORDER &&
	      ra->hold.reason != HOLD_OUTAGE))
		return false;
	if (router_pick(s, q->app, q, &at) != BALANCE_PICKED)
		return false;
	if (ra->hold.window && ra->inside >= ra->hold.window)
		sim_broken(s, "app %u: more inside than the pace after a hold allows", q->app);
	clients_send(s, i, &ra->t[at]);
	return true;
}

void router_leave_room(struct sim *s, uint32_t i)
{
	struct request *q = &s->request[i];
	struct rt_app *ra = &s->router.app[q->app];
	uint32_t *link = &ra->head, last = SIM_NONE;

	while (*link != i) {
		last = *link;
		link = &s->request[*link].next;
	}
	*link = q->next;
	if (ra->tail == i)
		ra->tail = last;
	ra->waiting--;
	ra->waiting_bytes -= q->bytes;
}

void router_settle(struct sim *s, uint32_t app, enum settle_why why)
{
	struct rt_app *ra = &s->router.app[app];
	bool look = hold_set(&ra->hold, reason_of(s, app), s->now);

	if (!look && why == SETTLE_STATE)
		return;
	if (sim_mutated(s, MUTATE_ROOM_SLEEP) && why != SETTLE_FREED)
		return;
	while (ra->head != SIM_NONE) {
		uint32_t i = ra->head;

		if (!try_pass(s, i))
			break;
		hold_set(&ra->hold, reason_of(s, app), s->now);
	}
}

static void wait(struct sim *s, uint32_t i)
{
	struct request *q = &s->request[i];
	struct rt_app *ra = &s->router.app[q->app];
	struct hold_limits l = s->app[q->app].limits;
	enum hold_verdict v;

	if (sim_mutated(s, MUTATE_ROOM_COUNT))
		l.requests = UINT32_MAX;
	if (sim_mutated(s, MUTATE_ROOM_BYTES))
		l.bytes = UINT64_MAX;
	v = hold_admit(&ra->hold, &l, ra->waiting, ra->waiting_bytes, q->bytes, q->came_ms, s->now,
		       &q->until_ms);
	if (v != HOLD_WAIT) {
		clients_finish(s, i, v == HOLD_REFUSE_FULL ? "503: no place" : "503: too late");
		return;
	}
	if (q->until_ms > MAX(q->came_ms, ra->hold.outage_since_ms) + l.wait_ms)
		sim_broken(s, "request %u may wait longer than is allowed", q->serial);
	if (ra->hold.reason == HOLD_OUTAGE && q->until_ms > ra->hold.outage_since_ms + l.wait_ms)
		sim_broken(s, "request %u waits longer than the outage allows", q->serial);
	ra->held_now += !q->held;
	q->held = true;
	q->state = R_WAITING;
	q->next = SIM_NONE;
	if (ra->tail == SIM_NONE)
		ra->head = i;
	else
		s->request[ra->tail].next = i;
	ra->tail = i;
	ra->waiting++;
	ra->waiting_bytes += q->bytes;
	sim_at(s, q->until_ms, E_WAIT_OVER, i, q->serial, q->attempt);
}

void router_dispatch(struct sim *s, uint32_t i)
{
	uint32_t app = s->request[i].app;
	struct rt_app *ra = &s->router.app[app];

	hold_set(&ra->hold, reason_of(s, app), s->now);
	if (ra->head == SIM_NONE && try_pass(s, i)) {
		hold_set(&ra->hold, reason_of(s, app), s->now);
		return;
	}
	wait(s, i);
}
