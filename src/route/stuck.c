/* SPDX-License-Identifier: Apache-2.0
 *
 * A target that fails users, seen by the threads that carry their requests. They only note it: what
 * is owed and since when (core/silence.h), failures in a row, when it was last heard of. They avoid
 * a target that is silent for too long by themselves, at once; the main thread probes it,
 * and gives it a rest when it deserves one (eject.c). What that one then tells is done here:
 * what was sent to a stuck target and may be asked again goes elsewhere.
 *
 *	0 ms      the process stops; its kernel still takes connections and requests
 *	250       owed for longer than usual: suspected; new requests go elsewhere, a probe goes out
 *	500       the probe has no answer either: ejected; GETs and HEADs that it owes go elsewhere
 *	...       POSTs that it owes wait on: it may execute them, now or later
 *	it runs   it answers the probe: back at once
 *
 * A request costs a few plain adds for this; the timer of a target is moved, not set, with each.
 */
#include "route/route_priv.h"

#define HEARD_GRAIN_MS 8 /* so that not every answer writes what all threads read */

static void accuse(struct thread *t)
{
	if (!atomic_exchange(&t->r->accused, true))
		bell_ring(t->r->main_bell);
}

static uint64_t heard_ms(const struct target *g)
{
	return atomic_load_explicit(&g->shared->heard_ms, memory_order_relaxed);
}

/* Somebody else is there, and is not silent as well: then it is not the app, or its database. */
static bool others_do_well(const struct target *g)
{
	const struct app *app = g->app;

	for (uint32_t i = 0; i < app->target_count; i++) {
		const struct target *o = app->targets[i];

		if (o != g && o->use == USE_SERVE && !target_avoided(o->shared) &&
		    atomic_load(&o->shared->health) == HEALTH_UP &&
		    silence_does_well(&o->silence, app->conf.eject.silent_ms, heard_ms(o),
				      g->t->loop.now_ms))
			return true;
	}
	return false;
}

static void move_from(struct target *g)
{
	struct list todo;

	if (list_empty(&g->active))
		return;
	/* Each is looked at once, whatever comes and goes meanwhile. */
	list_init(&todo);
	list_add(&g->active, &todo);
	list_del(&g->active);
	g->refs++;
	while (!list_empty(&todo)) {
		struct upstream *u = container_of(todo.next, struct upstream, in_target);

		list_del(&u->in_target);
		list_add_tail(&g->active, &u->in_target);
		exchange_move(u->x);
	}
	target_unref(g);
}

/* It is silent for too long. What was sent to one that is known to be stuck, for want of others, goes to
 * them now that they are there. */
static void suspect(struct target *g)
{
	if (g->use != USE_SERVE || !others_do_well(g))
		return;
	if (atomic_load(&g->shared->ejected) == EJECT_STUCK) {
		move_from(g);
		return;
	}
	if (atomic_exchange(&g->shared->suspect, 1))
		return;
	shm_add(&g->n->suspected, 1);
	shm_add(&g->app->n->suspected, 1);
	accuse(g->t);
}

void stuck_on_watch(struct loop_timer *timer)
{
	struct target *g = container_of(timer, struct target, watch);
	uint32_t floor_ms = g->app->conf.eject.silent_ms;
	struct thread *t = g->t;

	if (!floor_ms || !g->silence.owed)
		return; /* the next request sets it again */
	if (!silence_suspects(&g->silence, floor_ms, heard_ms(g), t->loop.now_ms)) {
		loop_timer_set(&t->loop, timer,
			       silence_look_ms(&g->silence, floor_ms, heard_ms(g), t->loop.now_ms));
		return;
	}
	loop_timer_set(&t->loop, timer, t->loop.now_ms + floor_ms);
	suspect(g);
}

void stuck_asked(struct exchange *x)
{
	struct target *g = x->target;
	uint32_t floor_ms = x->app->conf.eject.silent_ms;

	x->owed = true;
	silence_asked(&g->silence, x->t->loop.now_ms);
	if (floor_ms && !g->watch.armed && g->app->target_count > 1)
		loop_timer_set(&x->t->loop, &g->watch,
			       silence_look_ms(&g->silence, floor_ms, heard_ms(g), x->t->loop.now_ms));
}

void stuck_heard(struct target *g)
{
	uint64_t now = g->t->loop.now_ms;

	if (heard_ms(g) + HEARD_GRAIN_MS <= now)
		atomic_store_explicit(&g->shared->heard_ms, now, memory_order_relaxed);
	if (atomic_load_explicit(&g->shared->suspect, memory_order_relaxed))
		atomic_store(&g->shared->suspect, 0);
}

void stuck_did_well(struct target *g)
{
	if (atomic_load_explicit(&g->shared->streak, memory_order_relaxed))
		atomic_store(&g->shared->streak, 0);
}

void stuck_answered(struct exchange *x)
{
	struct target *g = x->target;

	shm_add(&g->n->heads, 1);
	shm_add(&g->n->heads_us, x->target_us);
	if (x->owed)
		silence_answered(&g->silence, x->target_us, x->sent_us / 1000,
				 atomic_load_explicit(&g->shared->stuck_ms, memory_order_relaxed));
	x->owed = false;
	stuck_did_well(g);
}

void stuck_dropped(struct exchange *x)
{
	if (x->owed)
		silence_dropped(&x->target->silence);
	x->owed = false;
}

/* What is scarce here says nothing of the target. */
static bool is_ours(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
	       error == EADDRNOTAVAIL;
}

void stuck_failed(struct target *g, int error)
{
	uint32_t most = g->app->conf.eject.failures;
	uint32_t streak;

	if (is_ours(error))
		return;
	shm_add(&g->n->tries_failed, 1);
	streak = atomic_fetch_add(&g->shared->streak, 1) + 1;
	if (most && streak % most == 0 && g->app->target_count > 1)
		accuse(g->t);
}

void stuck_move(struct thread *t)
{
	for (uint32_t i = 0; i < t->app_count; i++)
		for (uint32_t j = 0; j < t->apps[i]->target_count; j++)
			if (atomic_load(&t->apps[i]->targets[j]->shared->ejected) == EJECT_STUCK)
				move_from(t->apps[i]->targets[j]);
}
