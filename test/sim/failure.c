/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of what the router does about targets that fail users though they are up: silence
 * that makes one suspected, a probe that clears it, ejection, requests that go elsewhere, the
 * retry budget. The decisions are core/silence, core/eject, core/retry and core/budget.
 */
#include "sim.h"

#define LOOK_MS 1000
#define EXCUSE_MS 250
#define STUCK_CHECK_MS 100

static uint64_t stamp(struct sim *s)
{
	return (uint64_t)s->part[P_ROUTER].epoch << 32;
}

static bool avoided(const struct rt_target *t)
{
	return t->suspect || t->eject.cause != EJECT_NO;
}

static bool others_do_well(struct sim *s, uint32_t app, const struct rt_target *t)
{
	struct rt_app *ra = &s->router.app[app];

	for (uint32_t i = 0; i < ra->len; i++) {
		const struct rt_target *o = &ra->t[i];

		if (o != t && o->use == USE_SERVE && !avoided(o) && o->health.state == HEALTH_UP &&
		    silence_does_well(&o->silence, s->app[app].eject.silent_ms, o->heard_ms, s->now))
			return true;
	}
	return false;
}

/* --- being out, and back --- */

static void back(struct sim *s, uint32_t app, struct rt_target *t)
{
	sim_say(s, "router: unit %llu is back", (unsigned long long)t->id);
	eject_end(&t->eject, s->now);
	t->heard_ms = s->now + EXCUSE_MS;
	t->up_since_ms = s->now;
	t->streak = 0;
	router_settle(s, app, SETTLE_MORE);
}

static void move(struct sim *s, uint32_t app, uint64_t id)
{
	if (sim_mutated(s, MUTATE_NO_MOVE))
		return;
	for (uint32_t i = 0; i < s->request_top; i++)
		if (s->request[i].state == R_INSIDE && s->request[i].app == app &&
		    s->request[i].target == id)
			clients_move(s, i);
}

static void out(struct sim *s, uint32_t app, struct rt_target *t, enum eject_cause cause, uint32_t value)
{
	sim_say(s, "router: unit %llu is ejected, cause %u", (unsigned long long)t->id, cause);
	if (t->eject.cause != EJECT_NO) {
		eject_turned_stuck(&t->eject);
	} else {
		eject_begin(&t->eject, &s->app[app].eject, cause, value, s->now);
		check_ejected(s, app, t);
	}
	t->suspect = false;
	t->judge_ms = 0;
	t->streak = 0;
	s->count_ejected[cause]++;
	if (cause == EJECT_STUCK) {
		t->stuck_ms = s->now;
		move(s, app, t->id);
	}
	router_settle(s, app, SETTLE_MORE);
}

static bool is_due(const struct sim *s, const struct rt_target *t)
{
	return t->judge_ms && t->suspect && s->now >= t->judge_ms;
}

static void judge(struct sim *s, uint32_t app)
{
	struct rt_app *ra = &s->router.app[app];
	struct eject_seen seen[SIM_TARGETS * 2];
	uint32_t n = ra->len, value = 0;

	for (uint32_t i = 0; i < ra->len; i++)
		seen[i] = (struct eject_seen){.use = ra->t[i].use, .health = ra->t[i].health.state,
					      .e = &ra->t[i].eject, .streak = ra->t[i].streak,
					      .silent = is_due(s, &ra->t[i])};
	for (uint32_t i = 0; sim_mutated(s, MUTATE_EJECT_FLOOR) && i < SIM_TARGETS; i++)
		seen[n++] = (struct eject_seen){.use = USE_SERVE, .health = HEALTH_UP};
	for (uint32_t i = 0; i < ra->len; i++) {
		struct rt_target *t = &ra->t[i];
		enum eject_cause cause;

		if (t->eject.cause != EJECT_NO) {
			if (t->use != USE_SERVE ||
			    (eject_over(&t->eject, s->app[app].rise, true, s->now) &&
			     !sim_mutated(s, MUTATE_EJECT_EVER)))
				back(s, app, t);
			else if (seen[i].silent && t->eject.cause != EJECT_STUCK)
				out(s, app, t, EJECT_STUCK, 0);
			continue;
		}
		cause = eject_judge(&s->app[app].eject, seen, n, i, s->now, &value);
		if (cause != EJECT_NO)
			out(s, app, t, cause, value);
	}
}

void failure_look(struct sim *s)
{
	for (uint32_t app = 0; app < s->o.apps; app++) {
		for (uint32_t i = 0; i < s->router.app[app].len; i++) {
			struct rt_target *t = &s->router.app[app].t[i];

			eject_count(&t->eject.window, &t->counts, s->app[app].eject.window_ms, s->now);
		}
		judge(s, app);
	}
	sim_at(s, s->now + LOOK_MS, E_LOOK, 0, 0, stamp(s));
}

void failure_probed(struct sim *s, uint32_t app, struct rt_target *t, bool answered, bool passed)
{
	if (answered && t->suspect) {
		t->suspect = false;
		t->judge_ms = 0;
		t->heard_ms = s->now + EXCUSE_MS;
		router_settle(s, app, SETTLE_MORE);
	}
	if (t->eject.cause == EJECT_NO)
		return;
	eject_probed(&t->eject, t->eject.cause == EJECT_STUCK ? answered : passed);
	judge(s, app);
}

void failure_came_up(struct sim *s, uint32_t app, struct rt_target *t)
{
	t->up_since_ms = s->now;
	if (t->eject.cause != EJECT_NO)
		back(s, app, t);
}

/* --- silence --- */

