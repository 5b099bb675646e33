/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests come whether or not earlier ones were answered. One that was written to
 * a process is executed when the process reads it, whatever the router thinks
 * of it meanwhile; that is what makes a second sending of a POST dangerous.
 *
 * How a broken target shows itself follows what was measured: a unix socket with
 * unread input says ECONNRESET; a process that had read all of it, end of stream; TCP
 * says ECONNRESET in both cases; a request too large for one write may have been
 * executed before its rest was written, and that write says EPIPE.
 */
#include "sim.h"

#include <errno.h>
#include <string.h>

static struct request *request(struct sim *s, const struct event *e)
{
	struct request *q = &s->request[e->a];

	return q->state != R_FREE && q->serial == (uint32_t)e->b ? q : NULL;
}

static void arrive(struct sim *s, uint32_t app)
{
	struct request *q;
	uint32_t i = 0;

	if (!s->calm || s->now < s->arrive_until)
		sim_at(s, s->now + sim_around(s, s->app[app].arrive_ms), E_ARRIVE, app, 0, 0);
	while (i < SIM_REQUESTS && s->request[i].state != R_FREE)
		i++;
	if (i == SIM_REQUESTS || s->next_serial == SIM_SERIALS)
		return;
	s->request_top = MAX(s->request_top, i + 1);
	q = &s->request[i];
	*q = (struct request){.state = R_RETRYING,
			      .app = app,
			      .serial = s->next_serial++,
			      .came_ms = s->now,
			      .next = SIM_NONE,
			      .post = sim_chance(s, 40),
			      .bytes = sim_chance(s, 65) ? sim_between(s, 100, 4096)
							 : sim_between(s, 4097, 60000)};
	s->count_requests++;
	s->router.app[app].requests++;
	if (q->post)
		s->post[q->serial / 64] |= 1ull << (q->serial % 64);
	sim_at(s, s->now, E_RETRY, i, q->serial, 0);
	if (sim_chance(s, 30))
		sim_at(s, s->now + sim_around(s, 2000), E_LEAVE, i, q->serial, 0);
}

/* The target has one request less. */
static void leave_target(struct sim *s, uint32_t i, bool answered)
{
	struct request *q = &s->request[i];
	struct rt_app *ra = &s->router.app[q->app];
	struct rt_target *t = router_target(s, q->app, q->target);

	ra->inside--;
	if (t)
		t->outstanding--;
	if (t)
		s->numbers.inside[t->id] = t->outstanding;
	if (t && answered)
		failure_answered(s, t, (s->now - q->sent_ms) * 1000);
	else if (t)
		silence_dropped(&t->silence);
	if (answered)
		hold_answered(&ra->hold);
}

void clients_finish(struct sim *s, uint32_t i, const char *how)
{
	struct request *q = &s->request[i];

	if (s->trace && strcmp(how, "answered") != 0)
		sim_say(s, "request %u of app %u after %llu ms: %s", q->serial, q->app,
			(unsigned long long)(s->now - q->came_ms), how);
	s->router.app[q->app].held_now -= q->held;
	q->held = false;
	q->state = R_FREE;
}

/* May it be sent a second time, now that the facts allow it? */
static bool within_budget(struct sim *s, struct request *q, enum retry_verdict v)
{
	struct rt_app *ra = &s->router.app[q->app];
	const struct app *a = &s->app[q->app];

	if (v != RETRY_SAFE && v != RETRY_MOVED)
		return true;
	if (!budget_take(&ra->budget, a->retry_share, a->retry_least, ra->requests, s->now) &&
	    !sim_mutated(s, MUTATE_NO_BUDGET)) {
		s->count_refused++;
		q->refused = true;
		return false;
	}
	ra->retried++;
	check_retried(s, q->app);
	return true;
}

static void note_tried(struct request *q)
{
	if (q->tried_len < ARRAY_LEN(q->tried))
		q->tried[q->tried_len++] = q->target;
}

static void try_again(struct sim *s, uint32_t i)
{
	struct request *q = &s->request[i];

	note_tried(q);
	q->state = R_RETRYING;
	q->attempt++;
	sim_at(s, s->now + 1, E_RETRY, i, q->serial, q->attempt);
}

