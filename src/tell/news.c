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

/* Stores the status if it is news. The marks only save the look into the database. */
static void put(struct tell *t, const char *id, const char *app, const struct tell_status_of *s,
		json_t *body)
{
	uint64_t key = map_hash(id, strlen(id));
	uint64_t mark = map_hash_more(map_hash(s->status, strlen(s->status)), s->reason,
				      strlen(s->reason)) | 1;
	bool changed = false;
	struct err e;

	if ((uintptr_t)map_get(&t->device_marks, key) == (uintptr_t)mark) {
		json_decref(body);
		return;
	}
	if (state_device_put(t->ship->state, id, app, s->status, s->reason, body, clock_wall_ms(), &changed,
			     &e) < 0)
		log_warn("device", "id=%s reason=\"%s\"", id, e.msg);
	else
		map_put(&t->device_marks, key, (void *)(uintptr_t)mark);
	if (changed)
		log_info("status", "device=%s status=%s reason=\"%s\"", id, s->status, s->reason);
	json_decref(body);
}

static void look_at_app(struct tell *t, struct ship_app *a)
{
	struct tell_status_of s;
	char id[200];

	tell_app_status_of(a, &s);
	put(t, a->name, a->name, &s, tell_app_json(a));
	for (uint32_t slot = 1; a->conf->run && slot <= a->conf->instances; slot++) {
		json_t *units = json_array();

		for (uint32_t i = 0; i < a->rollout.unit_count; i++)
			if (a->rollout.units[i].slot == slot && !a->rollout.units[i].stop)
				json_array_append_new(units, tell_unit_json(a, &a->rollout.units[i]));
		snprintf(id, sizeof(id), "%s/%u", a->name, slot);
		tell_slot_status(a, slot, &s);
		put(t, id, a->name, &s, json_pack("{s:s, s:s, s:s, s:o}", "device", id, "status", s.status,
						  "reason", s.reason, "instances", units));
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		snprintf(id, sizeof(id), "%s/%s", a->name, a->targets[i].name);
		tell_target_status(a, &a->targets[i], &s);
		put(t, id, a->name, &s, tell_target_json(a, &a->targets[i]));
	}
}

void tell_devices_look(struct tell *t)
{
	struct ship_app *a;
	struct tell_status_of s;
	char id[64];

	if (!t->conf || !t->ship->synced)
		return;
	for (enum part p = 0; p < PART_COUNT; p++) {
		snprintf(id, sizeof(id), "upstate/%s", part_name(p));
		tell_part_status(t, p, &s);
		put(t, id, "", &s, tell_part_json(t, p));
	}
	LIST_EACH (a, &t->ship->apps, link)
		if (a->conf)
			look_at_app(t, a);
}

void tell_page(struct call *c, json_t *body)
{
}
void tell_device_page(struct call *c, json_t *body)
{
}
void tell_feed(struct call *c, json_t *body)
{
}