void failure_asked(struct sim *s, uint32_t app, struct rt_target *t)
{
	t->counts.tries++;
	silence_asked(&t->silence, s->now);
	if (t->watched || !s->app[app].eject.silent_ms)
		return;
	t->watched = true;
	sim_at(s, silence_look_ms(&t->silence, s->app[app].eject.silent_ms, t->heard_ms, s->now), E_WATCH, app,
	       t->id, stamp(s));
}

void failure_answered(struct sim *s, struct rt_target *t, uint64_t us)
{
	silence_answered(&t->silence, us, s->now - us / 1000, t->stuck_ms);
	t->counts.answers++;
	t->counts.answers_us += us;
	t->heard_ms = MAX(t->heard_ms, s->now);
	t->suspect = false;
	t->streak = 0;
}

void failure_failed(struct sim *s, uint32_t app, struct rt_target *t)
{
	uint32_t most = s->app[app].eject.failures;

	t->counts.failed++;
	t->streak++;
	if (most && t->streak % most == 0)
		sim_at(s, s->now, E_ACCUSED, app, t->id, stamp(s));
}

static void suspect(struct sim *s, uint32_t app, struct rt_target *t)
{
	const struct proc *p = proc_of(s, t->id);

	if (t->use != USE_SERVE || !others_do_well(s, app, t) || sim_mutated(s, MUTATE_NO_SUSPECT))
		return;
	if (t->eject.cause == EJECT_STUCK) {
		move(s, app, t->id);
		return;
	}
	if (t->suspect)
		return;
	sim_say(s, "router: unit %llu is suspected", (unsigned long long)t->id);
	t->suspect = true;
	t->judge_ms = s->now + s->app[app].eject.silent_ms;
	sim_at(s, t->judge_ms, E_ACCUSED, app, t->id, stamp(s));
	if (p && p->up && !p->hung)
		failure_probed(s, app, t, true, !p->flapping);
	else
		router_settle(s, app, SETTLE_MORE);
}

static void watch(struct sim *s, uint32_t app, struct rt_target *t)
{
	uint32_t floor_ms = s->app[app].eject.silent_ms;
	uint64_t at = silence_look_ms(&t->silence, floor_ms, t->heard_ms, s->now);

	t->watched = t->silence.owed;
	if (!t->silence.owed)
		return;
	if (silence_suspects(&t->silence, floor_ms, t->heard_ms, s->now)) {
		at = s->now + floor_ms;
		sim_at(s, at, E_WATCH, app, t->id, stamp(s));
		suspect(s, app, t);
	} else {
		sim_at(s, at, E_WATCH, app, t->id, stamp(s));
	}
}

/* It was suspected for as long as a probe had time; or failed in a row. */
static void accused(struct sim *s, uint32_t app, struct rt_target *t)
{
	bool due = is_due(s, t);
	uint64_t id = t->id;

	judge(s, app);
	t = router_target(s, app, id);
	if (!due || !t->suspect)
		return; /* else it could not be ejected: later perhaps */
	t->judge_ms = s->now + s->app[app].eject.silent_ms;
	sim_at(s, t->judge_ms, E_ACCUSED, app, t->id, stamp(s));
}

void failure_event(struct sim *s, const struct event *e)
{
	struct rt_target *t = e->type == E_LOOK ? NULL : router_target(s, e->a, e->b);

	if (e->type == E_LOOK)
		failure_look(s);
	else if (t && e->type == E_WATCH)
		watch(s, e->a, t);
	else if (t)
		accused(s, e->a, t);
}

/* --- what must be so --- */

/* Must this request have been moved by now, if it goes on like this? */
static bool must_move(struct sim *s, const struct request *q, const struct rt_target *t)
{
	const struct rt_app *ra = &s->router.app[q->app];
	const struct proc *p = t ? proc_of(s, t->id) : NULL;
	uint32_t serving = 0, ejected = 0;
	bool good = false;

	if (!p || !p->hung || s->now < p->hung_ms + STUCK_CHECK_MS || t->use != USE_SERVE || t->health.state != HEALTH_UP || q->moved ||
	    q->died_under || q->refused || s->now < s->part[P_ROUTER].hung_until)
		return false;
	for (uint32_t i = 0; i < ra->len; i++) {
		const struct rt_target *o = &ra->t[i];
		const struct proc *op = proc_of(s, o->id);

		if (o->use != USE_SERVE)
			continue;
		serving++;
		ejected += o->eject.cause != EJECT_NO;
		good |= o != t && o->health.state == HEALTH_UP && !avoided(o) && op && op->up &&
			!op->hung && !op->flapping &&
			silence_does_well(&o->silence, s->app[q->app].eject.silent_ms, o->heard_ms,
					  s->now);
	}
	return good && (t->eject.cause != EJECT_NO || 2 * (ejected + 1) <= serving);
}

/* A GET that waits for a stuck target while another one is up: each tenth of a second that it does is
 * counted, and there must not be more of them than it takes to be sure. */
void failure_check_stuck(struct sim *s, uint32_t i)
{
	struct request *q = &s->request[i];
	struct rt_target *t = router_target(s, q->app, q->target);
	uint32_t silent_ms = s->app[q->app].eject.silent_ms;

	q->stuck = must_move(s, q, t) ? q->stuck + 1 : 0;
	if (q->stuck && q->stuck * STUCK_CHECK_MS >
				silence_limit_ms(&t->silence, silent_ms) + silent_ms + EXCUSE_MS + 2 * STUCK_CHECK_MS)
		sim_broken(s, "GET %u waits for a stuck target, unit %llu, and another one is up",
			   q->serial, (unsigned long long)t->id);
	sim_at(s, s->now + STUCK_CHECK_MS, E_STUCK_CHECK, i, q->serial, q->attempt);
}
