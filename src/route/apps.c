/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread's own view of apps and targets. Exchanges and connections point into
 * it and never into the routing table, so the old table is let go of in the moment
 * in which the new one is taken up. What is not in the new table any more lives
 * on, unreachable for new requests, until its last exchange ends.
 */
#include "route/route_priv.h"

static void on_drain_over(struct loop_timer *timer)
{
	struct target *g = container_of(timer, struct target, drain);

	if (!list_empty(&g->active))
		log_info("target.cut", "target=%s reason=\"its time to drain is over\"", g->name);
	exchange_cut_target(g);
}

static void on_look_again(struct loop_timer *timer)
{
	wait_look(container_of(timer, struct app, again));
}

void target_unref(struct target *g)
{
	if (--g->refs)
		return;
	ensure(list_empty(&g->active) && list_empty(&g->idle));
	loop_timer_fini(&g->t->loop, &g->drain);
	loop_timer_fini(&g->t->loop, &g->watch);
	shared_target_unref(g->shared);
	app_unref(g->app);
	free(g);
}

void app_unref(struct app *app)
{
	if (--app->refs)
		return;
	ensure(list_empty(&app->waiting));
	loop_timer_fini(&app->t->loop, &app->again);
	shared_app_unref(app->shared);
	free(app->targets);
	free(app);
}

static struct target *target_make(struct thread *t, struct shared_target *shared, struct app *app)
{
	struct target *g = util_alloc(sizeof(*g));

	g->t = t;
	g->id = shared->id;
	g->shared = shared_target_ref(shared);
	g->app = app;
	app->refs++;
	g->refs = 1;
	g->use = USE_PROBE;
	g->drain.on_time = on_drain_over;
	g->watch.on_time = stuck_on_watch;
	list_init(&g->idle);
	list_init(&g->active);
	list_init(&g->h2);
	map_put(&t->targets_by_id, g->id, g);
	return g;
}

/* What is inside may stay, may stay for a while, or must go. */
static void target_obey(struct target *g)
{
	if (g->use != USE_SERVE)
		upstream_drop_idle(g);
	if (g->use == USE_DRAIN)
		loop_timer_set(&g->t->loop, &g->drain, g->drain_until_ms);
	else
		loop_timer_stop(&g->t->loop, &g->drain);
	if (g->use == USE_FENCE)
		exchange_cut_target(g);
}

static void target_take(struct thread *t, struct target *g, const struct table_target *conf)
{
	bool moved = g->addr_len && (g->addr_len != conf->addr_len ||
				     memcmp(g->addr, conf->addr, conf->addr_len));

	if (moved)
		upstream_outdate(g);
	g->seen = t->mark;
	g->slot = conf->slot;
	g->n = shm_counts(t->r->shm, t->r->first_row + t->index, conf->slot);
	g->release = conf->release;
	g->kind = conf->kind;
	g->addr_len = conf->addr_len;
	memcpy(g->addr, conf->addr, sizeof(g->addr));
	util_copy(g->name, sizeof(g->name), table_string(t->table, conf->name));
	g->mark = near_mark(t->table->key, g->id);
	if (conf->use == USE_SERVE && g->use != USE_SERVE)
		g->serves_since_ms = t->loop.now_ms;
	g->use = conf->use;
	g->drain_until_ms = conf->drain_until_ms;
}

static struct app *app_make(struct thread *t, struct shared_app *shared, uint32_t slot)
{
	struct app *app = util_alloc(sizeof(*app));

	app->t = t;
	app->slot = slot;
	app->shared = shared_app_ref(shared);
	app->n = shm_counts(t->r->shm, t->r->first_row + t->index, slot);
	app->refs = 1;
	app->again.on_time = on_look_again;
	list_init(&app->waiting);
	map_put(&t->apps_by_slot, slot, app);
	return app;
}

static struct app *app_take(struct thread *t, struct view *v, uint32_t i)
{
	const struct table_app *conf = &table_apps(t->table)[i];
	struct app *app = map_get(&t->apps_by_slot, conf->slot);

