/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes: what was ordered by whom and why, its steps, and in the end its receipt: what the
 * app's users saw between beginning and end, from the router's numbers.
 */
#include "ship/ship.h"

#include <stdarg.h>
#include <string.h>

#include "base/clock.h"

const char *ship_kind_name(enum ship_kind k)
{
	static const char *const names[] = {"deploy", "rollback", "settings"};

	return names[k];
}

void ship_version_name(const struct ship_app *a, struct rollout_version v, char *ret, size_t size)
{
	if (v.release)
		snprintf(ret, size, "%s@%u", a->name, v.release);
	else
		snprintf(ret, size, "nothing");
}

void ship_change_free(struct ship_change *c)
{
	if (!c)
		return;
	free(c->steps);
	free(c);
}

void ship_change_begin(struct ship_app *a, enum ship_kind kind, struct rollout_version to,
		       const char *who, const char *why)
{
	struct ship_change *c = util_alloc(sizeof(*c));

	ship_change_free(a->before);
	a->before = a->change;
	a->change = c;
	c->number = a->ship->next_change++;
	c->kind = kind;
	c->from = a->rollout.current;
	c->to = to;
	c->began_ms = clock_wall_ms();
	util_copy(c->outcome, sizeof(c->outcome), "running");
	util_text(c->who, sizeof(c->who), who);
	util_text(c->why, sizeof(c->why), why);
	util_copy(c->key, sizeof(c->key), a->order_key);
	c->steps = util_alloc(SHIP_STEPS_MAX * sizeof(*c->steps));
	for (uint32_t t = 0; t < a->ship->shm->threads; t++)
		atomic_store(&shm_counts(a->ship->shm, t, a->shm_slot)->longest_us, 0);
	shm_sum_slot(a->ship->shm, a->shm_slot, &c->base);
}

void ship_change_drop(struct ship_app *a)
{
	ship_change_free(a->change);
	a->change = a->before;
	a->before = NULL;
}

void ship_change_revive(struct ship_change *c)
{
	c->ended_ms = 0;
	c->reason[0] = '\0';
	util_copy(c->outcome, sizeof(c->outcome), "running");
}

void ship_change_tell(struct ship_app *a, struct ship_change *c, bool ended)
{
	const struct ship_ops *ops = &a->ship->ops;

	if (!ops->on_change)
		return;
	for (; c->told < c->step_count; c->told++)
		ops->on_change(ops->arg, a, c, &c->steps[c->told]);
	if (ended)
		ops->on_change(ops->arg, a, c, NULL);
}

void ship_change_step(struct ship_app *a, const char *fmt, ...)
{
	struct ship_change *c = a->change;
	struct ship_step *step;
	va_list ap;

	if (c->step_count == SHIP_STEPS_MAX) {
		c->steps_dropped++;
		return;
	}
	step = &c->steps[c->step_count++];
	va_start(ap, fmt);
	vsnprintf(step->name, sizeof(step->name), fmt, ap);
	va_end(ap);
	util_utf8(step->name);
	step->at_ms = clock_wall_ms();
	step->ms = step->at_ms - MIN(c->began_ms, step->at_ms);
}

void ship_receipt(const struct shm_sum *now, const struct shm_sum *base, struct ship_receipt *ret)
{
	struct shm_sum d = *now;

	shm_sum_minus(&d, base);
	*ret = (struct ship_receipt){
		.requests = d.requests,
		.answered = d.answered_2xx + d.answered_3xx + d.answered_4xx + d.answered_5xx +
			    d.redirected,
		.failed = d.failed_502 + d.failed_503_full + d.failed_503_waited + d.failed_504 +
			  d.failed_cut + d.failed_lost,
		.refused = d.refused_4xx + d.refused_503,
		.held = d.held,
		.retried = d.retried_unsent + d.retried_unread + d.retried_safe +
			   d.retried_moved,
		.slowed = d.slowed,
		.client_left = d.client_left,
		.p50_us = shm_quantile_us(&d, 0.5),
		.p99_us = shm_quantile_us(&d, 0.99),
		.longest_us = d.longest_us,
	};
}

