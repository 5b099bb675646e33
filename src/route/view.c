/* SPDX-License-Identifier: Apache-2.0
 *
 * A new routing table, seen by the main thread: it is mapped and checked once,
 * the state that threads share is found (or made) for each app and target, and the
 * whole is handed to each thread. The last thread that lets go of a view unmaps
 * its table.
 *
 * A target is the same one when its id is; an app when slot and name are.
 */
#include "route/route_priv.h"

#include <sys/mman.h>
#include <sys/stat.h>

struct shared_app *shared_app_ref(struct shared_app *a)
{
	atomic_fetch_add(&a->refs, 1);
	return a;
}

void shared_app_unref(struct shared_app *a)
{
	if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
		return;
	limiter_unref(a->limiter);
	free(a);
}

void limiter_unref(struct limiter *l)
{
	if (l && atomic_fetch_sub(&l->refs, 1) == 1)
		free(l);
}

struct shared_target *shared_target_ref(struct shared_target *g)
{
	atomic_fetch_add(&g->refs, 1);
	return g;
}

void shared_target_unref(struct shared_target *g)
{
	if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
		return;
	free(g->eject);
	free(g);
}

void view_unref(struct view *v)
{
	if (!v || atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	for (uint32_t i = 0; i < v->table->app_count; i++)
		shared_app_unref(v->apps[i]);
	for (uint32_t i = 0; i < v->table->target_count; i++)
		shared_target_unref(v->targets[i]);
	for (uint32_t i = 0; i < v->table->policy_count; i++)
		limiter_unref(v->limiters[i]);
	munmap((void *)v->table, v->size);
	free(v->apps);
	free(v->targets);
	free(v->limiters);
	free(v);
}

/* Slots are indexes into the numbers, ids must be told apart: what table_check() cannot know. */
static const char *unusable(const struct table *t)
{
	CLEANUP(map_free) struct map ids = {0}, slots = {0};

	for (uint32_t i = 0; i < t->app_count + t->target_count; i++) {
		bool app = i < t->app_count;
		uint32_t slot = app ? table_apps(t)[i].slot : table_targets(t)[i - t->app_count].slot;

		if (slot >= SHM_SLOTS)
			return "a slot is out of range";
		if (map_get(&slots, slot + 1))
			return "a slot is used twice";
		map_put(&slots, slot + 1, (void *)t);
		if (app)
			continue;
		if (map_get(&ids, table_targets(t)[i - t->app_count].id))
			return "a target stands in it twice";
		map_put(&ids, table_targets(t)[i - t->app_count].id, (void *)t);
	}
	return NULL;
}

static struct view *view_map(int fd, struct err *e)
{
	struct view *v = NULL;
	const char *wrong;
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0) {
		err_sys(e, "looking at the routing table");
		return NULL;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		err_sys(e, "mapping the routing table");
		return NULL;
	}
	if (table_check(p, (size_t)st.st_size, e) < 0)
		goto refused;
	wrong = unusable(p);
	if (wrong) {
		err_set(e, ERR_CORRUPT, "the routing table cannot be used: %s", wrong);
		goto refused;
	}
	v = util_alloc(sizeof(*v));
	v->refs = 1;
	v->table = p;
	v->size = (size_t)st.st_size;
	v->apps = util_alloc(v->table->app_count * sizeof(*v->apps));
	v->targets = util_alloc(v->table->target_count * sizeof(*v->targets));
	v->limiters = util_alloc(v->table->policy_count * sizeof(*v->limiters));
	return v;
refused:
	munmap(p, (size_t)st.st_size);
	return NULL;
}

static struct shared_app *share_app(struct router *r, const struct table *t, uint32_t i)
{
	const struct table_app *conf = &table_apps(t)[i];
	struct shared_app *a = map_get(&r->apps_by_slot, conf->slot);

	if (a && !strcmp(a->name, table_string(t, conf->name)))
		return shared_app_ref(a);
	a = util_alloc(sizeof(*a));
	a->refs = 1;
	util_copy(a->name, sizeof(a->name), table_string(t, conf->name));
	return a;
}

