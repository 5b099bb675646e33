/* SPDX-License-Identifier: Apache-2.0
 *
 * The devices of a configuration that came into force. A check that was there before goes on as it was; of a new
 * controller, what was stored of each device tells how its checks were when it was last told.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/devices_priv.h"

/* A child is told when its parents had this long to say that they are the cause; see core/device.h. */
static const struct device_rule rule = {.answer_ms = 15000, .settle_ms = 30000, .most_ms = 120000};

/* --- what was stored --- */

static enum status status_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	for (int i = 0; text && i < STATUS_COUNT; i++)
		if (strcmp(text, status_name((enum status)i)) == 0)
			return (enum status)i;
	return STATUS_UNKNOWN;
}

/* As if one measurement had made it so. */
static void restore_check(struct tell_devices *x, const json_t *o, uint64_t now_ms)
{
	static const struct check_rule at_once = {.interval_ms = 1, .retry_ms = 1, .rise = 1, .fall = 1};
	const char *id = json_string_value(json_object_get(o, "id")), *text = json_string_value(json_object_get(o, "reason"));
	const char *since = json_string_value(json_object_get(o, "since"));
	struct tell_check *c = id ? map_get(&x->checks, strtoull(id, NULL, 16)) : NULL;
	struct check_change change;
	uint64_t at;

	if (!c || !text || !since || !clock_parse(since, &at))
		return;
	check_init(&c->state, MIN(at, now_ms));
	check_step(&c->state, &at_once, status_of(o, "status"), MIN(at, now_ms), &change);
	c->state.heard_ms = now_ms; /* it is not late because we were not there */
	free(c->text);
	c->text = util_strdup(text);
}

static bool restore_device(void *arg, const struct state_device *stored)
{
	struct tell *t = arg;
	struct tell_devices *x = &t->devices;
	const struct conf_device *conf = strchr(stored->id, '/') ? NULL : conf_device(t->conf, stored->id);
	const struct conf_device *cause = NULL;
	CLEANUP(json_decrefp) json_t *body = NULL;
	struct tell_device *d;
	const json_t *o;
	size_t i;

	if (!conf)
		return true;
	d = &x->rows[conf - t->conf->devices];
	body = json_loads(stored->body, 0, NULL);
	json_array_foreach (json_object_get(body, "checks"), i, o)
		restore_check(x, o, tell_steady_ms(t));
	if (json_object_get(body, "cause"))
		cause = conf_device(t->conf, json_string_value(json_object_get(body, "cause")));
	d->told = (struct device_told){.cause = cause ? (uint32_t)(cause - t->conf->devices) : DEVICE_NONE,
				       .status = (uint8_t)status_of(body, "status"),
				       .flaps = json_is_true(json_object_get(body, "flaps")),
				       .half = json_is_true(json_object_get(body, "half"))};
	d->told.place = d->told.status == STATUS_GOOD ? DEVICE_CLEAR : cause ? DEVICE_FOLDED : DEVICE_OPEN;
	return true;
}

/* --- a configuration --- */

static void check_row(struct tell_device *d, uint32_t k, struct tell_devices *old)
{
	const struct conf_check *conf = &d->conf->checks[k];
	struct tell_check *before = map_get(&old->checks, conf->id), *c = &d->checks[k];
	bool pushed = conf->kind == CONF_CHECK_PUSH;

	*c = (struct tell_check){.value = NAN};
	if (before) {
		*c = *before;
		before->text = NULL;
		c->late = (struct loop_timer){0};
	} else {
		check_init(&c->state, tell_steady_ms(d->t));
	}
	c->device = d;
	c->conf = conf;
	c->rule = conf_check_rule(pushed ? conf->period_ms : conf->every_ms, conf->rise, conf->fall, pushed);
}

static void make_rows(struct tell *t, const struct conf *conf, struct tell_devices *old)
{
	struct tell_devices *x = &t->devices;

	x->rows = util_alloc((conf->device_count + 1) * sizeof(*x->rows));
	x->count = conf->device_count;
	x->checks = (struct map){0};
	for (uint32_t i = 0; i < x->count; i++) {
		struct tell_device *d = &x->rows[i];

		*d = (struct tell_device){.t = t, .conf = &conf->devices[i], .check_count = conf->devices[i].check_count,
					  .told = {DEVICE_NONE, STATUS_UNKNOWN, DEVICE_OPEN, false, false}};
		d->checks = util_alloc((d->check_count + 1) * sizeof(*d->checks));
		for (uint32_t k = 0; k < d->check_count; k++) {
			check_row(d, k, old);
			map_put(&x->checks, d->checks[k].conf->id, &d->checks[k]);
		}
	}
}

/* What was told of a device stays told, also when its number is another one now. */
static void carry_told(struct tell *t, const struct tell_devices *old)
{
	for (uint32_t i = 0; i < old->count; i++) {
		const struct conf_device *conf = conf_device(t->conf, old->rows[i].conf->name), *cause = NULL;
		struct tell_device *d = conf ? &t->devices.rows[conf - t->conf->devices] : NULL;
		uint32_t before = old->rows[i].told.cause;

		if (!d)
			continue;
		if (before != DEVICE_NONE)
			cause = conf_device(t->conf, old->rows[before].conf->name);
		d->told = old->rows[i].told;
		d->told.cause = cause ? (uint32_t)(cause - t->conf->devices) : DEVICE_NONE;
		if (d->told.place == DEVICE_FOLDED && !cause)
			d->told.place = DEVICE_OPEN;
		util_copy(d->was, sizeof(d->was), old->rows[i].was);
		d->dirty = old->rows[i].dirty;
	}
}

static void rows_free(struct tell_devices *x)
{
	for (uint32_t i = 0; i < x->count; i++) {
		for (uint32_t k = 0; k < x->rows[i].check_count; k++) {
			tell_beat_fini(&x->rows[i].checks[k]);
			free(x->rows[i].checks[k].text);
		}
		free(x->rows[i].checks);
	}
	free(x->rows);
	free(x->graph);
	free(x->graph_memory);
	map_free(&x->checks);
}

void tell_devices_configured(struct tell *t, const struct conf *conf)
{
	struct tell_devices *x = &t->devices, old = *x;
	uint32_t circle[DEVICE_CIRCLE_MAX];
	struct err e;

	make_rows(t, conf, &old);
	x->graph = util_alloc(sizeof(*x->graph));
	ensure(conf_graph(conf, &rule, x->graph, &x->graph_memory, circle) == 0);
	if (old.graph)
		carry_told(t, &old);
	else if (state_device_each(t->ship->state, "", restore_device, t, &e) < 0)
		log_warn("device", "reason=\"%s\"", e.msg);
	rows_free(&old);
	for (uint32_t i = 0; i < x->count; i++) {
		struct tell_device *d = &x->rows[i];

		for (uint32_t k = 0; k < d->check_count; k++)
			device_add_check(x->graph, i, &d->checks[k].state, &d->checks[k].rule);
		device_restore(x->graph, i, &d->told);
		d->dirty |= !d->check_count; /* it may never have anything to tell */
		x->dirty |= d->dirty;
	}
	tell_beats_configured(t);
	x->overdue_look_ms = tell_steady_ms(t);
	if (x->results)
		tell_devices_soon(t);
}