void clients_move(struct sim *s, uint32_t i)
{
	struct request *q = &s->request[i];
	struct retry_facts f = {
	    .safe_method = !q->post || sim_mutated(s, MUTATE_MOVE_POST),
	    .replayable = true,
	    .written = q->bytes,
	    .writes = q->writes,
	    .all_written = true,
	    .stuck = true,
	    .moved = q->moved,
	    .died_under = q->died_under + 1,
	};
	enum retry_verdict v = retry_decide(&f);

	if (v == RETRY_NO || !within_budget(s, q, v))
		return;
	sim_say(s, "request %u goes elsewhere", q->serial);
	s->count_moved++;
	q->died_under++;
	q->moved = true;
	if (++q->moves > 1)
		sim_broken(s, "request %u was moved twice", q->serial);
	leave_target(s, i, false);
	try_again(s, i);
	router_settle(s, q->app, SETTLE_FREED);
}

static enum retry_verdict decide(struct sim *s, const struct request *q, struct retry_facts f)
{
	enum retry_verdict v = retry_decide(&f);

	if (sim_mutated(s, MUTATE_RETRY_SENT) && f.died_under < 2)
		v = RETRY_SAFE;
	if (sim_mutated(s, MUTATE_RETRY_EPIPE) && f.error == EPIPE)
		v = RETRY_UNREAD;
	if (sim_mutated(s, MUTATE_RETRY_BIG) && f.error == ECONNRESET && f.is_unix)
		v = RETRY_UNREAD;
	if (sim_mutated(s, MUTATE_RETRY_LATE) && f.error == ETIMEDOUT)
		v = RETRY_SAFE;
	if (v == RETRY_NO && f.written == 0)
		sim_broken(s, "a request of which nothing was written was given up");
	if (v != RETRY_NO && q->read && f.written && f.died_under >= 2)
		sim_broken(s, "a request was sent on after two targets had died under it");
	if (!q->post && v == RETRY_NO && f.error != ETIMEDOUT && !f.answer_begun &&
	    f.died_under < 2)
		sim_broken(s, "a GET without an answer was not tried once more");
	return v;
}

/* The target broke under it, or never took it. */
static void broke(struct sim *s, uint32_t i, uint64_t written, int error)
{
	struct request *q = &s->request[i];
	struct rt_target *t = router_target(s, q->app, q->target);
	struct retry_facts f = {
	    .is_unix = s->app[q->app].is_unix,
	    .unread_counts = s->app[q->app].unread_counts,
	    .safe_method = !q->post,
	    .replayable = true,
	    .written = written,
	    .writes = written ? q->writes : 0,
	    .all_written = written == q->bytes,
	    .error = error,
	};

	enum retry_verdict v;

	if (t)
		failure_failed(s, q->app, t);
	if (written)
		q->died_under++;
	f.died_under = q->died_under;
	v = decide(s, q, f);
	if (v == RETRY_NO || !within_budget(s, q, v))
		clients_finish(s, i, "502: its target broke");
	else
		try_again(s, i);
}

void clients_send(struct sim *s, uint32_t i, struct rt_target *t)
{
	struct request *q = &s->request[i];
	struct rt_app *ra = &s->router.app[q->app];
	const struct proc *p = proc_of(s, t->id);

	check_send(s, q, t);
	if (q->state == R_WAITING)
		router_leave_room(s, i);
	q->target = t->id;
	q->attempt++;
	if (!p || !p->up) {
		broke(s, i, 0, ECONNREFUSED);
		router_health(s, q->app, t, HEALTH_REFUSED);
		if (t->health.next_probe_ms <= s->now)
			sim_at(s, s->now + 1, E_PROBE, q->app, t->id,
			       ((uint64_t)s->part[P_ROUTER].epoch << 32) | ++t->probe_serial);
		return;
	}
	q->state = R_INSIDE;
	q->pid = p->pid;
	q->read = false;
	q->writes = q->bytes > 4096 ? 2 : 1;
	q->sent_ms = s->now;
	q->stuck = 0;
	ra->inside++;
	failure_asked(s, q->app, t);
	if (!q->post && s->app[q->app].eject.silent_ms)
		sim_at(s, s->now, E_STUCK_CHECK, i, q->serial, q->attempt);
	t->outstanding++;
	s->numbers.inside[t->id] = t->outstanding;
	sim_at(s, s->now + sim_between(s, 0, 3), E_READ, i, q->serial,
	       ((uint64_t)q->pid << 32) | q->attempt);
	sim_at(s, s->now + s->app[q->app].response_ms, E_TIMEOUT, i, q->serial, q->attempt);
}

