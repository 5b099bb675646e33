/* SPDX-License-Identifier: Apache-2.0
 *
 * What people do and what breaks. A person whose order cannot be taken now (the
 * controller is down) tries again, as the command line does.
 */
#include "sim.h"

/* Time in which everything must have come to rest after the faults: a back-off that faults have made
 * long, and a change that is undone, with room. */
#define REST_MS 150000ul
#define LOOP_MS 1500000ul /* until a back-off has reached its ceiling, and beyond */

#define SCALE_BACK 100 /* an order to ourselves */

static uint32_t any_release(struct sim *s)
{
	return sim_chance(s, 35) ? sim_between(s, 1, SIM_GOOD) : sim_between(s, 1, SIM_RELEASES);
}

static void order(struct sim *s, uint32_t app, enum rollout_event_type type, uint32_t release)
{
	enum op_verdict v = controller_op(s, app, type, release);

	if (v == OP_LATER) {
		sim_at(s, s->now + 500, E_OPERATE, app, type + 1, release);
		return;
	}
	sim_say(s, "operator: %s of app %u to @%u: %s",
		type == ROLLOUT_DEPLOY	   ? "deploy"
		: type == ROLLOUT_ROLLBACK ? "rollback"
					   : "abort",
		app, release, v == OP_DONE ? "taken" : "refused");
	if (v == OP_REFUSED && type != ROLLOUT_DEPLOY)
		sim_broken(s, "a rollback or an abort was refused");
}

static void change_config(struct sim *s, uint32_t app)
{
	struct app *a = &s->app[app];

	if (sim_chance(s, 50)) {
		if (sim_chance(s, 50)) /* and soon back again */
			sim_at(s, s->now + sim_between(s, 20, 2000), E_OPERATE, app, SCALE_BACK,
			       a->rules.instances);
		a->rules.instances = sim_between(s, 1, SIM_SLOTS);
		sim_say(s, "operator: app %u has %u instances now", app, a->rules.instances);
	} else {
		a->held = !a->held;
		sim_say(s, "operator: app %u is %s", app, a->held ? "held" : "resumed");
		s->ctl.touched[app] = true;
	}
	s->ctl.wake[app] = 0;
}

/* b: 0 anything; else the order that is tried again, plus one; c: its release */
static void operate(struct sim *s, const struct event *e)
{
	uint32_t dice = sim_between(s, 0, 99);

	if (e->b == SCALE_BACK) {
		s->app[e->a].rules.instances = (uint32_t)e->c;
		s->ctl.wake[e->a] = 0;
		return;
	}
	if (e->b > 1 || s->calm) {
		if (e->b > 1)
			order(s, e->a, (enum rollout_event_type)(e->b - 1), (uint32_t)e->c);
		return;
	}
	sim_at(s, s->now + sim_around(s, s->o.operate_ms), E_OPERATE, e->a, 0, 0);
	if (e->b == 1) /* the first of all */
		order(s, e->a, ROLLOUT_DEPLOY, 1);
	else if (dice < 45)
		order(s, e->a, ROLLOUT_DEPLOY, any_release(s));
	else if (dice < 65)
		order(s, e->a, ROLLOUT_ROLLBACK, any_release(s));
	else if (dice < 80)
		order(s, e->a, ROLLOUT_ABORT, 0);
	else
		change_config(s, e->a);
}

static void hang_part(struct sim *s, enum part_id id)
{
	struct part *p = &s->part[id];

	if (!p->up || s->now < p->hung_until)
		return;
	p->hung_until = s->now + sim_around(s, 4000);
	sim_say(s, "fault: the %s hangs for %llu ms", id ? "router" : "controller",
		(unsigned long long)(p->hung_until - s->now));
	sim_at(s, s->now + 10000, E_PART_KILL, id, p->epoch, 0);
}

static void hurt_proc(struct sim *s, bool kill)
{
	uint32_t at = sim_between(s, 0, SIM_PROCS / 8 - 1);

	for (uint32_t n = 0; n < SIM_PROCS / 8; n++) {
		struct proc *p = &s->proc[(at + n) % (SIM_PROCS / 8)];

		if (!p->pid)
			continue;
		sim_say(s, "fault: pid %u (unit %llu) %s", p->pid, (unsigned long long)p->unit,
			kill ? "is killed" : "is stopped for a while");
		if (kill)
			proc_end(s, p->pid);
		else
			proc_hang(s, p->pid, sim_around(s, 4000));
		return;
	}
}

