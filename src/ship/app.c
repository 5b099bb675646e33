/* SPDX-License-Identifier: Apache-2.0
 *
 * What is saved of an app: one JSON value, written whole at each change of it.
 */
#include "ship/ship.h"

#include <string.h>

#include "base/clock.h"

static void wake(struct loop_timer *t)
{
	ship_app_look(container_of(t, struct ship_app, wake));
}

static void again(struct loop_timer *t)
{
	ship_app_look(container_of(t, struct ship_app, again));
}

struct ship_app *ship_app_create(struct ship *s, const char *name)
{
	struct ship_app *a = util_alloc(sizeof(*a));

	ensure(util_copy(a->name, sizeof(a->name), name));
	a->ship = s;
	a->id = map_hash(name, strlen(name)) | 1ull << 63; /* apart from the small numbers of instances */
	a->shm_slot = ship_slot(s, a->id);
	a->has_slot = true;
	a->uid = (uint32_t)-1;
	a->next_release = a->next_settings = 1;
	a->stage_pipe = -1;
	a->ordered = json_object();
	a->unsaved = json_array();
	a->wake.on_time = wake;
	a->again.on_time = again;
	list_init(&a->units);
	list_add_tail(&s->apps, &a->link);
	map_put(&s->by_name, map_hash(name, strlen(name)), a);
	return a;
}

struct ship_release *ship_release(const struct ship_app *a, uint32_t number)
{
	for (uint32_t i = a->release_count; i-- > 0;)
		if (a->releases[i].number == number)
			return &a->releases[i];
	return NULL;
}

struct ship_release *ship_release_add(struct ship_app *a, const char *id)
{
	struct ship_release *r;

	for (uint32_t i = 0; i < a->release_count; i++)
		if (strcmp(a->releases[i].id, id) == 0)
			return &a->releases[i]; /* the same bits are the same release */
	if (a->release_count == SHIP_RELEASES_MAX) { /* the oldest number is forgotten, not its history */
		memmove(a->releases, a->releases + 1, (a->release_count - 1) * sizeof(*a->releases));
		a->release_count--;
	}
	a->releases = realloc(a->releases, (a->release_count + 1) * sizeof(*a->releases));
	ensure(a->releases);
	r = &a->releases[a->release_count++];
	*r = (struct ship_release){.number = a->next_release++, .created_ms = clock_wall_ms()};
	util_copy(r->id, sizeof(r->id), id);
	return r;
}

static void list_releases(const struct ship_app *a, char *text, size_t size)
{
	size_t n = 0;
	uint32_t first = a->release_count > 8 ? a->release_count - 8 : 0;

	text[0] = '\0';
	for (uint32_t i = first; i < a->release_count && n < size; i++)
		n += (size_t)snprintf(text + n, size - n, "%s%s@%u", i > first ? ", " : "", a->name,
				      a->releases[i].number);
}

int ship_release_parse(const struct ship_app *a, const char *text, struct ship_release **ret,
		       struct err *e)
{
	char known[400];
	const char *at = strchr(text, '@');
	size_t len;

	if (at) {
		if ((size_t)(at - text) != strlen(a->name) || strncmp(text, a->name, strlen(a->name)) != 0)
			return err_set(e, ERR_INPUT, "release '%s' is not one of app '%s'", text, a->name);
		text = at + 1;
	}
	len = strlen(text);
	for (uint32_t i = a->release_count; len && i-- > 0;) {
		char number[16];

		snprintf(number, sizeof(number), "%u", a->releases[i].number);
		if (strcmp(text, number) == 0 ||
		    (len >= 6 && strncmp(a->releases[i].id, text, len) == 0)) {
			*ret = &a->releases[i];
			return 0;
		}
	}
	list_releases(a, known, sizeof(known));
	return err_set(e, ERR_NOT_FOUND, "app '%s' has no release '%s'; the last ones are: %s", a->name,
		       text, known[0] ? known : "none yet");
}