/* The process reads and executes it, even when nobody waits for the answer any more. */
static void reads(struct sim *s, const struct event *e)
{
	struct proc *p = proc_find(s, (uint32_t)(e->c >> 32));
	struct request *q = request(s, e);
	bool awaited = q && q->attempt == (uint32_t)e->c && q->state == R_INSIDE;

	if (!p)
		return;
	if (p->hung) {
		sim_at(s, s->now + 50, E_READ, e->a, e->b, e->c);
		return;
	}
	if (s->post[e->b / 64] >> (e->b % 64) & 1 && s->executed[e->b]++)
		sim_broken(s, "POST %llu was executed twice", (unsigned long long)e->b);
	if (!awaited)
		return;
	q->read = true;
	sim_at(s, s->now + sim_around(s, s->app[p->app].behaviour[p->release].service_ms), E_ANSWER,
	       e->a, e->b, e->c);
}

/* The kernel tells the router, when it next looks. */
void clients_proc_died(struct sim *s, const struct proc *p)
{
	for (uint32_t i = 0; i < s->request_top; i++) {
		const struct request *q = &s->request[i];
		uint64_t error = 0, all = 1;

		if (q->state != R_INSIDE || q->pid != p->pid)
			continue;
		if (!q->read || !s->app[q->app].is_unix)
			error = ECONNRESET;
		if (q->writes == 2 && sim_chance(s, 50)) { /* it died between the two */
			error = sim_chance(s, 50) ? EPIPE : ECONNRESET;
			all = 0;
		}
		sim_at(s, s->now, E_BROKE, i, q->serial, all << 48 | error << 32 | q->attempt);
	}
}

static void target_broke(struct sim *s, uint32_t i, struct request *q, uint64_t what)
{
	uint64_t written = what >> 48 ? q->bytes : 4096;

	if (written != q->bytes)
		q->writes = 1;
	leave_target(s, i, false);
	broke(s, i, written, (int)(what >> 32 & 0xffff));
	router_settle(s, q->app, SETTLE_FREED);
}

void clients_cut_target(struct sim *s, uint32_t app, uint64_t target, const char *how)
{
	for (uint32_t i = 0; i < s->request_top; i++) {
		struct request *q = &s->request[i];

		if (q->state != R_INSIDE || q->app != app || q->target != target)
			continue;
		leave_target(s, i, false);
		clients_finish(s, i, how);
	}
}

static void answered(struct sim *s, uint32_t i, struct request *q)
{
	leave_target(s, i, true);
	clients_finish(s, i, "answered");
	router_settle(s, q->app, SETTLE_FREED);
}

static void timed_out(struct sim *s, uint32_t i, struct request *q)
{
	leave_target(s, i, false);
	broke(s, i, q->bytes, ETIMEDOUT);
	router_settle(s, q->app, SETTLE_FREED);
}

static void left(struct sim *s, uint32_t i, struct request *q)
{
	uint32_t app = q->app;

	if (q->state == R_INSIDE)
		leave_target(s, i, false);
	else if (q->state == R_WAITING)
		router_leave_room(s, i);
	if (q->state == R_WAITING && sim_mutated(s, MUTATE_ROOM_LEAK))
		s->router.app[app].waiting++;
	clients_finish(s, i, "the client left");
	router_settle(s, app, SETTLE_FREED);
}

static bool is_hung(struct sim *s, const struct request *q)
{
	const struct proc *p = proc_find(s, q->pid);

	return p && p->hung;
}

void clients_event(struct sim *s, const struct event *e)
{
	struct request *q;

	if (e->type == E_ARRIVE) {
		arrive(s, e->a);
		return;
	}
	if (e->type == E_READ) {
		reads(s, e);
		return;
	}
	q = request(s, e);
	if (!q || (e->type != E_LEAVE && q->attempt != (uint32_t)e->c))
		return;
	if (e->type == E_LEAVE)
		left(s, e->a, q);
	else if (e->type == E_ANSWER && q->state == R_INSIDE && is_hung(s, q))
		sim_at(s, s->now + 50, e->type, e->a, e->b, e->c);
	else if (e->type == E_ANSWER && q->state == R_INSIDE)
		answered(s, e->a, q);
	else if (e->type == E_STUCK_CHECK && q->state == R_INSIDE)
		failure_check_stuck(s, e->a);
	else if (e->type == E_TIMEOUT && q->state == R_INSIDE)
		timed_out(s, e->a, q);
	else if (e->type == E_BROKE && q->state == R_INSIDE)
		target_broke(s, e->a, q, e->c);
	else if (e->type == E_RETRY && q->state == R_RETRYING)
		router_dispatch(s, e->a);
	else if (e->type == E_WAIT_OVER && q->state == R_WAITING &&
		 !sim_mutated(s, MUTATE_ROOM_TIME)) {
		router_leave_room(s, e->a);
		clients_finish(s, e->a, "503: waited as long as is allowed");
		router_settle(s, q->app, SETTLE_FREED); /* the next may go where it could not */
	}
}
