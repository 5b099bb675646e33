/* SPDX-License-Identifier: Apache-2.0
 *
 * The waiting room. Each thread has its own queue for each app, first come first
 * served; the bounds are the app's, over all threads. A request leaves when it is
 * its turn and someone can take it, when its time is over, or when its client goes.
 *
 * Who looks: the thread itself when one of its requests ends; all threads when
 * health or the table changed, or a place became free at a target with a limit;
 * and, unless the app is held or out, a timer: nothing announces that a backlog has room,
 * that a refusal was a passing one, or that an answer which goes on for long has begun.
 */
#include "route/route_priv.h"

void wait_refresh(struct app *app)
{
	uint64_t since = atomic_load_explicit(&app->shared->outage_since_ms, memory_order_relaxed);

	if (app->conf.hold) {
		hold_set(&app->hold, HOLD_ORDER, app->t->loop.now_ms);
	} else if (!since) {
		hold_set(&app->hold, HOLD_NO, app->t->loop.now_ms);
	} else {
		hold_set(&app->hold, HOLD_OUTAGE, since);
		app->hold.outage_since_ms = since;
	}
}

static void look_soon(struct app *app)
{
	/* An order and an outage end with a word from the main thread. */
	if (app->hold.reason != HOLD_NO || list_empty(&app->waiting))
		return;
	app->again_ms = MIN(MAX(app->again_ms * 2, WAIT_FIRST_MS), WAIT_MOST_MS);
	if (!app->again.armed)
		loop_timer_set(&app->t->loop, &app->again, app->t->loop.now_ms + app->again_ms);
}

static void queue(struct exchange *x)
{
	struct app *app = x->app;
	uint32_t index = x->t->index;

	x->state = X_WAIT;
	x->waiting = true;
	x->wait_since_us = clock_us();
	if (list_empty(&app->waiting))
		list_add_tail(&x->t->waiting_apps, &app->in_waiting);
	list_add_tail(&app->waiting, &x->in_app);
	app->waiting_count++;
	atomic_store(&app->shared->waiters[index], app->waiting_count);
	shm_add(&app->n->waiting, 1);
	shm_add(&app->n->waiting_bytes, x->wait_bytes);
	loop_timer_set(&x->t->loop, &x->timer,
		       x->limit_ms ? MIN(x->until_ms, x->limit_ms) : x->until_ms);
}

static void leave_room(struct exchange *x)
{
	atomic_fetch_sub(&x->app->shared->waiting, 1);
	atomic_fetch_sub(&x->app->shared->waiting_bytes, x->wait_bytes);
}

void wait_enter(struct exchange *x)
{
	struct app *app = x->app;
	const struct buffer *in = x->client->conn.in;
	enum hold_verdict v;
	uint32_t others;
	uint64_t bytes;

	x->wait_bytes = (x->req ? x->req->len : 0) + (in ? in->len : 0);
	others = atomic_fetch_add(&app->shared->waiting, 1);
	bytes = atomic_fetch_add(&app->shared->waiting_bytes, x->wait_bytes);
	v = hold_admit(&app->hold, &app->limits, others, bytes, x->wait_bytes, x->came_ms,
		       x->t->loop.now_ms, &x->until_ms);
	if (v == HOLD_WAIT) {
		if (!x->waited) {
			shm_add(&app->n->held, 1);
			shm_add(&app->n->held_now, 1);
		}
		x->waited = true;
		queue(x);
		look_soon(app);
		return;
	}
	leave_room(x);
	shm_add(v == HOLD_REFUSE_FULL ? &app->n->failed_503_full : &app->n->failed_503_waited, 1);
	answer_own(x, 503,
		   v == HOLD_REFUSE_FULL ? "the app is busy and its waiting room is full"
					 : "the app cannot take requests at the moment",
		   false);
}

/* Harmless when x does not wait. */
void wait_leave(struct exchange *x)
{
	struct app *app = x->app;

	if (!x->waiting)
		return;
	x->waiting = false;
	x->wait_us += clock_us() - x->wait_since_us;
	leave_room(x);
	list_del(&x->in_app);
	app->waiting_count--;
	atomic_store(&app->shared->waiters[x->t->index], app->waiting_count);
	shm_sub(&app->n->waiting, 1);
	shm_sub(&app->n->waiting_bytes, x->wait_bytes);
	loop_timer_stop(&x->t->loop, &x->timer);
	if (list_empty(&app->waiting)) {
		list_del(&app->in_waiting);
		app->again_ms = 0;
	}
}

/* What refused it may have come back while it waited. */
static void forget_refusals(struct exchange *x)
{
	uint8_t kept = 0;

	for (uint8_t i = 0; i < x->tried_count; i++)
		if (!x->tried[i].refused)
			x->tried[kept++] = x->tried[i];
	x->tried_count = kept;
}

void wait_look(struct app *app)
{
	if (app->looking)
		return;
	app->looking = true;
	app->refs++;
	wait_refresh(app);
	/* Bounded: one that comes back is not looked at twice in a turn. */
	for (uint32_t n = app->waiting_count; n && !list_empty(&app->waiting); n--) {
		struct exchange *x = container_of(app->waiting.next, struct exchange, in_app);

		if (!hold_may_pass(&app->hold, app->inside))
			break;
		forget_refusals(x);
		if (!exchange_try(x))
			break;
	}
	look_soon(app);
	app->looking = false;
	app_unref(app);
}

void wait_freed(struct app *app)
{
	struct thread *t = app->t;

	if (!list_empty(&app->waiting))
		wait_look(app);
	if (!app->conf.target_limit || atomic_load_explicit(&app->shared->waiting,
							    memory_order_relaxed) <=
					       app->waiting_count)
		return;
	for (uint32_t i = 0; i < t->r->thread_count; i++) {
		if (i == t->index || !atomic_load(&app->shared->waiters[i]))
			continue;
		if (!atomic_exchange(&t->r->threads[i].look, true))
			thread_wake(&t->r->threads[i]);
	}
}
