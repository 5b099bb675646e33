/* SPDX-License-Identifier: Apache-2.0
 *
 * Statuses as news: each device (an app, its slots, its targets, Upstate's own processes) is
 * looked at when something may have changed; what differs from the last time is stored with its
 * time, and feeds and pages are made of what is stored. Between changes not a byte of them moves.
 */
#include "tell/tell_priv.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

void tell_news_put(struct tell *t, const char *id, const char *app, const char *status, const char *reason,
		   json_t *body)
{
	bool changed = false;
	struct err e;

	if (state_device_put(t->ship->state, id, app, status, reason, body, clock_wall_ms(), &changed, &e) < 0)
		log_warn("device", "id=%s reason=\"%s\"", id, e.msg);
	else
		news_put(&t->news, id, app, news_mark(status, reason), changed);
	if (changed)
		log_info("status", "device=%s status=%s reason=\"%s\"", id, status, reason);
	json_decref(body);
}

bool tell_is_news(const struct tell *t, const char *id, const char *status, const char *reason)
{
	const struct news_device *d = news_find(&t->news, id);

	return !d || d->mark != news_mark(status, reason);
}

static json_t *slot_json(struct ship_app *a, uint32_t slot, const char *id,
			 const struct tell_status_of *s)
{
	json_t *units = json_array();

	for (uint32_t i = 0; i < a->rollout.unit_count; i++)
		if (a->rollout.units[i].slot == slot && !a->rollout.units[i].stop)
			json_array_append_new(units, tell_unit_json(a, &a->rollout.units[i]));
	return json_pack("{s:s, s:s, s:s, s:o}", "device", id, "status", s->status, "reason", s->reason,
			 "instances", units);
}

static void look_at_app(struct tell *t, struct ship_app *a)
{
	struct tell_status_of s;
	char id[200];

	tell_app_status_of(a, &s);
	if (tell_is_news(t, a->name, s.status, s.reason))
		tell_news_put(t, a->name, a->name, s.status, s.reason, tell_app_json(a));
	for (uint32_t slot = 1; a->conf->run && slot <= a->conf->instances; slot++) {
		snprintf(id, sizeof(id), "%s/%u", a->name, slot);
		tell_slot_status(a, slot, &s);
		if (tell_is_news(t, id, s.status, s.reason))
			tell_news_put(t, id, a->name, s.status, s.reason, slot_json(a, slot, id, &s));
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		snprintf(id, sizeof(id), "%s/%s", a->name, a->targets[i].name);
		tell_target_status(a, &a->targets[i], &s);
		if (tell_is_news(t, id, s.status, s.reason))
			tell_news_put(t, id, a->name, s.status, s.reason, tell_target_json(a, &a->targets[i]));
	}
}

/* The device of the i-th; two may be for the same name. */
static void certificate_id(const json_t *list, size_t i, char *ret, size_t size)
{
	const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
	size_t same = 1;

	for (size_t j = 0; j < i; j++)
		same += strcmp(json_string_value(json_object_get(json_array_get(list, j), "name")), name) == 0;
	if (same == 1)
		snprintf(ret, size, "certificate/%.150s", name);
	else
		snprintf(ret, size, "certificate/%.150s#%zu", name, same);
}

static void look_at_certificates(struct tell *t)
{
	CLEANUP(json_decrefp) json_t *list = t->options.certificates(t->options.arg);
	struct tell_status_of s;
	char id[200];

	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *x = json_array_get(list, i);

		certificate_id(list, i, id, sizeof(id));
		s.status = json_string_value(json_object_get(x, "status"));
		util_text(s.reason, sizeof(s.reason), json_string_value(json_object_get(x, "reason")));
		if (tell_is_news(t, id, s.status, s.reason)) {
			json_object_set_new(x, "device", json_string(id));
			tell_news_put(t, id, "", s.status, s.reason, json_incref(x));
		}
	}
}

static bool is_certificate(const json_t *list, const char *id)
{
	char other[200];

	for (size_t i = 0; i < json_array_size(list); i++) {
		certificate_id(list, i, other, sizeof(other));
		if (strcmp(other, id) == 0)
			return true;
	}
	return false;
}

struct leftovers {
	struct tell *t;
	json_t *ids;
	json_t *certificates;
};

/* Is the device one of the configuration's? */
static bool exists(struct tell *t, const char *id, const char *app)
{
	const struct ship_app *a = ship_find(t->ship, app);
	const char *name = strchr(id, '/');
	char slot[16];

	if (!app[0])
		return name || conf_device(t->conf, id);
	if (!a || !a->conf)
		return false;
	if (!name)
		return true;
	for (uint32_t i = 0; i < a->target_count; i++)
		if (strcmp(a->targets[i].name, name + 1) == 0)
			return true;
	for (uint32_t i = 1; a->conf->run && i <= a->conf->instances; i++) {
		snprintf(slot, sizeof(slot), "%u", i);
		if (strcmp(slot, name + 1) == 0)
			return true;
	}
	return false;
}

static bool look_for_leftover(void *arg, const struct state_device *d)
{
	struct leftovers *l = arg;

	if (strncmp(d->id, "certificate/", 12) == 0 ? !is_certificate(l->certificates, d->id)
						    : !exists(l->t, d->id, d->app))
		json_array_append_new(l->ids, json_string(d->id));
	return true;
}

/* Devices that the configuration no longer has would stand in the feed for ever as they were last. */
static void drop_leftovers(struct tell *t)
{
	CLEANUP(json_decrefp) json_t *ids = json_array();
	CLEANUP(json_decrefp) json_t *certificates = t->options.certificates(t->options.arg);
	struct leftovers l = {t, ids, certificates};
	json_t *id;
	struct err e;
	size_t i;

	if (state_device_each(t->ship->state, NULL, look_for_leftover, &l, &e) < 0)
		return;
	json_array_foreach (ids, i, id) {
		const char *text = json_string_value(id);

		if (state_device_del(t->ship->state, text, &e) < 0)
			return;
		news_del(&t->news, text);
		log_info("status", "device=%s status=gone", text);
	}
	t->devices_stale = false;
}

void tell_devices_look(struct tell *t)
{
	struct ship_app *a;
	struct tell_status_of s;
	char id[64];
	struct err e;

	if (!t->conf || !t->ship->synced)
		return;
	if (news_load(&t->news, t->ship->state, &e) < 0 ||
	    state_begin(t->ship->state, &e) < 0) { /* the next look tries again */
		log_warn("device", "reason=\"%s\"", e.msg);
		return;
	}
	if (t->devices_stale)
		drop_leftovers(t);
	for (enum part p = 0; p < PART_OTHER; p++) { /* that one comes and goes */
		snprintf(id, sizeof(id), "upstate/%s", part_name(p));
		tell_part_status(t, p, &s);
		if (tell_is_news(t, id, s.status, s.reason))
			tell_news_put(t, id, "", s.status, s.reason, tell_part_json(t, p));
	}
	look_at_certificates(t);
	LIST_EACH (a, &t->ship->apps, link)
		if (a->conf)
			look_at_app(t, a);
	if (state_commit(t->ship->state, &e) < 0) {
		log_warn("device", "reason=\"%s\"", e.msg);
		news_forget(&t->news); /* nothing was stored */
		t->devices_stale = true;
	}
}