void ship_change_end(struct ship_app *a, struct ship_change *c, const char *outcome, const char *reason)
{
	struct shm_sum now;

	shm_sum_slot(a->ship->shm, a->shm_slot, &now);
	ship_receipt(&now, &c->base, &c->receipt);
	util_copy(c->outcome, sizeof(c->outcome), outcome);
	util_text(c->reason, sizeof(c->reason), reason);
	c->ended_ms = clock_wall_ms();
	c->staging = false;
}

void ship_receipt_json(const struct ship_receipt *r, json_t *into)
{
	json_t *numbers = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "requests",
		(json_int_t)r->requests, "answered", (json_int_t)r->answered, "failed",
		(json_int_t)r->failed, "refused", (json_int_t)r->refused, "held", (json_int_t)r->held,
		"retried", (json_int_t)r->retried, "slowed", (json_int_t)r->slowed, "client_left",
		(json_int_t)r->client_left, "p50_ms", (double)r->p50_us / 1000, "p99_ms",
		(double)r->p99_us / 1000, "longest_ms", (double)r->longest_us / 1000);

	ensure(numbers);
	json_object_update(into, numbers);
	json_decref(numbers);
}

json_t *ship_change_json(const struct ship_app *a, const struct ship_change *c)
{
	char from[96], to[96], when[CLOCK_TEXT], at[CLOCK_TEXT];
	const struct ship_release *release = ship_release(a, c->to.release);
	const struct ship_settings *settings = ship_settings(a, c->to.settings);
	struct ship_receipt now = c->receipt;
	json_t *o, *steps = json_array();

	ship_version_name(a, c->from, from, sizeof(from));
	ship_version_name(a, c->to, to, sizeof(to));
	for (uint32_t i = 0; i < c->step_count; i++)
		json_array_append_new(steps, json_pack("{s:s, s:s, s:I}", "name", c->steps[i].name, "at",
						       clock_text(c->steps[i].at_ms, at), "ms",
						       (json_int_t)c->steps[i].ms));
	o = json_pack("{s:I, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:I}", "change",
		      (json_int_t)c->number, "app", a->name, "kind", ship_kind_name(c->kind), "from",
		      c->from.release ? json_string(from) : json_null(), "to", to, "outcome", c->outcome,
		      "reason", c->reason, "who", c->who, "when", clock_text(c->began_ms, when), "why",
		      c->why, "steps", steps, "ms",
		      (json_int_t)((c->ended_ms ? c->ended_ms : clock_wall_ms()) - c->began_ms));
	ensure(o);
	if (!c->ended_ms) {
		struct shm_sum sum;

		shm_sum_slot(a->ship->shm, a->shm_slot, &sum);
		ship_receipt(&sum, &c->base, &now);
	}
	ship_receipt_json(&now, o);
	if (release)
		json_object_set_new(o, "release", json_string(release->id));
	if (settings)
		json_object_set_new(o, "settings", json_string(settings->hash));
	return o;
}

static json_t *sum_save(const struct shm_sum *s)
{
	json_t *o = json_object(), *latency = json_array();

#define X(name, what) json_object_set_new(o, #name, json_integer((json_int_t)s->name));
	COUNT_TABLE(X)
#undef X
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		json_array_append_new(latency, json_integer((json_int_t)s->latency[i]));
	json_object_set_new(o, "latency", latency);
	return o;
}

static void sum_load(json_t *o, struct shm_sum *ret)
{
	json_t *latency = json_object_get(o, "latency");

	*ret = (struct shm_sum){0};
#define X(name, what) ret->name = (uint64_t)json_integer_value(json_object_get(o, #name));
	COUNT_TABLE(X)
#undef X
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		ret->latency[i] = (uint64_t)json_integer_value(json_array_get(latency, i));
}

static json_t *version_save(struct rollout_version v)
{
	return json_pack("[i, i]", (int)v.release, (int)v.settings);
}

static struct rollout_version version_load(json_t *o)
{
	return (struct rollout_version){(uint32_t)json_integer_value(json_array_get(o, 0)),
					(uint32_t)json_integer_value(json_array_get(o, 1))};
}