	if (!app || app->shared != v->apps[i])
		app = app_make(t, v->apps[i], conf->slot);
	app->seen = t->mark;
	app->conf = *conf;
	app->limits = (struct hold_limits){.wait_ms = conf->hold_wait_ms,
					   .requests = conf->hold_requests,
					   .bytes = conf->hold_bytes};
	free(app->targets);
	app->targets = util_alloc(conf->target_count * sizeof(*app->targets));
	app->target_count = conf->target_count;
	return app;
}

/* Ends what is in the maps but not in the new table. */
static void forget_the_unseen(struct thread *t, struct map *old_apps, struct map *old_targets)
{
	for (size_t i = 0; i < old_targets->cap; i++) {
		struct target *g = old_targets->entries[i].value;

		if (!g || g->seen == t->mark)
			continue;
		g->use = USE_FENCE;
		target_obey(g);
		target_unref(g);
	}
	for (size_t i = 0; i < old_apps->cap; i++) {
		struct app *app = old_apps->entries[i].value;

		if (!app || app->seen == t->mark)
			continue;
		app->target_count = 0;
		app->conf.policy = 0; /* it was in the old table */
		while (!list_empty(&app->waiting)) {
			struct exchange *x =
				container_of(app->waiting.next, struct exchange, in_app);

			wait_leave(x);
			answer_own(x, 404, "the app was removed", false);
		}
		/* Clients that are slow to take an answer of ours are all that is left. The slot may
		 * get another owner before they are done. */
		atomic_store_explicit(&app->n->inflight, 0, memory_order_relaxed);
		atomic_store_explicit(&app->n->held_now, 0, memory_order_relaxed);
		app->n = &t->nowhere;
		app_unref(app);
	}
}

static void balance_room(struct thread *t, uint32_t n)
{
	if (n <= t->balance_cap)
		return;
	free(t->balance);
	t->balance_cap = n;
	t->balance = util_alloc(n * sizeof(*t->balance));
}

/* Takes a reference to v over. */
void apps_take(struct thread *t, struct view *v)
{
	struct map old_apps = t->apps_by_slot, old_targets = t->targets_by_id;
	struct view *before = t->view;
	struct listener *l;

	t->view = v;
	t->table = v->table;
	t->mark++;
	free(t->apps);
	t->app_count = t->table->app_count;
	t->apps = util_alloc(t->app_count * sizeof(*t->apps));
	t->apps_by_slot = t->targets_by_id = (struct map){0};
	for (uint32_t i = 0; i < t->app_count; i++) {
		const struct table_app *conf = &table_apps(t->table)[i];
		struct app *app;

		app = map_get(&old_apps, conf->slot);
		if (app)
			map_put(&t->apps_by_slot, conf->slot, app);
		app = t->apps[i] = app_take(t, v, i);
		balance_room(t, app->target_count);
		for (uint32_t j = 0; j < conf->target_count; j++) {
			uint32_t at = conf->first_target + j;
			struct target *g = map_get(&old_targets, v->targets[at]->id);

			if (g && g->shared == v->targets[at] && g->app == app)
				map_put(&t->targets_by_id, g->id, g);
			else
				g = target_make(t, v->targets[at], app);
			target_take(t, g, &table_targets(t->table)[at]);
			app->targets[j] = g;
		}
	}
	/* Only now, when each app knows its targets: what is cut may go to another one. */
	for (uint32_t i = 0; i < t->app_count; i++)
		for (uint32_t j = 0; j < t->apps[i]->target_count; j++)
			target_obey(t->apps[i]->targets[j]);
	forget_the_unseen(t, &old_apps, &old_targets);
	map_free(&old_apps);
	map_free(&old_targets);
	LIST_EACH (l, &t->listeners, in_thread)
		listener_obey(l);
	view_unref(before);
	for (uint32_t i = 0; i < t->app_count; i++)
		if (!list_empty(&t->apps[i]->waiting))
			wait_look(t->apps[i]);
	atomic_store(&t->n->generation, t->table->generation);
	bell_ring(t->r->controller_bell); /* what drains may be empty already */
}