static json_t *unit_json(const struct ship_app *a, const struct rollout_unit *u)
{
	struct ship_unit *x = ship_unit((struct ship_app *)a, u->id);

	return json_pack("[I, i, i, i, i, b, I, i, i]", (json_int_t)u->id, (int)u->version.release,
			 (int)u->version.settings, (int)u->slot, (int)u->use, u->stop,
			 (json_int_t)u->until_ms, (int)u->starts_before, x ? (int)x->port : 0);
}

static json_t *rollout_json(const struct ship_app *a)
{
	const struct rollout *r = &a->rollout;
	json_t *units = json_array();

	for (uint32_t i = 0; i < r->unit_count; i++)
		json_array_append_new(units, unit_json(a, &r->units[i]));
	return json_pack("{s:s, s:b, s:b, s:b, s:[i,i], s:[i,i], s:[i,i], s:I, s:I, s:s, s:o}", "phase",
			 rollout_phase_name(r->phase), "undoing", r->undoing, "direct", r->direct, "hold",
			 r->hold, "current", (int)r->current.release, (int)r->current.settings, "from",
			 (int)r->from.release, (int)r->from.settings, "to", (int)r->to.release,
			 (int)r->to.settings, "change", (json_int_t)r->change, "until",
			 (json_int_t)r->until_ms, "reason", r->reason, "units", units);
}

json_t *ship_app_json(const struct ship_app *a)
{
	json_t *releases = json_array(), *settings = json_array(), *o;

	for (uint32_t i = 0; i < a->release_count; i++) {
		const struct ship_release *r = &a->releases[i];

		json_array_append_new(releases,
				      json_pack("[i, s, i, I, I]", (int)r->number, r->id, (int)r->before,
						(json_int_t)r->created_ms, (json_int_t)r->established_ms));
	}
	for (uint32_t i = 0; i < a->settings_count; i++)
		json_array_append_new(settings, json_pack("[i, s, O]", (int)a->settings[i].number,
							  a->settings[i].hash, a->settings[i].json));
	o = json_pack("{s:I, s:i, s:i, s:o, s:o, s:b, s:b, s:O, s:o}", "uid", (json_int_t)a->uid,
		      "next_release", (int)a->next_release, "next_settings", (int)a->next_settings,
		      "releases", releases, "settings", settings, "held", a->held,
		      "maintenance", a->maintenance, "ordered", a->ordered,
		      "rollout", rollout_json(a));
	ensure(o);
	if (a->change)
		json_object_set_new(o, "change", ship_change_save(a->change));
	return o;
}

int ship_app_save(struct ship_app *a, struct err *e)
{
	char key[SHIP_NAME + 8];
	json_t *o = ship_app_json(a);
	int r;

	snprintf(key, sizeof(key), "app/%s", a->name);
	r = state_put(a->ship->state, key, o, e);
	json_decref(o);
	return r;
}

int ship_numbers_save(struct ship *s, struct err *e)
{
	json_t *o = json_pack("{s:I, s:I, s:I, s:I}", "next_unit", (json_int_t)s->next_unit,
			      "next_change", (json_int_t)s->next_change, "generation",
			      (json_int_t)s->generation, "world", (json_int_t)s->world);
	int r = state_put(s->state, "numbers", o, e);

	json_decref(o);
	return r;
}

