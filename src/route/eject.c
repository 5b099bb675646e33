/* SPDX-License-Identifier: Apache-2.0
 *
 * Who gets a rest, and who is back: the main thread decides (core/eject.h), on what the threads
 * counted in the numbers and noted in struct shared_target, and on what probes say. It looks each
 * second, and at once when a thread accuses a target (stuck.c) or a probe has ended.
 *
 * Targets that are alone in their app are not looked at: there is nobody to send requests to.
 */
#include "route/route_priv.h"

#define LOOK_MS 1000
#define EXCUSE_MS 250 /* one that answered a probe is not suspected anew for so long */

struct look { /* at one app */
	struct router *r;
	const struct table *t;
	const struct table_app *conf;
	struct shared_target **shared; /* of its targets */
	const struct table_target *target;
	uint32_t app;
};

static struct look look_at(struct router *r, uint32_t app)
{
	const struct table_app *conf = &table_apps(r->view->table)[app];

	return (struct look){r, r->view->table, conf, r->view->targets + conf->first_target,
			     table_targets(r->view->table) + conf->first_target, app};
}

/* Into the numbers; also what a router before this one had put there and is not so here. */
static void tell(const struct look *l, uint32_t i)
{
	struct shm_slot *slot = &l->r->shm->slot[l->target[i].slot];
	const struct eject *e = l->shared[i]->eject;
	uint64_t now = l->r->loop.now_ms;

	if (!router_speaks(l->r) || atomic_load(&slot->ejected) == e->cause)
		return;
	atomic_store(&slot->ejected_value, e->value);
	atomic_store(&slot->ejected_until_wall_ms,
		     e->until_ms > now ? clock_wall_ms() + e->until_ms - now : 0);
	atomic_store(&slot->ejected, e->cause);
}

static void publish(const struct look *l, uint32_t i)
{
	tell(l, i);
	atomic_store(&l->shared[i]->streak, 0);
	atomic_store(&l->shared[i]->suspect, 0);
	l->shared[i]->judge_ms = 0;
	atomic_store(&l->shared[i]->ejected, l->shared[i]->eject->cause);
	bell_ring(l->r->controller_bell);
}

static void put_out(const struct look *l, uint32_t i, enum eject_cause cause, uint32_t value)
{
	static const char *const names[] = {
#define X(name, lower) [EJECT_##name] = #lower,
		EJECT_CAUSE_TABLE(X)
#undef X
	};
	struct router *r = l->r;
	struct eject *e = l->shared[i]->eject;

	if (e->cause == EJECT_NO) {
		eject_begin(e, &l->conf->eject, cause, value, r->loop.now_ms);
		shm_add(&shm_counts(r->shm, r->first_row, l->target[i].slot)->ejected, 1);
		shm_add(&shm_counts(r->shm, r->first_row, l->conf->slot)->ejected, 1);
	} else {
		eject_turned_stuck(e);
	}
	log_warn("target.ejected", "target=%s cause=%s value=%u ms=%llu",
		 table_string(l->t, l->target[i].name), names[cause], value,
		 (unsigned long long)(e->until_ms > r->loop.now_ms ? e->until_ms - r->loop.now_ms : 0));
	if (cause == EJECT_STUCK)
		atomic_store(&l->shared[i]->stuck_ms, r->loop.now_ms);
	publish(l, i);
	for (uint32_t t = 0; cause == EJECT_STUCK && t < r->thread_count; t++) {
		atomic_store(&r->threads[t].move, true);
		thread_wake(&r->threads[t]);
	}
}

static void take_back(const struct look *l, uint32_t i)
{
	struct shared_target *g = l->shared[i];

	eject_end(g->eject, l->r->loop.now_ms);
	atomic_store(&g->heard_ms, l->r->loop.now_ms + EXCUSE_MS);
	atomic_store(&g->up_since_ms, l->r->loop.now_ms);
	log_info("target.back", "target=%s", table_string(l->t, l->target[i].name));
	publish(l, i);
	view_outage(l->r, l->app); /* those who wait may go there now */
}

static bool is_due(const struct router *r, const struct shared_target *g)
{
	return g->judge_ms && atomic_load(&g->suspect) && r->loop.now_ms >= g->judge_ms;
}

static void see(const struct look *l, struct eject_seen *ret)
{
	for (uint32_t i = 0; i < l->conf->target_count; i++) {
		struct shared_target *g = l->shared[i];

		if (!g->eject)
			g->eject = util_alloc(sizeof(*g->eject));
		ret[i] = (struct eject_seen){.use = l->target[i].use,
					     .health = (enum health_state)atomic_load(&g->health),
					     .e = g->eject,
					     .streak = atomic_load(&g->streak),
					     .silent = is_due(l->r, g)};
	}
}