static void share_limiter(struct view *v, uint32_t app)
{
	uint32_t policy = table_apps(v->table)[app].policy;
	struct shared_app *a = v->apps[app];
	const struct table_policy *p;
	struct bucket_rate rate;

	if (!policy || v->limiters[policy - 1])
		return;
	p = &table_policies(v->table)[policy - 1];
	if (!p->rate)
		return;
	rate = (struct bucket_rate){p->rate_requests, p->rate_ms, p->rate_burst};
	if (!a->limiter || memcmp(&a->limiter->rate, &rate, sizeof(rate))) {
		limiter_unref(a->limiter);
		a->limiter = util_alloc(sizeof(*a->limiter));
		a->limiter->refs = 1;
		a->limiter->rate = rate;
	}
	atomic_fetch_add(&a->limiter->refs, 1);
	v->limiters[policy - 1] = a->limiter;
}

/* What a router before this one found out still counts when it was good: a target that serves is
 * not thrown out because the router is new. */
static struct shared_target *share_target(struct router *r, const struct table_target *conf)
{
	struct shared_target *g = map_get(&r->targets_by_id, conf->id);
	struct shm_slot *slot = &r->shm->slot[conf->slot];

	if (g)
		return shared_target_ref(g);
	g = util_alloc(sizeof(*g));
	g->refs = 1;
	g->id = conf->id;
	g->health = HEALTH_UNKNOWN;
	if (slot->id == conf->id && slot->state == TARGET_UP)
		g->health = HEALTH_UP;
	return g;
}

static void remember(struct router *r, struct view *v)
{
	map_free(&r->apps_by_slot);
	map_free(&r->targets_by_id);
	for (uint32_t i = 0; i < v->table->app_count; i++)
		map_put(&r->apps_by_slot, table_apps(v->table)[i].slot, v->apps[i]);
	for (uint32_t i = 0; i < v->table->target_count; i++)
		map_put(&r->targets_by_id, v->targets[i]->id, v->targets[i]);
}

static bool anyone_can_serve(const struct view *v, const struct table_app *app)
{
	for (uint32_t i = app->first_target; i < app->first_target + app->target_count; i++)
		if (table_targets(v->table)[i].use == USE_SERVE &&
		    v->targets[i]->health != HEALTH_DOWN)
			return true;
	return false;
}

/* While an app is held by order there is no outage: the time of one counts from the order's end. */
void view_outage(struct router *r, uint32_t app)
{
	const struct view *v = r->view;
	const struct table_app *conf = &table_apps(v->table)[app];
	_Atomic uint64_t *since = &v->apps[app]->outage_since_ms;

	if (conf->hold || anyone_can_serve(v, conf))
		atomic_store(since, 0);
	else if (!atomic_load(since))
		atomic_store(since, r->loop.now_ms);
	for (uint32_t i = 0; i < r->thread_count; i++)
		if (!atomic_exchange(&r->threads[i].look, true))
			thread_wake(&r->threads[i]);
}

void view_take(struct router *r, int fd, uint64_t generation)
{
	struct err e = {0};
	struct view *v = view_map(fd, &e), *before = r->view;

	if (!v) {
		log_error("table.refused", "generation=%llu reason=\"%s\"",
			  (unsigned long long)generation, e.msg);
		return;
	}
	for (uint32_t i = 0; i < v->table->app_count; i++) {
		v->apps[i] = share_app(r, v->table, i);
		share_limiter(v, i);
	}
	for (uint32_t i = 0; i < v->table->target_count; i++)
		v->targets[i] = share_target(r, &table_targets(v->table)[i]);
	remember(r, v);
	r->view = v;
	probe_take(r, v);
	for (uint32_t i = 0; i < v->table->app_count; i++)
		view_outage(r, i);
	for (uint32_t i = 0; i < r->thread_count; i++) {
		atomic_fetch_add(&v->refs, 1);
		thread_command(&r->threads[i], (struct command){.type = COMMAND_TABLE, .view = v});
	}
	view_unref(before);
	log_info("table.taken", "generation=%llu apps=%u targets=%u",
		 (unsigned long long)v->table->generation, v->table->app_count,
		 v->table->target_count);
}
