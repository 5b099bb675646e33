/* SPDX-License-Identifier: Apache-2.0
 *
 * The devices of the configuration: what the watcher measured becomes a status, and a status that changed is
 * stored, from where feeds and pages have it.
 *
 *	ring ──> a check's outcomes in a row ──(rise, fall)──> its status ──worst──> the device's ──> state
 *
 * Records stay in the ring until what follows from them is on disk: a controller that dies in between leaves them to the next
 * one, which has read the statuses that were stored. The reason of a status is what was measured when it changed;
 * what is measured later is told as it is now, and is no news.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/devices_priv.h"

#define BATCH_MS 20	   /* a burst of results is stored as one */
#define BATCH_RECORDS 5000 /* looked at in one turn */
#define AGAIN_MS 1000	   /* after a disk that was full */

/* --- from checks to devices --- */

static int rank(enum status o)
{
	static const int ranks[] = {[STATUS_GOOD] = 0, [STATUS_UNKNOWN] = 1, [STATUS_BAD] = 2, [STATUS_UGLY] = 3};

	return ranks[o];
}

static struct tell_check *worst(const struct tell_device *d)
{
	struct tell_check *found = NULL;

	for (uint32_t i = 0; i < d->conf->check_count; i++)
		if (d->checks[i].known && (!found || rank(d->checks[i].now) > rank(found->now)))
			found = &d->checks[i];
	return found;
}

const char *tell_device_status(const struct tell_device *d, char reason[TELL_REASON])
{
	const struct tell_check *c = worst(d);
	const struct conf_check *conf = c ? c->conf : NULL;

	if (!c) {
		snprintf(reason, TELL_REASON, d->conf->check_count ? "not measured yet" : "nobody measures it");
		return status_name(STATUS_UNKNOWN);
	}
	if (d->conf->check_count > 1)
		snprintf(reason, TELL_REASON, "%s: %s", conf->label ? conf->label : conf_check_name(conf->kind),
			 c->text ? c->text : "");
	else
		util_copy(reason, TELL_REASON, c->text ? c->text : "");
	util_utf8(reason);
	return status_name(c->now);
}

/* So many in a row, and it is believed. Of what was not known the first measurement is. */
static uint32_t enough(const struct tell_check *c)
{
	if (!c->known || c->now == STATUS_UNKNOWN || c->conf->kind == CONF_CHECK_PUSH)
		return 1;
	return rank(c->last) < rank(c->now) ? c->conf->rise : c->conf->fall;
}

void tell_take_result(struct tell_check *c, const struct result *r, const char *text)
{
	c->in_a_row = c->measured_ms && c->last == r->outcome ? c->in_a_row + 1 : 1;
	c->last = (enum status)r->outcome;
	c->measured_ms = r->wall_ms;
	c->value = r->value;
	c->unit = (enum result_unit)r->unit;
	c->took_us = r->took_us;
	if ((c->known && c->last == c->now) || c->in_a_row < enough(c))
		return;
	c->known = true;
	c->now = c->last;
	c->since_ms = r->wall_ms;
	free(c->text);
	c->text = util_strdup(text);
	c->device->dirty = true;
	c->device->t->devices.dirty = true;
}

/* --- storing --- */

static void store_one(struct tell *t, struct tell_device *d)
{
	CLEANUP(json_decrefp) json_t *body = tell_device_json(d);
	char reason[TELL_REASON];
	const char *status = tell_device_status(d, reason);
	bool changed = false;
	struct err e;

	if (state_device_put(t->ship->state, d->conf->name, "", status, reason, body, clock_wall_ms(), &changed, &e) < 0)
		log_warn("device", "id=%s reason=\"%s\"", d->conf->name, e.msg);
	else
		news_put(&t->news, d->conf->name, "", news_mark(status, reason), changed);
	if (changed)
		log_info("status", "device=%s status=%s reason=\"%s\"", d->conf->name, status, reason);
}

