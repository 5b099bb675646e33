/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole of the apps: loading, taking up a configuration, and what the keeper and the router
 * tell.
 */
#include "ship/ship.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"

#define REFUSED_MS 1000ull
#define REFUSED_MAX_MS 300000ull

static void on_turn(struct loop_timer *t)
{
	struct ship *s = container_of(t, struct ship, turn);

	if (s->synced)
		msg_channel_read(s->keeper); /* once for all apps: there may be thousands */
	ship_turn(s);
}

static void on_retry(struct loop_timer *t)
{
	struct ship *s = container_of(t, struct ship, retry);
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link)
		ship_app_look(a);
	ship_table_dirty(s);
}

struct load {
	struct ship *s;
	struct err *e;
	int r;
};

static bool load_app(void *arg, const char *key, json_t *value)
{
	struct load *l = arg;
	struct ship_app *a = ship_app_create(l->s, key + strlen("app/"));

	l->r = ship_app_load(a, value, l->e);
	return l->r == 0;
}

/* Is the keeper another one than when the state was saved? Then nothing runs any more. */
static bool new_world(struct ship *s, uint64_t saved)
{
	uint64_t world = shm_get(&s->shm->world);

	if (world && world == saved)
		return false;
	if (!world) {
		while (!world) {
			ensure(getrandom(&world, sizeof(world), 0) == sizeof(world));
			world >>= 1; /* JSON's integers have a sign */
		}
		atomic_store(&s->shm->world, world);
	}
	return true;
}

static int start_afresh(struct ship *s, struct err *e)
{
	static const struct rollout_event booted = {.type = ROLLOUT_BOOTED};
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link) {
		if (a->change && !a->change->ended_ms) /* its numbers went with the old keeper */
			memset(&a->change->base, 0, sizeof(a->change->base));
		if (ship_app_step(a, &booted, e) < 0)
			return -(int)e->code;
		if (a->change && !a->change->ended_ms)
			ship_change_fail(a, "failed", "Upstate itself was restarted meanwhile");
	}
	return 0;
}

/* Hashes that clients see (cookies), and where a client's requests go, stay the same for ever. Losing
 * it costs users their place, no more: so it is no error. */
static void open_key(struct ship *s)
{
	CLEANUP(json_decrefp) json_t *saved = NULL;
	struct err e;
	json_int_t a, b;

	if (state_get(s->state, "key", &saved, &e) == 0 && saved &&
	    json_unpack(saved, "[I, I]", &a, &b) == 0) {
		s->key[0] = (uint64_t)a;
		s->key[1] = (uint64_t)b;
		return;
	}
	ensure(getrandom(s->key, sizeof(s->key), 0) == sizeof(s->key));
	json_decref(saved);
	saved = json_pack("[I, I]", (json_int_t)s->key[0], (json_int_t)s->key[1]);
	if (state_put(s->state, "key", saved, &e) < 0)
		log_warn("key", "reason=\"%s\"", e.msg);
}

int ship_open(struct ship *s, struct err *e)
{
	CLEANUP(json_decrefp) json_t *numbers = NULL;
	struct load l = {s, e, 0};
	json_int_t next_unit = 1, next_change = 1, generation = 0, world = 0;

	s->turn.on_time = on_turn;
	s->retry.on_time = on_retry;
	list_init(&s->apps);
	list_init(&s->leaving);
	if (state_get(s->state, "numbers", &numbers, e) < 0)
		return -(int)e->code;
	if (numbers && json_unpack(numbers, "{s:I, s:I, s:I, s:I}", "next_unit", &next_unit, "next_change",
				   &next_change, "generation", &generation, "world", &world) < 0)
		return err_set(e, ERR_CORRUPT, "the saved numbers cannot be read");
	open_key(s);
	s->lookup.fd = -1;
	if (state_get(s->state, "addresses", &s->addresses, e) < 0)
		return -(int)e->code;
	s->next_unit = (uint64_t)next_unit;
	s->next_change = (uint64_t)next_change;
	s->saved_generation = (uint64_t)generation;
	s->generation = MAX(s->saved_generation, ship_applied(s));
	if (state_each(s->state, "app/", load_app, &l, e) < 0 || l.r < 0)
		return -(int)e->code;
	if (new_world(s, (uint64_t)world)) {
		s->generation = 0;
		if (start_afresh(s, e) < 0)
			return -(int)e->code;
		s->world = shm_get(&s->shm->world); /* saved last: it says that all apps know */
		return ship_numbers_save(s, e);
	}
	s->resumed = true;
	s->world = (uint64_t)world;
	return 0;
}