static void judge(struct router *r, uint32_t app)
{
	struct look l = look_at(r, app);
	uint32_t n = l.conf->target_count, value = 0;

	if (n > r->seen_cap) {
		free(r->seen);
		r->seen_cap = n;
		r->seen = util_alloc(n * sizeof(*r->seen));
	}
	see(&l, r->seen);
	for (uint32_t i = 0; i < n; i++) {
		struct eject *e = l.shared[i]->eject;
		bool has_path = table_string(l.t, l.conf->health_path)[0];
		enum eject_cause cause;

		if (e->cause != EJECT_NO) {
			if (l.target[i].use != USE_SERVE ||
			    eject_over(e, MAX(l.conf->rise, 1u), has_path, r->loop.now_ms))
				take_back(&l, i);
			else if (r->seen[i].silent && e->cause != EJECT_STUCK)
				put_out(&l, i, EJECT_STUCK, 0);
			continue;
		}
		cause = eject_judge(&l.conf->eject, r->seen, n, i, r->loop.now_ms, &value);
		if (cause != EJECT_NO)
			put_out(&l, i, cause, value);
	}
}

static void count(const struct look *l, uint32_t i)
{
	struct eject_numbers sum = {0};

	if (!l->shared[i]->eject)
		l->shared[i]->eject = util_alloc(sizeof(*l->shared[i]->eject));
	for (uint32_t t = 0; t < l->r->thread_count; t++) {
		const struct shm_counts *n = shm_counts(l->r->shm, l->r->first_row + t, l->target[i].slot);

		sum.tries += shm_get(&n->requests);
		sum.failed += shm_get(&n->tries_failed);
		sum.server_errors += shm_get(&n->answered_5xx);
		sum.answers += shm_get(&n->heads);
		sum.answers_us += shm_get(&n->heads_us);
	}
	eject_count(&l->shared[i]->eject->window, &sum, MAX(l->conf->eject.window_ms, 1u),
		    l->r->loop.now_ms);
}

static void on_look(struct loop_timer *timer)
{
	struct router *r = container_of(timer, struct router, look);

	for (uint32_t app = 0; r->view && app < r->view->table->app_count; app++) {
		struct look l = look_at(r, app);

		if (l.conf->target_count < 2)
			continue;
		for (uint32_t i = 0; i < l.conf->target_count; i++) {
			count(&l, i);
			tell(&l, i);
		}
		judge(r, app);
	}
	loop_timer_set(&r->loop, timer, r->loop.now_ms + LOOK_MS);
}

/* Of one that was accused: a probe goes out, and it has as long to answer as it was silent. */
static uint64_t accused(const struct look *l, uint32_t i)
{
	struct shared_target *g = l->shared[i];
	uint32_t silent_ms = l->conf->eject.silent_ms;

	if (!silent_ms || !atomic_load(&g->suspect)) {
		g->judge_ms = 0;
		return UINT64_MAX;
	}
	if (!g->judge_ms) {
		g->judge_ms = l->r->loop.now_ms + silent_ms;
		probe_now(g);
	} else if (is_due(l->r, g)) { /* it could not be ejected: later perhaps */
		g->judge_ms = l->r->loop.now_ms + silent_ms;
	}
	return g->judge_ms;
}

static void look_at_accused(struct router *r)
{
	uint64_t soon = UINT64_MAX;

	for (uint32_t app = 0; r->view && app < r->view->table->app_count; app++) {
		struct look l = look_at(r, app);
		bool any = false;

		for (uint32_t i = 0; l.conf->target_count > 1 && i < l.conf->target_count; i++)
			any |= is_due(r, l.shared[i]) ||
			       (l.conf->eject.failures &&
				atomic_load(&l.shared[i]->streak) >= l.conf->eject.failures);
		if (any)
			judge(r, app);
		for (uint32_t i = 0; l.conf->target_count > 1 && i < l.conf->target_count; i++)
			soon = MIN(soon, accused(&l, i));
	}
	if (soon != UINT64_MAX)
		loop_timer_set(&r->loop, &r->verdict, soon);
}

static void on_verdict(struct loop_timer *timer)
{
	look_at_accused(container_of(timer, struct router, verdict));
}

void eject_accused(struct router *r)
{
	if (atomic_exchange(&r->accused, false))
		look_at_accused(r);
}

void eject_probe_done(struct router *r, struct shared_target *g, uint32_t app, bool answered, bool passed)
{
	if (answered && atomic_load(&g->suspect)) {
		atomic_store(&g->heard_ms, r->loop.now_ms + EXCUSE_MS);
		atomic_store(&g->suspect, 0);
		g->judge_ms = 0;
	}
	if (!g->eject || g->eject->cause == EJECT_NO)
		return;
	eject_probed(g->eject, g->eject->cause == EJECT_STUCK ? answered : passed);
	judge(r, app);
}

/* It was down and is up: what it did before is another process's. */
void eject_came_up(struct router *r, struct shared_target *g, uint32_t app)
{
	struct look l = look_at(r, app);

	for (uint32_t i = 0; i < l.conf->target_count; i++)
		if (l.shared[i] == g && g->eject && g->eject->cause != EJECT_NO)
			take_back(&l, i);
}

void eject_start(struct router *r)
{
	r->look.on_time = on_look;
	r->verdict.on_time = on_verdict;
	on_look(&r->look);
}
