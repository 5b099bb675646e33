/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices as the API tells them, and the reasons of their statuses.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "tell/devices_priv.h"

static const struct tell_check *worst(const struct tell_device *d)
{
	const struct tell_check *found = NULL;

	for (uint32_t i = 0; i < d->check_count; i++)
		if (!found || status_rank(check_status(&d->checks[i].state)) > status_rank(check_status(&found->state)))
			found = &d->checks[i];
	return found;
}

/* What its checks say, or the lack of them. */
static void own_reason(const struct tell_device *d, char *ret, size_t size)
{
	const struct tell_check *c = worst(d);
	const char *text = c && c->text ? c->text : "not measured yet";

	if (!c)
		snprintf(ret, size, "%s", d->conf->needs.len ? "what it needs works" : "nobody measures it");
	else if (d->check_count > 1)
		snprintf(ret, size, "%s: %s", c->conf->label ? c->conf->label : conf_check_name(c->conf->kind), text);
	else
		snprintf(ret, size, "%s", text);
}

/* Of a status on account of another one, or of its own; reasons name states, not moments. */
static void reason_of(const struct tell_device *d, uint32_t cause, bool half, bool flaps, char ret[TELL_REASON])
{
	const struct tell_device *other = cause != DEVICE_NONE ? &d->t->devices.rows[cause] : NULL;
	const struct tell_check *c = worst(d);
	char own[TELL_REASON];

	own_reason(d, own, sizeof(own));
	if (other && half && (!c || check_status(&c->state) == STATUS_GOOD))
		snprintf(ret, TELL_REASON, "of several that it needs one is down: %s", other->conf->name);
	else if (other)
		snprintf(ret, TELL_REASON, "on account of %s%s%.200s", other->conf->name, c ? ": " : "", c ? own : "");
	else if (half && (!c || check_status(&c->state) == STATUS_GOOD))
		snprintf(ret, TELL_REASON, "of several that it needs one is down");
	else
		snprintf(ret, TELL_REASON, "%.220s%s", own, flaps ? " (it flaps)" : "");
	util_utf8(ret);
}

void tell_device_reason(const struct tell_device *d, char reason[TELL_REASON])
{
	size_t len;

	reason_of(d, d->told.cause, d->told.half, d->told.flaps, reason);
	len = strlen(reason);
	snprintf(reason + len, TELL_REASON - len, "%s", d->was);
}

static json_t *check_json(const struct tell_check *c)
{
	char since[CLOCK_TEXT], id[20], value[64];
	enum status status = check_status(&c->state);
	json_t *o;

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)c->conf->id);
	o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", id, "kind", conf_check_name(c->conf->kind), "what", c->conf->what,
		      "status", status_name(status), "reason", c->text ? c->text : "not measured yet");
	ensure(o);
	if (c->conf->label)
		json_object_set_new(o, "name", json_string(c->conf->label));
	if (c->text)
		json_object_set_new(o, "since", json_string(clock_text(c->state.since_ms, since)));
	if (c->text && check_soft(&c->state))
		json_object_set_new(o, "soft", json_string(status_name((enum status)c->state.last)));
	if (c->state.flaps)
		json_object_set_new(o, "flaps", json_true());
	if (*result_value_text(c->value, c->unit, value))
		json_object_set_new(o, "value", json_string(value));
	return o;
}

static json_t *needs_json(const struct conf_needs *needs)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < needs->len; i++) {
		const struct conf_text_list *any = &needs->items[i].any;
		json_t *names = json_array();

		for (uint32_t k = 0; k < any->len; k++)
			json_array_append_new(names, json_string(any->items[k]));
		json_array_append_new(list, any->len == 1 ? json_incref(json_array_get(names, 0))
							  : json_pack("{s:O}", "any", names));
		json_decref(names);
	}
	return list;
}

static json_t *device_json(const struct tell_device *d, enum status status, const char *reason, enum device_place place,
			   uint32_t cause)
{
	static const char *const places[] = {
#define X(name, lower) #lower,
	    DEVICE_PLACE_TABLE(X)
#undef X
	};
	json_t *checks = json_array(), *o;

	for (uint32_t i = 0; i < d->check_count; i++)
		json_array_append_new(checks, check_json(&d->checks[i]));
	o = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "name", d->conf->name, "status", status_name(status), "reason",
		      reason, "place", places[place], "needs", needs_json(&d->conf->needs), "checks", checks);
	ensure(o);
	if (cause != DEVICE_NONE)
		json_object_set_new(o, "cause", json_string(d->t->devices.rows[cause].conf->name));
	if (d->conf->at)
		json_object_set_new(o, "at", json_string(d->conf->at));
	if (d->conf->runbook)
		json_object_set_new(o, "runbook", json_string(d->conf->runbook));
	return o;
}

/* As it is told, for the state: what a new controller begins with. */
json_t *tell_device_json(const struct tell_device *d)
{
	char reason[TELL_REASON];
	json_t *o;

	tell_device_reason(d, reason);
	o = device_json(d, (enum status)d->told.status, reason, (enum device_place)d->told.place, d->told.cause);
	json_object_set_new(o, "flaps", json_boolean(d->told.flaps));
	json_object_set_new(o, "half", json_boolean(d->told.half));
	return o;
}

/* As it is now, which may not have been told yet. */
static json_t *now_json(const struct tell_device *d)
{
	const struct device_graph *g = d->t->devices.graph;
	uint32_t i = tell_device_index(d), cause = device_cause(g, i);
	enum status status = device_status(g, i);
	char reason[TELL_REASON];

	reason_of(d, cause, d->told.half, d->told.flaps, reason);
	return device_json(d, status, reason, device_place(g, i), cause);
}

json_t *tell_devices_json(const struct tell *t)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < t->devices.count; i++)
		json_array_append_new(list, now_json(&t->devices.rows[i]));
	return list;
}