json_t *ship_change_save(const struct ship_change *c)
{
	json_t *steps = json_array(), *o;

	for (uint32_t i = 0; i < c->step_count; i++)
		json_array_append_new(steps, json_pack("[s, I, I]", c->steps[i].name,
						       (json_int_t)c->steps[i].at_ms,
						       (json_int_t)c->steps[i].ms));
	o = json_pack("{s:I, s:i, s:o, s:o, s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:o, s:i, s:[I,I,I,I,"
		      "I,I,I,I,I,I,I]}",
		      "number", (json_int_t)c->number, "kind", (int)c->kind, "from",
		      version_save(c->from), "to", version_save(c->to), "outcome", c->outcome, "reason",
		      c->reason, "who", c->who, "why", c->why, "began", (json_int_t)c->began_ms, "ended",
		      (json_int_t)c->ended_ms, "staging", c->staging, "steps", steps, "dropped",
		      (int)c->steps_dropped, "receipt", (json_int_t)c->receipt.requests,
		      (json_int_t)c->receipt.answered, (json_int_t)c->receipt.failed,
		      (json_int_t)c->receipt.refused, (json_int_t)c->receipt.held,
		      (json_int_t)c->receipt.retried, (json_int_t)c->receipt.slowed,
		      (json_int_t)c->receipt.client_left, (json_int_t)c->receipt.p50_us,
		      (json_int_t)c->receipt.p99_us, (json_int_t)c->receipt.longest_us);
	ensure(o);
	json_object_set_new(o, "key", json_string(c->key));
	json_object_set_new(o, "abort_key", json_string(c->abort_key));
	if (!c->ended_ms)
		json_object_set_new(o, "base", sum_save(&c->base));
	return o;
}

static uint64_t number_at(json_t *array, size_t i)
{
	return (uint64_t)json_integer_value(json_array_get(array, i));
}

struct ship_change *ship_change_load(json_t *o)
{
	struct ship_change *c = util_alloc(sizeof(*c));
	json_t *steps = json_object_get(o, "steps"), *r = json_object_get(o, "receipt"), *step;
	size_t i;

#define TEXT(field, key)                                                                           \
	util_copy(c->field, sizeof(c->field),                                                      \
		  json_string_value(json_object_get(o, key)) ?: "")
#define NUMBER(key) json_integer_value(json_object_get(o, key))
	c->number = (uint64_t)NUMBER("number");
	c->kind = (enum ship_kind)NUMBER("kind");
	c->from = version_load(json_object_get(o, "from"));
	c->to = version_load(json_object_get(o, "to"));
	TEXT(outcome, "outcome");
	TEXT(reason, "reason");
	TEXT(who, "who");
	TEXT(why, "why");
	TEXT(key, "key");
	TEXT(abort_key, "abort_key");
	c->began_ms = (uint64_t)NUMBER("began");
	c->ended_ms = (uint64_t)NUMBER("ended");
	c->staging = json_is_true(json_object_get(o, "staging"));
	c->steps_dropped = (uint32_t)NUMBER("dropped");
#undef TEXT
#undef NUMBER
	c->steps = util_alloc(SHIP_STEPS_MAX * sizeof(*c->steps));
	json_array_foreach (steps, i, step) {
		if (c->step_count == SHIP_STEPS_MAX)
			break;
		util_copy(c->steps[i].name, sizeof(c->steps[i].name),
			  json_string_value(json_array_get(step, 0)) ?: "");
		c->steps[i].at_ms = number_at(step, 1);
		c->steps[i].ms = number_at(step, 2);
		c->told = ++c->step_count;
	}
	c->receipt = (struct ship_receipt){number_at(r, 0), number_at(r, 1), number_at(r, 2),
					   number_at(r, 3), number_at(r, 4), number_at(r, 5),
					   number_at(r, 6), number_at(r, 7), number_at(r, 8),
					   number_at(r, 9), number_at(r, 10)};
	if (json_object_get(o, "base"))
		sum_load(json_object_get(o, "base"), &c->base);
	return c;
}