/* All that changed, in one transaction; false: it is tried again, and nothing was stored. */
static bool store(struct tell *t)
{
	struct tell_devices *x = &t->devices;
	struct err e;

	if (!x->dirty)
		return true;
	if (news_load(&t->news, t->ship->state, &e) == 0 && state_begin(t->ship->state, &e) == 0) {
		for (uint32_t i = 0; i < x->count; i++)
			if (x->rows[i].dirty)
				store_one(t, &x->rows[i]);
		if (state_commit(t->ship->state, &e) == 0) {
			for (uint32_t i = 0; i < x->count; i++)
				x->rows[i].dirty = false;
			x->dirty = false;
			return true;
		}
		news_forget(&t->news);
	}
	log_warn("device", "reason=\"%s\"", e.msg);
	return false;
}

/* --- the ring --- */

/* Returns how many records there were, at most BATCH_RECORDS. */
static uint32_t look_at_ring(struct tell_devices *x)
{
	uint32_t n = 0, len;
	const char *record;

	while (n < BATCH_RECORDS && (record = ring_look(&x->results->ring, &x->at, &len))) {
		char text[RESULT_TEXT_MAX + 1];
		struct tell_check *c;
		struct result r;

		n++;
		if (!result_read(record, len, &r, text))
			continue;
		c = map_get(&x->checks, r.check);
		if (c) /* else it has just gone from the configuration */
			tell_take_result(c, &r, text);
	}
	return n;
}

static void on_batch(struct loop_timer *timer)
{
	struct tell *t = container_of(timer, struct tell, devices.batch);
	struct tell_devices *x = &t->devices;
	uint32_t n;

	if (!t->conf || !t->ship->synced) {
		loop_timer_set(t->ship->loop, timer, t->ship->loop->now_ms + AGAIN_MS);
		return;
	}
	n = look_at_ring(x);
	if (!store(t)) {
		loop_timer_set(t->ship->loop, timer, t->ship->loop->now_ms + AGAIN_MS);
		return;
	}
	ring_free(&x->results->ring, x->at);
	if (n) {
		loop_timer_set(t->ship->loop, timer, t->ship->loop->now_ms + (n == BATCH_RECORDS ? 0 : BATCH_MS));
		return;
	}
	/* Asleep: who writes from now on rings. What came just before is found by a last look. */
	atomic_store(&x->results->ring.sleeping, 1);
	if (ring_begin(&x->results->ring) != atomic_load(&x->results->ring.written))
		loop_timer_set(t->ship->loop, timer, t->ship->loop->now_ms);
}

static void on_bell(struct loop_io *io, uint32_t events UNUSED)
{
	struct tell *t = container_of(io, struct tell, devices.bell);
	uint64_t rings;

	if (read(io->fd, &rings, sizeof(rings)) == sizeof(rings) && !t->devices.batch.armed)
		loop_timer_set(t->ship->loop, &t->devices.batch, t->ship->loop->now_ms + BATCH_MS);
}

void tell_devices_store_soon(struct tell *t)
{
	if (t->devices.dirty && (!t->devices.batch.armed || t->devices.batch.at_ms > t->ship->loop->now_ms + BATCH_MS))
		loop_timer_set(t->ship->loop, &t->devices.batch, t->ship->loop->now_ms + BATCH_MS);
}

int tell_results(struct tell *t, int bell, int fd)
{
	struct tell_devices *x = &t->devices;

	x->results = results_map(fd);
	if (!x->results)
		return -1;
	x->at = ring_begin(&x->results->ring);
	x->batch.on_time = on_batch;
	x->bell.on_ready = on_bell;
	if (loop_io_add(t->ship->loop, &x->bell, bell, EPOLLIN) < 0)
		return -1;
	loop_timer_set(t->ship->loop, &x->batch, t->ship->loop->now_ms); /* what an earlier controller left */
	return 0;
}

/* --- a configuration --- */

static enum status outcome_of(const char *status)
{
	for (int i = 0; i < STATUS_COUNT; i++)
		if (status && strcmp(status, status_name((enum status)i)) == 0)
			return (enum status)i;
	return STATUS_UNKNOWN;
}

