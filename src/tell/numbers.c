/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /v1/numbers: the counters of every app and target as they stand in memory, for who makes
 * rates and quantiles of a span himself (upstate top). What is 0 is left out.
 */
#include "tell/scrape.h"

#include <string.h>

#include "base/clock.h"

/* What counts up, what is there now, and the histogram as [bucket, number] pairs. */
static void add_numbers(struct scrape *s, uint32_t slot, json_t *o)
{
	json_t *counts = json_object(), *now = json_object(), *latency = json_array();
	struct shm_sum sum;

	shm_sum_slot(s->c->t->ship->shm, slot, &sum);
#define X(name, what)                                                                              \
	if (sum.name)                                                                              \
		json_object_set_new(counts, #name, json_integer((json_int_t)sum.name));
	COUNT_TABLE(X)
#undef X
#define X(name, what)                                                                              \
	if ((int64_t)sum.name > 0)                                                                 \
		json_object_set_new(now, #name, json_integer((json_int_t)sum.name));
	GAUGE_TABLE(X)
#undef X
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		if (sum.latency[i])
			json_array_append_new(latency,
					      json_pack("[i, I]", (int)i, (json_int_t)sum.latency[i]));
	json_object_set_new(o, "counts", counts);
	json_object_set_new(o, "now", now);
	json_object_set_new(o, "latency_us", json_integer((json_int_t)sum.latency_us));
	json_object_set_new(o, "latency", latency);
}

static json_t *app_json(struct ship_app *a)
{
	const struct ship_release *now = ship_release(a, a->rollout.current.release);
	struct tell_status_of of;

	tell_app_status_of(a, &of);
	return json_pack("{s:s, s:s, s:s, s:b, s:o}", "name", a->name, "status", of.status, "reason", of.reason,
			 "held", a->held || a->rollout.hold, "release",
			 now ? json_sprintf("%s@%u", a->name, now->number) : json_null());
}

static json_t *target_json(struct ship_app *a, const struct scrape_subject *x)
{
	static const char *const keys[] = {"name", "status", "reason", "release", "use", "state"};
	const struct rollout_unit *u;
	const struct ship_target *g;
	json_t *o = json_pack("{s:s}", "app", a->name), *all;

	scrape_target(a, x, &u, &g);
	all = u ? tell_unit_json(a, u) : g ? tell_target_json(a, g) : NULL;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (json_object_get(all, keys[i]))
			json_object_set(o, keys[i], json_object_get(all, keys[i]));
	if (!all)
		json_decref(TAKE(o));
	json_decref(all);
	return o;
}

static void add_subject(struct scrape *s, const struct scrape_subject *x, bool *first)
{
	struct ship_app *a = scrape_app(s, x);
	json_t *o = !a ? NULL : x->target ? target_json(a, x) : app_json(a);
	CLEANUP_FREE char *text = NULL;

	if (!o)
		return;
	add_numbers(s, x->slot, o);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	buf_adds(&s->out, *first ? "" : ",\n");
	buf_adds(&s->out, text);
	*first = false;
}

static void add_head(struct scrape *s)
{
	buf_addf(&s->out, "{\"now_us\": %llu, \"buckets_us\": [", (unsigned long long)clock_us());
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		buf_addf(&s->out, "%s%llu", i ? "," : "", (unsigned long long)shm_bucket_us(i));
	buf_adds(&s->out, "],\n\"apps\": [");
}

/* step: 0 apps, 1 targets; doubled, with 1 more once one of the list is out. */
static bool more(struct scrape *s)
{
	if (s->step == 0 && s->at == 0)
		add_head(s);
	for (; s->step < 4; s->step = s->step / 2 * 2 + 2, s->at = 0) {
		bool first = s->step % 2 == 0;

		while (s->at < s->count) {
			const struct scrape_subject *x = &s->subjects[s->at++];

			if (x->target == (s->step >= 2))
				add_subject(s, x, &first);
			s->step |= !first;
			if (scrape_is_piece(s))
				return false;
		}
		buf_adds(&s->out, s->step < 2 ? "],\n\"targets\": [" : "]}\n");
	}
	return true;
}

void tell_numbers(struct call *c, json_t *body UNUSED)
{
	char app[SHIP_NAME];
	bool one = server_param(c->r, "app", app, sizeof(app));
	struct ship_app *a;
	struct err e;

	if (one && ship_find_or_list(c->t->ship, app, &a, &e) < 0)
		tell_answer_err(c, &e);
	else
		scrape_begin(c, "application/json", one ? app : NULL, false, more);
}