static void fault(struct sim *s, const struct event *e)
{
	const struct options *o = &s->o;

	if (s->calm)
		return;
	if (e->a) {
		hurt_proc(s, false);
		return;
	}
	sim_at(s, s->now + sim_around(s, o->fault_ms), E_FAULT, 0, 0, 0);
	switch (sim_between(s, 0, 9)) {
	case 0:
	case 1:
		if (o->kill_controller)
			keeper_part_died(s, P_CONTROLLER);
		break;
	case 2:
		if (o->hang_controller)
			hang_part(s, P_CONTROLLER);
		break;
	case 3:
		if (o->kill_router)
			keeper_part_died(s, P_ROUTER);
		break;
	case 4:
		if (o->hang_router)
			hang_part(s, P_ROUTER);
		break;
	case 5:
	case 6:
		if (o->kill_procs)
			hurt_proc(s, true);
		break;
	case 7:
		if (!o->hang_procs)
			break;
		hurt_proc(s, false);
		/* Often not alone: what one waits for, others wait for soon. */
		for (uint32_t more = 0; more < 6 && sim_chance(s, 75); more++)
			sim_at(s, s->now + sim_between(s, 200, 3000), E_FAULT, 1, 0, 0);
		break;
	case 8:
		if (!o->disk || s->store.full)
			break;
		sim_say(s, "fault: the disk is full");
		s->store.full = true;
		sim_at(s, s->now + sim_around(s, 5000), E_DISK_OK, 0, 0, 0);
		break;
	case 9:
		if (o->keeper_restart && sim_chance(s, 30))
			keeper_restart(s);
		break;
	}
}

/* From here on nothing breaks except what the releases do by themselves. */
static void calm(struct sim *s)
{
	if (!s->o.liveness) {
		s->quiet = true;
		return;
	}
	sim_say(s, "--- the faults stop ---");
	s->calm = true;
	s->calm_at = s->now;
	s->ctl.crash_in = 0;
	s->arrive_until = s->now + 10000;
	s->store.full = s->store.reserve_open = false;
	for (uint32_t i = 0; i < SIM_PROCS; i++)
		if (s->proc[i].pid && s->proc[i].hung &&
		    !s->app[s->proc[i].app].behaviour[s->proc[i].release].hang_ms)
			proc_event_unhang(s, &s->proc[i]);
	for (uint32_t i = 0; i < s->o.apps; i++) {
		if (s->app[i].held)
			s->ctl.touched[i] = true;
		s->app[i].held = false;
		s->ctl.wake[i] = 0;
		if (s->store.app[i].r.phase == ROLLOUT_IDLE || sim_chance(s, 40))
			continue;
		order(s, i, ROLLOUT_ABORT, 0);
	}
	if (s->o.crash_loop)
		order(s, 0, ROLLOUT_ROLLBACK, SIM_RELEASES);
	sim_at(s, s->now + 1000, E_QUIET, 0, 0, 0);
}

/* What waits for a release that cannot get up goes on waiting while something better serves: the
 * way out is a rollback to one that can. */
static void rescue(struct sim *s)
{
	for (uint32_t i = 0; i < s->o.apps; i++) {
		const struct rollout *r = &s->store.app[i].r;

		/* In FINISH it waits for nothing but the end of what it has given up. */
		if (s->app[i].rescued || r->phase == ROLLOUT_IDLE || r->phase == ROLLOUT_FINISH ||
		    !r->undoing || rollout_goal(r).release <= SIM_GOOD)
			continue;
		s->app[i].rescued = true;
		check_waits_rightly(s, i);
		order(s, i, ROLLOUT_ROLLBACK, 1);
	}
}

static void rest(struct sim *s)
{
	char why[200] = "";

	if (s->o.crash_loop && s->now - s->calm_at < LOOP_MS) {
		sim_at(s, s->now + 1000, E_QUIET, 0, 0, 0);
		return;
	}
	if (check_quiet(s, why, sizeof(why))) {
		s->slowest_rest_ms = s->now - s->calm_at;
		s->quiet = true;
		return;
	}
	if (s->now - s->calm_at > REST_MS / 2)
		rescue(s);
	if (s->now - s->calm_at > REST_MS + (s->o.crash_loop ? LOOP_MS : 0))
		sim_broken(s, "not at rest %d s after the last fault: %s", (int)(REST_MS / 1000),
			   why);
	sim_at(s, s->now + 1000, E_QUIET, 0, 0, 0);
}

void operators_event(struct sim *s, const struct event *e)
{
	switch ((enum event_type)e->type) {
	case E_OPERATE:
		operate(s, e);
		break;
	case E_FAULT:
		fault(s, e);
		break;
	case E_CALM:
		calm(s);
		break;
	case E_QUIET:
		rest(s);
		break;
	default:
		s->store.full = s->store.reserve_open = false;
		break;
	}
}