/* A stable user for each app, when there is a choice: none is given to another app ever. */
static uint32_t next_uid(const struct ship *s)
{
	uint32_t uid = SHIP_UID_BASE;
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link)
		if (a->uid != (uint32_t)-1)
			uid = MAX(uid, a->uid + 1);
	return uid;
}

struct ship_app *ship_find(struct ship *s, const char *name)
{
	struct ship_app *a = map_get(&s->by_name, map_hash(name, strlen(name)));

	return a && strcmp(a->name, name) == 0 ? a : NULL;
}

int ship_find_or_list(struct ship *s, const char *name, struct ship_app **ret, struct err *e)
{
	struct ship_app *a = ship_find(s, name);
	char known[400] = "";
	size_t n = 0;

	if (a && a->conf) {
		*ret = a;
		return 0;
	}
	LIST_EACH (a, &s->apps, link)
		if (a->conf && n < sizeof(known))
			n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "",
					      a->name);
	return err_set(e, ERR_NOT_FOUND, "there is no app '%s'; apps: %s", name,
		       known[0] ? known : "none is configured");
}

/* An app that is not configured and runs nothing has no place in the numbers. */
static void keep_slot(struct ship_app *a)
{
	bool wanted = a->conf || a->rollout.unit_count;

	if (wanted && !a->has_slot)
		a->shm_slot = ship_slot(a->ship, a->id);
	else if (!wanted && a->has_slot)
		ship_slot_leave(a->ship, a->id);
	a->has_slot = wanted;
}

int ship_configure(struct ship *s, const struct conf *c, json_t *ret_changed, struct err *e)
{
	struct ship_app *a;
	uint32_t uids = 0, uid;

	LIST_EACH (a, &s->apps, link)
		if (a->conf && !conf_app(c, a->name) &&
		    (a->rollout.phase != ROLLOUT_IDLE || (a->change && !a->change->ended_ms)))
			return err_set(e, ERR_REFUSED,
				       "app '%s' is no longer in the file, but a change of it is going "
				       "on: wait, or `upstate abort %s` first",
				       a->name, a->name);
	for (uint32_t i = 0; i < c->app_count; i++)
		uids += !ship_find(s, c->apps[i].name);
	if (s->root && next_uid(s) + uids > SHIP_UID_BASE + SHIP_UIDS)
		return err_set(e, ERR_LIMIT, "there are no %u users left for new apps: %u had one so far", uids,
			       next_uid(s) - SHIP_UID_BASE);
	for (uint32_t i = 0; i < c->app_count; i++)
		if (!ship_find(s, c->apps[i].name))
			ship_app_create(s, c->apps[i].name);
	uid = next_uid(s);
	LIST_EACH (a, &s->apps, link) {
		const struct conf_app *now = conf_app(c, a->name);

		if ((a->conf || now) && conf_app_differs(a->conf, now) && ret_changed)
			json_array_append_new(ret_changed, json_string(a->name));
		a->conf = now;
		if (now && s->root && a->uid == (uint32_t)-1)
			a->uid = uid++;
		a->settings_due = true;
		keep_slot(a);
		ship_targets_configure(a);
		ship_app_look(a);
	}
	s->conf = c;
	ship_lookup_begin(s);
	ship_table_dirty(s);
	return 0;
}