/* What is stored of a device tells how its checks were when it last changed. */
static bool restore_one(void *arg, const struct state_device *stored)
{
	struct tell_devices *x = arg;
	CLEANUP(json_decrefp) json_t *body = strchr(stored->id, '/') ? NULL : json_loads(stored->body, 0, NULL);
	const json_t *o;
	size_t i;

	json_array_foreach (json_object_get(body, "checks"), i, o) {
		const char *id = json_string_value(json_object_get(o, "id"));
		const char *text = json_string_value(json_object_get(o, "reason"));
		struct tell_check *c = id ? map_get(&x->checks, strtoull(id, NULL, 16)) : NULL;

		if (!c || !json_object_get(o, "since"))
			continue;
		c->known = true;
		c->now = outcome_of(json_string_value(json_object_get(o, "status")));
		c->text = util_strdup(text ? text : "");
		clock_parse(json_string_value(json_object_get(o, "since")) ?: "", &c->since_ms);
	}
	return true;
}

static void carry_over(struct tell_check *c, struct tell_devices *old)
{
	struct tell_check *before = map_get(&old->checks, c->conf->id);
	struct tell_device *device = c->device;
	const struct conf_check *conf = c->conf;

	if (!before)
		return;
	*c = *before;
	before->text = NULL;
	c->device = device;
	c->conf = conf;
	c->late = (struct loop_timer){0};
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
	map_free(&x->checks);
}

void tell_devices_configured(struct tell *t, const struct conf *conf)
{
	struct tell_devices *x = &t->devices, old = *x;
	bool first = !old.configured;
	struct err e;

	x->rows = util_alloc((conf->device_count + 1) * sizeof(*x->rows));
	x->count = conf->device_count;
	x->checks = (struct map){0};
	x->configured = true;
	for (uint32_t i = 0; i < x->count; i++) {
		const struct conf_device *d = &conf->devices[i];
		struct tell_device *row = &x->rows[i];

		*row = (struct tell_device){.t = t, .conf = d, .check_count = d->check_count};
		row->checks = util_alloc((d->check_count + 1) * sizeof(*row->checks));
		for (uint32_t k = 0; k < d->check_count; k++) {
			row->checks[k] = (struct tell_check){.device = row, .conf = &d->checks[k], .value = NAN};
			carry_over(&row->checks[k], &old);
			map_put(&x->checks, d->checks[k].id, &row->checks[k]);
		}
		/* One that lost its worst check is better now; one that was not measured yet is said to be so by
		 * its first measurement. */
		row->dirty = worst(row) || !d->check_count;
		x->dirty |= row->dirty;
	}
	rows_free(&old);
	if (first && state_device_each(t->ship->state, "", restore_one, x, &e) < 0)
		log_warn("device", "reason=\"%s\"", e.msg);
	for (uint32_t i = 0; first && i < x->count; i++)
		x->dirty |= x->rows[i].dirty |= worst(&x->rows[i]) != NULL;
	tell_beats_configured(t);
	if (x->results)
		loop_timer_set(t->ship->loop, &x->batch, t->ship->loop->now_ms);
}

/* --- telling --- */

static json_t *check_json(const struct tell_check *c)
{
	char since[CLOCK_TEXT], id[20], value[64];
	json_t *o;

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)c->conf->id);
	o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", id, "kind", conf_check_name(c->conf->kind), "what", c->conf->what,
		      "status", status_name(c->known ? c->now : STATUS_UNKNOWN), "reason",
		      c->known ? c->text : "not measured yet");
	ensure(o);
	if (c->conf->label)
		json_object_set_new(o, "name", json_string(c->conf->label));
	if (c->known)
		json_object_set_new(o, "since", json_string(clock_text(c->since_ms, since)));
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

json_t *tell_device_json(const struct tell_device *d)
{
	json_t *checks = json_array(), *o;
	char reason[TELL_REASON];
	const char *status = tell_device_status(d, reason);

	for (uint32_t i = 0; i < d->conf->check_count; i++)
		json_array_append_new(checks, check_json(&d->checks[i]));
	o = json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", d->conf->name, "status", status, "reason", reason, "needs",
		      needs_json(&d->conf->needs), "checks", checks);
	ensure(o);
	if (d->conf->at)
		json_object_set_new(o, "at", json_string(d->conf->at));
	if (d->conf->runbook)
		json_object_set_new(o, "runbook", json_string(d->conf->runbook));
	return o;
}

json_t *tell_devices_json(const struct tell *t)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < t->devices.count; i++)
		json_array_append_new(list, tell_device_json(&t->devices.rows[i]));
	return list;
}
