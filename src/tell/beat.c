/* SPDX-License-Identifier: Apache-2.0
 *
 * push: nobody measures, somebody says that all is well. POST /v1/beat/DEVICE, or /v1/beat/DEVICE/NAME where the device has
 * several such checks.
 *
 * A beat that was answered is on disk: the next controller knows when it came, and goes on waiting for the one after it. The
 * time that counts is ours; what a sender thinks of the time is not asked. So late is late by the clock of this machine.
 */
#include <math.h>
#include <openssl/crypto.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/threshold.h"
#include "tell/devices_priv.h"

static void key_of(const struct tell_check *c, char key[40])
{
	snprintf(key, 40, "beat/%016llx", (unsigned long long)c->conf->id);
}

static void wait_for_next(struct tell_check *c)
{
	struct ship *s = c->device->t->ship;
	uint64_t now = tell_steady_ms(c->device->t), late = check_late_ms(&c->state, &c->rule);

	if (late == UINT64_MAX)
		loop_timer_stop(s->loop, &c->late);
	else
		loop_timer_set(s->loop, &c->late, s->loop->now_ms + (late > now ? late - now : 0));
}

/* The reason names a state: the time of the last beat, not how long ago that is. */
static void on_late(struct loop_timer *timer)
{
	struct tell_check *c = container_of(timer, struct tell_check, late);
	struct tell *t = c->device->t;
	char text[RESULT_TEXT_MAX + 1], last[CLOCK_TEXT];

	snprintf(text, sizeof(text), "no beat within %s; the last one came %s", c->conf->what,
		 c->beat_ms ? clock_text(c->beat_ms, last) : "never");
	tell_take_result(c, STATUS_COUNT, tell_steady_ms(t), text);
	wait_for_next(c);
	tell_devices_soon(t);
}

static void restore(struct tell_check *c)
{
	struct tell *t = c->device->t;
	CLEANUP(json_decrefp) json_t *o = NULL;
	uint64_t from = clock_wall_ms();
	char key[40];
	struct err e;

	key_of(c, key);
	if (state_get(t->ship->state, key, &o, &e) < 0)
		log_warn("beat", "device=%s reason=\"%s\"", c->device->conf->name, e.msg);
	if (o) {
		c->beat_ms = (uint64_t)json_integer_value(json_object_get(o, "at"));
		from = MAX(c->beat_ms, (uint64_t)json_integer_value(json_object_get(o, "since")));
	} else { /* waited for from now on, also by the next controller */
		o = json_pack("{s:I}", "since", (json_int_t)from);
		if (state_put(t->ship->state, key, o, &e) < 0)
			log_warn("beat", "device=%s reason=\"%s\"", c->device->conf->name, e.msg);
	}
	c->state.heard_ms = MIN(from, tell_steady_ms(t));
	c->late.on_time = on_late;
	wait_for_next(c);
}

/* Keys of checks that are no more. */
static bool gather_gone(void *arg, const char *key, json_t *value UNUSED)
{
	struct tell *t = ((void **)arg)[0];
	const struct tell_check *c = map_get(&t->devices.checks, strtoull(key + strlen("beat/"), NULL, 16));

	if (!c || c->conf->kind != CONF_CHECK_PUSH)
		json_array_append_new(((void **)arg)[1], json_string(key));
	return true;
}

void tell_beats_configured(struct tell *t)
{
	CLEANUP(json_decrefp) json_t *gone = json_array();
	void *arg[] = {t, gone};
	struct err e;
	json_t *key;
	size_t n;

	if (state_each(t->ship->state, "beat/", gather_gone, arg, &e) < 0 || state_begin(t->ship->state, &e) < 0) {
		log_warn("beat", "reason=\"%s\"", e.msg);
		return;
	}
	json_array_foreach (gone, n, key)
		state_put(t->ship->state, json_string_value(key), NULL, &e);
	for (uint32_t i = 0; i < t->devices.count; i++)
		for (uint32_t k = 0; k < t->devices.rows[i].check_count; k++)
			if (t->devices.rows[i].checks[k].conf->kind == CONF_CHECK_PUSH)
				restore(&t->devices.rows[i].checks[k]);
	if (state_commit(t->ship->state, &e) < 0)
		log_warn("beat", "reason=\"%s\"", e.msg);
}