/* A controller that died between saving that a release bakes and sending the table in which it serves
 * left nothing that baked: its time begins now. */
static void bake_anew(struct ship *s, struct ship_app *a)
{
	struct rollout_rules rules;

	if (a->rollout.phase != ROLLOUT_BAKE || ship_applied(s) > s->saved_generation)
		return;
	ship_rules(a, &rules);
	a->rollout.until_ms = MAX(a->rollout.until_ms, s->loop->now_ms + rules.bake_ms);
}

/* Instances that no app knows of (their record was lost) are ended. */
void ship_synced(struct ship *s)
{
	struct ship_app *a;

	s->synced = true;
	ship_slots_reclaim(s);
	LIST_EACH (a, &s->apps, link) {
		bake_anew(s, a);
		ship_units_sync(a);
		if (a->change && a->change->staging && !a->change->ended_ms && a->stage_pipe < 0) {
			struct err e;

			if (!a->conf)
				ship_change_fail(a, "failed", "the app is no longer configured");
			else if (ship_stage_begin(a, &e) < 0)
				ship_change_fail(a, "failed", e.msg);
		} else if (a->change && !a->change->ended_ms && a->rollout.phase == ROLLOUT_IDLE) {
			ship_change_fail(a, "failed", "it had not begun when the controller ended");
		}
		ship_app_look(a);
	}
	ship_table_dirty(s);
}

/* The keeper could not start it at all (no room, no disk): again, after a pause that grows. A rollout
 * that can turn round does so first. */
static void start_refused(struct ship_unit *x)
{
	struct loop *loop = x->app->ship->loop;

	x->ordered_start = false;
	x->again_ms = loop->now_ms + MIN(REFUSED_MS << MIN(x->refused, 20u), REFUSED_MAX_MS);
	x->refused++;
	loop_timer_set(loop, &x->app->again, x->again_ms);
}

void ship_on_instance(struct ship *s, const struct msg_instance *m)
{
	struct ship_unit *x = map_get(&s->unit_by_id, m->id);

	if (!x) {
		struct msg_stop stop = {.id = m->id, .signal = 15, .grace_ms = 10000};

		if (m->state != INSTANCE_GONE && m->state != INSTANCE_STOPPING)
			msg_send(s->keeper, MSG_STOP, &stop, NULL, 0, NULL, 0);
		return;
	}
	x->known = m->state != INSTANCE_GONE;
	x->gone = m->state == INSTANCE_GONE;
	if (m->state != INSTANCE_GONE)
		x->ordered_start = true;
	x->seen = *m;
	util_utf8(x->seen.reason); /* it may quote what the configuration says to run */
	if (x->seen.reason[0])
		util_copy(x->why, sizeof(x->why), x->seen.reason);
	if (m->state == INSTANCE_RUNNING || m->state == INSTANCE_STARTING)
		x->refused = 0;
	if (x->gone && x->ordered_start && !x->ordered_stop)
		start_refused(x);
	ship_app_look(x->app);
	if (s->ops.on_status)
		s->ops.on_status(s->ops.arg);
}

void ship_on_part(struct ship *s, const struct msg_part *m)
{
	if (m->part >= PART_COUNT)
		return;
	s->parts[m->part] = *m;
	util_utf8(s->parts[m->part].reason);
	if (s->ops.on_status)
		s->ops.on_status(s->ops.arg);
}

void ship_on_bell(struct ship *s)
{
	struct ship_app *a;

	/* An app that rests asks for nothing but its drained instances: there may be thousands. */
	LIST_EACH (a, &s->apps, link) {
		bool rests = a->rollout.phase == ROLLOUT_IDLE;

		for (uint32_t i = 0; rests && i < a->rollout.unit_count; i++)
			rests = a->rollout.units[i].use == USE_SERVE;
		if (!rests)
			ship_app_look(a);
	}
	if (s->ops.on_status)
		s->ops.on_status(s->ops.arg);
}
