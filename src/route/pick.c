/* SPDX-License-Identifier: Apache-2.0
 *
 * Which target an exchange goes to, and its place there. Places are counted over
 * all threads, so that the limit of a target is one; a request that finds none
 * waits here, where it can still go anywhere, and not in the target's own queue.
 */
#include "route/route_priv.h"

static int find_tried(const struct exchange *x, const struct target *g)
{
	for (int i = 0; i < x->tried_count; i++)
		if (x->tried[i].target == g)
			return i;
	return -1;
}

void exchange_note_tried(struct exchange *x, struct target *g, bool refused)
{
	int i = find_tried(x, g);

	if (i < 0 && x->tried_count < TRIED_MAX)
		x->tried[i = x->tried_count++].target = g;
	if (i >= 0)
		x->tried[i].refused = refused;
}

/* The target that the operator's policy wants for this request, if it can be had. Kept apart, so that a
 * request without such a wish does not save registers for it. */
__attribute__((noinline)) static bool pick_near(const struct exchange *x, struct balance_target *b, struct target **ret)
{
	const struct app *app = x->app;
	uint32_t n = app->target_count, limit = app->conf.target_limit;
	int32_t i;

	for (uint32_t j = 0; j < n; j++)
		b[j].mark = app->targets[j]->mark;
	i = x->near == NEAR_COOKIE ? near_marked(b, n, limit, x->near_key) : near_hashed(b, n, limit, x->near_key);
	if (i >= 0)
		*ret = app->targets[i];
	return i >= 0;
}

/* Requests that another router has inside the target, while one takes the other's place: the limit is the
 * target's, however many routers there are. Nothing announces that one of them ends; who waits for a
 * place looks again by itself. */
static uint32_t inside_other(const struct thread *t, const struct target *g)
{
	const struct router *r = t->r;
	uint32_t rows = r->shm->threads / SHM_BANKS, bank = !r->bank;
	uint64_t n = 0;

	if (!atomic_load_explicit(&r->shm->used[bank], memory_order_relaxed))
		return 0;
	for (uint32_t i = 0; i < r->thread_count; i++)
		n += shm_get(&shm_counts(r->shm, bank * rows + i, g->slot)->inflight);
	return (uint32_t)n;
}

static uint32_t weight_of(const struct app *app, const struct target *g)
{
	uint64_t since = atomic_load_explicit(&g->shared->up_since_ms, memory_order_relaxed);
	uint64_t now = g->t->loop.now_ms;

	since = MAX(since, g->serves_since_ms);
	return balance_weight(now > since ? now - since : 0, app->conf.slow_start_ms);
}

static enum balance_verdict pick(struct exchange *x, struct target **ret)
{
	struct app *app = x->app;
	struct balance_target *b = x->t->balance;
	enum balance_verdict v;
	uint32_t i;

	for (i = 0; i < app->target_count; i++) {
		const struct target *g = app->targets[i];

		b[i].use = g->use;
		b[i].health = (enum health_state)atomic_load_explicit(&g->shared->health,
								      memory_order_relaxed);
		b[i].outstanding = atomic_load_explicit(&g->shared->outstanding,
							memory_order_relaxed);
		if (app->conf.target_limit)
			b[i].outstanding += inside_other(x->t, g);
		b[i].avoid = target_avoided(g->shared);
		b[i].weight = app->conf.slow_start_ms ? weight_of(app, g) : 0;
		b[i].tried = x->tried_count && find_tried(x, g) >= 0;
	}
	if (x->near && pick_near(x, b, ret))
		return BALANCE_PICKED;
	v = balance_pick(b, app->target_count, app->conf.target_limit, app->turn++, &i);
	if (v == BALANCE_PICKED)
		*ret = app->targets[i];
	return v;
}

/* Takes a place at g; false when another thread was faster and it is full. */
static bool take_place(struct exchange *x, struct target *g)
{
	uint32_t limit = x->app->conf.target_limit;

	if (atomic_fetch_add(&g->shared->outstanding, 1) >= limit && limit) {
		atomic_fetch_sub(&g->shared->outstanding, 1);
		return false;
	}
	x->target = g;
	g->refs++;
	x->app->inside++;
	shm_add(&g->n->inflight, 1);
	return true;
}

void exchange_let_go(struct exchange *x, bool keep_up)
{
	struct target *g = x->target;
	struct upstream *u = x->up;

	if (u) {
		x->up = NULL;
		u->x = NULL;
		if (keep_up)
			upstream_keep(u);
		else
			upstream_close(u);
	}
	if (!g)
		return;
	stuck_dropped(x);
	x->target = NULL;
	x->app->inside -= !x->upgraded;
	shm_sub(&g->n->inflight, 1);
	if (atomic_fetch_sub(&g->shared->outstanding, 1) == 1 && g->use != USE_SERVE)
		bell_ring(x->t->r->controller_bell); /* drained */
	target_unref(g);
}

static bool nobody_listens(int error)
{
	return error == ECONNREFUSED || error == ENOENT || error == ECONNRESET;
}

void exchange_note_refused(struct exchange *x, int error)
{
	struct target *g = x->target;

	if (!nobody_listens(error))
		return;
	atomic_store(&g->shared->refused, 1);
	if (!atomic_exchange(&x->t->r->refused, true))
		bell_ring(x->t->r->main_bell);
}

void exchange_send(struct exchange *x)
{
	int error = x->app->conf.proxy ? proxied_send(x) : 0;

	if (error) {
		exchange_broke(x, -error);
		return;
	}
	x->state = X_ASK;
	x->ask.to = &x->up->conn;
	x->tries += x->tries < UINT8_MAX;
	x->sent_us = clock_us();
	shm_add(&x->target->n->requests, 1);
	if (x->tcp) {
		tcp_connected(x);
		return;
	}
	exchange_timer(x, x->app->conf.response_ms);
	exchange_run(x);
}

bool exchange_try(struct exchange *x)
{
	for (;;) {
		enum balance_verdict v;
		enum connect_result r;
		struct target *g;
		int i;

		v = pick(x, &g);
		if (v != BALANCE_PICKED)
			return false;
		i = find_tried(x, g);
		if ((i >= 0 && x->tried[i].refused) || !take_place(x, g))
			return false;
		r = upstream_get(x, g, x->fresh);
		if (r == CONNECT_OK || r == CONNECT_GOING_ON)
			break;
		if (r == CONNECT_FAILED) {
			stuck_failed(g, errno);
			exchange_note_refused(x, errno);
		}
		if (x->tried_count == TRIED_MAX) {
			exchange_let_go(x, false);
			return false;
		}
		exchange_note_tried(x, g, true);
		exchange_let_go(x, false);
	}
	wait_leave(x);
	if (x->up->connecting) {
		x->state = X_CONNECT;
		exchange_timer(x, MAX(x->app->conf.connect_ms, 1u));
	} else {
		exchange_send(x);
	}
	return true;
}

void exchange_route(struct exchange *x)
{
	struct app *app = x->app;

	wait_refresh(app);
	if (list_empty(&app->waiting) && hold_may_pass(&app->hold, app->inside) &&
	    exchange_try(x))
		return;
	wait_enter(x);
}