static bool load_rollout(struct ship_app *a, json_t *o)
{
	struct rollout *r = &a->rollout;
	json_t *units, *unit;
	const char *phase, *reason;
	int undoing, direct, hold, current[2], from[2], to[2];
	json_int_t change, until_ms;
	size_t i;

	if (json_unpack(o, "{s:s, s:b, s:b, s:b, s:[i,i], s:[i,i], s:[i,i], s:I, s:I, s:s, s:o}", "phase",
			&phase, "undoing", &undoing, "direct", &direct, "hold", &hold, "current",
			&current[0], &current[1], "from", &from[0], &from[1], "to", &to[0], &to[1],
			"change", &change, "until", &until_ms, "reason", &reason, "units", &units) < 0)
		return false;
	*r = (struct rollout){.undoing = undoing, .direct = direct, .hold = hold,
			      .current = {(uint32_t)current[0], (uint32_t)current[1]},
			      .from = {(uint32_t)from[0], (uint32_t)from[1]},
			      .to = {(uint32_t)to[0], (uint32_t)to[1]}, .change = (uint64_t)change,
			      .until_ms = (uint64_t)until_ms};
	util_copy(r->reason, sizeof(r->reason), reason);
	for (i = 0; i < ROLLOUT_PHASE_COUNT; i++)
		if (strcmp(phase, rollout_phase_name((enum rollout_phase)i)) == 0)
			r->phase = (enum rollout_phase)i;
	json_array_foreach (units, i, unit) {
		struct rollout_unit *u = &r->units[r->unit_count];
		json_int_t id, until;
		int release, settings, slot, use, stop, starts, port;
		struct ship_unit *x;

		if (r->unit_count == ROLLOUT_UNITS_MAX ||
		    json_unpack(unit, "[I, i, i, i, i, b, I, i, i]", &id, &release, &settings, &slot, &use,
				&stop, &until, &starts, &port) < 0)
			return false;
		*u = (struct rollout_unit){.id = (uint64_t)id, .slot = (uint32_t)slot,
					   .version = {(uint32_t)release, (uint32_t)settings},
					   .use = (enum target_use)use, .stop = stop,
					   .until_ms = (uint64_t)until,
					   .starts_before = (uint32_t)starts};
		r->unit_count++;
		x = ship_unit(a, u->id);
		x->port = (uint16_t)port;
		x->version = u->version;
		x->slot = u->slot;
	}
	return rollout_check(r) == NULL;
}

int ship_app_load(struct ship_app *a, json_t *o, struct err *e)
{
	json_t *releases, *settings, *rollout, *ordered, *item, *change;
	json_int_t uid;
	int next_release, next_settings, held;
	size_t i;

	if (json_unpack(o, "{s:I, s:i, s:i, s:o, s:o, s:b, s:o, s:o}", "uid", &uid, "next_release",
			&next_release, "next_settings", &next_settings, "releases", &releases, "settings",
			&settings, "held", &held, "ordered", &ordered, "rollout", &rollout) < 0)
		goto bad;
	a->uid = (uint32_t)uid;
	a->next_release = (uint32_t)next_release;
	a->next_settings = (uint32_t)next_settings;
	a->held = held;
	a->maintenance = json_is_true(json_object_get(o, "maintenance")); /* newer than the rest */
	json_decref(a->ordered);
	a->ordered = json_incref(ordered);
	a->releases = util_alloc((json_array_size(releases) + 1) * sizeof(*a->releases));
	json_array_foreach (releases, i, item) {
		struct ship_release *r = &a->releases[a->release_count++];
		const char *id;
		int number, before;
		json_int_t created, established;

		if (json_unpack(item, "[i, s, i, I, I]", &number, &id, &before, &created, &established) <
		    0)
			goto bad;
		*r = (struct ship_release){.number = (uint32_t)number, .before = (uint32_t)before,
					   .created_ms = (uint64_t)created,
					   .established_ms = (uint64_t)established};
		util_copy(r->id, sizeof(r->id), id);
	}
	a->settings = util_alloc((json_array_size(settings) + 1) * sizeof(*a->settings));
	json_array_foreach (settings, i, item) {
		struct ship_settings *x = &a->settings[a->settings_count++];
		const char *hash;
		int number;
		json_t *body;

		if (json_unpack(item, "[i, s, o]", &number, &hash, &body) < 0)
			goto bad;
		x->number = (uint32_t)number;
		x->json = json_incref(body);
		util_copy(x->hash, sizeof(x->hash), hash);
	}
	change = json_object_get(o, "change");
	if (change)
		a->change = ship_change_load(change);
	if (load_rollout(a, rollout))
		return 0;
bad:
	return err_set(e, ERR_CORRUPT, "what is saved of app '%s' cannot be read", a->name);
}