void tell_beat_fini(struct tell_check *c)
{
	loop_timer_fini(c->device->t->ship->loop, &c->late);
}

/* --- the call --- */

/* The device's check of that name; its only one when there is no name. */
static struct tell_check *find(struct tell *t, const char *device, const char *name, struct err *e)
{
	const struct conf_device *conf = t->conf ? conf_device(t->conf, device) : NULL;
	struct tell_device *d = conf ? &t->devices.rows[conf - t->conf->devices] : NULL;
	struct tell_check *found = NULL;
	uint32_t count = 0;

	for (uint32_t i = 0; d && i < d->check_count; i++) {
		const struct conf_check *k = d->checks[i].conf;

		if (k->kind != CONF_CHECK_PUSH || (*name && (!k->label || strcmp(k->label, name) != 0)))
			continue;
		found = &d->checks[i];
		count++;
	}
	if (count == 1)
		return found;
	if (!d)
		err_set(e, ERR_NOT_FOUND, "there is no device '%.80s'", device);
	else if (count)
		err_set(e, ERR_INPUT, "device '%s' has %u push checks: give the name of one (beat %s NAME)", device, count, device);
	else
		err_set(e, ERR_NOT_FOUND, "device '%s' has no push check%s%.80s%s", device, *name ? " '" : "", name, *name ? "'" : "");
	return NULL;
}

/* Does the request have the secret of the check? */
static bool knows_secret(struct call *c, const struct tell_check *check)
{
	char given[256] = "";
	const char *secret = check ? check->conf->secret : NULL;

	server_param(c->r, "secret", given, sizeof(given));
	return secret && strlen(given) == strlen(secret) && CRYPTO_memcmp(given, secret, strlen(secret)) == 0;
}

static enum status judge(const struct conf_check *k, double value, char *text, size_t size)
{
	struct threshold t;
	char number[64];

	result_value_text(value, RESULT_NONE_UNIT, number);
	util_copy(text, size, "beats");
	for (int i = 0; i < 2 && !isnan(value); i++) {
		const char *threshold = i ? k->bad : k->ugly;

		if (!threshold || threshold_parse(threshold, &t, NULL) < 0 || !threshold_crossed(&t, value))
			continue;
		snprintf(text, size, "%s %s", number, threshold);
		return i ? STATUS_BAD : STATUS_UGLY;
	}
	return STATUS_GOOD;
}

static void take(struct call *c, struct tell_check *check, double value, double took_ms)
{
	uint64_t wall = clock_wall_ms();
	CLEANUP(json_decrefp) json_t *o = json_pack("{s:I}", "at", (json_int_t)wall);
	char text[RESULT_TEXT_MAX + 1], key[40], next[CLOCK_TEXT];
	enum status outcome = judge(check->conf, value, text, sizeof(text));
	struct err e;

	key_of(check, key);
	if (state_put(c->t->ship->state, key, o, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	check->beat_ms = wall;
	check->value = value;
	check->took_us = (uint32_t)MIN(took_ms * 1000, (double)UINT32_MAX);
	tell_take_result(check, outcome, tell_steady_ms(c->t), text);
	wait_for_next(check);
	tell_devices_soon(c->t);
	tell_answer_json(c, 200, json_pack("{s:s, s:s, s:s}", "device", check->device->conf->name, "status", status_name(outcome),
					   "next", clock_text(wall + check->conf->period_ms, next)));
}

/* {"value": V, "took_ms": MS}, both may be left out */
void tell_beat(struct call *c, json_t *body)
{
	const json_t *value = json_object_get(body, "value"), *took = json_object_get(body, "took_ms");
	struct tell_check *check;
	struct err e = {0};

	check = find(c->t, c->arg[0], c->arg[1], &e);
	if (!c->trusted && !knows_secret(c, check)) {
		err_set(&e, ERR_DENIED, "a beat wants '?secret=' with the secret of its check, or the token of the API");
		tell_answer_err(c, &e);
		return;
	}
	if (check && ((value && !json_is_number(value)) || (took && (!json_is_number(took) || json_number_value(took) < 0))))
		err_set(&e, ERR_INPUT, "'value' and 'took_ms' are numbers");
	if (e.code)
		tell_answer_err(c, &e);
	else
		take(c, check, value ? json_number_value(value) : NAN, took ? json_number_value(took) : 0);
}
