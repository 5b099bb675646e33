/* SPDX-License-Identifier: Apache-2.0
 *
 * What happened between two answers of /v1/numbers. Counters only grow while the keeper lives; one
 * that did not was born anew, and then nothing is said of the interval.
 */
#include <string.h>

#include "base/map.h"
#include "cli/show.h"
#include "cli/top.h"
#include "wire/shm.h"

static uint64_t id_of(const json_t *o)
{
	const char *app = field_text(o, "app"), *name = field_text(o, "name");

	return map_hash_more(map_hash(app, strlen(app) + 1), name, strlen(name)) | 1;
}

static uint64_t count_of(const json_t *o, const char *name)
{
	return field_count(json_object_get(o, "counts"), name);
}

/* All counters with names that begin so. */
static uint64_t count_all(const json_t *o, const char *prefix)
{
	json_t *counts = json_object_get(o, "counts"), *v;
	uint64_t sum = 0;
	const char *key;

	json_object_foreach (counts, key, v)
		if (strncmp(key, prefix, strlen(prefix)) == 0)
			sum += (uint64_t)MAX(json_integer_value(v), 0);
	return sum;
}

static void add_latency(const json_t *o, int sign, struct shm_sum *sum)
{
	const json_t *list = json_object_get(o, "latency"), *pair;
	size_t i;

	json_array_foreach (list, i, pair) {
		json_int_t at = json_integer_value(json_array_get(pair, 0));

		if (at >= 0 && at < SHM_BUCKETS)
			sum->latency[at] += (uint64_t)(sign * json_integer_value(json_array_get(pair, 1)));
	}
}

/* The end of the bucket, as everywhere in Upstate. */
static void find_quantiles(const json_t *before, const json_t *now, struct top_row *r)
{
	struct shm_sum sum = {0};
	uint64_t total = 0;

	add_latency(now, 1, &sum);
	add_latency(before, -1, &sum);
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		total += sum.latency[i];
	if (!total)
		return;
	r->p50_ms = (double)shm_quantile_us(&sum, 0.5) / 1000;
	r->p99_ms = (double)shm_quantile_us(&sum, 0.99) / 1000;
}

static bool went_back(const json_t *before, const json_t *now)
{
	return count_of(now, "requests") < count_of(before, "requests") ||
	       field_count(now, "latency_us") < field_count(before, "latency_us");
}

static void fill(const json_t *before, const json_t *now, bool target, double seconds, struct top_row *r)
{
	const json_t *gauges = json_object_get(now, "now");

	*r = (struct top_row){.app = field_text(now, target ? "app" : "name"), .name = field_text(now, "name"),
			      .status = field_text(now, "status"), .reason = field_text(now, "reason"),
			      .release = field_text(now, "release"), .use = field_text(now, "use"),
			      .state = field_text(now, "state"), .target = target,
			      .held = json_is_true(json_object_get(now, "held")),
			      .waiting = field_count(gauges, "waiting"), .inside = field_count(gauges, "inflight"),
			      .connections = field_count(gauges, "connections"), .p50_ms = -1, .p99_ms = -1};
	if (!(seconds > 0) || !before || went_back(before, now))
		return;
	r->known = true;
	r->requests = (double)(count_of(now, "requests") - count_of(before, "requests")) / seconds;
	r->failed = (double)(count_all(now, "failed_") - count_all(before, "failed_")) / seconds;
	r->retried = (double)(count_all(now, "retried_") - count_all(before, "retried_")) / seconds;
	find_quantiles(before, now, r);
}

static void put_all(struct map *m, const json_t *list)
{
	json_t *o;
	size_t i;

	json_array_foreach (list, i, o)
		map_put(m, id_of(o), o);
}

void top_rows(const json_t *before, json_t *now, struct top *ret)
{
	CLEANUP(map_free) struct map old = {0}, apps = {0};
	double from = field_real(before, "now_us"), to = field_real(now, "now_us");
	const json_t *lists[] = {json_object_get(now, "apps"), json_object_get(now, "targets")}, *o;
	size_t i;

	*ret = (struct top){.numbers = json_incref(now), .seconds = before && to > from ? (to - from) / 1e6 : 0};
	ret->rows = util_alloc((json_array_size(lists[0]) + json_array_size(lists[1]) + 1) * sizeof(*ret->rows));
	put_all(&old, json_object_get(before, "apps"));
	put_all(&old, json_object_get(before, "targets"));
	for (int target = 0; target < 2; target++) {
		json_array_foreach (lists[target], i, o) {
			struct top_row *r = &ret->rows[ret->count++], *app;

			fill(map_get(&old, id_of(o)), o, target, ret->seconds, r);
			if (!target)
				map_put(&apps, map_hash(r->name, strlen(r->name)), r);
			else if ((app = map_get(&apps, map_hash(r->app, strlen(r->app)))))
				app->connections += r->connections;
		}
	}
}

void top_free(struct top *t)
{
	free(t->rows);
	json_decref(t->numbers);
	*t = (struct top){0};
}

/* --- order --- */

static double key_of(const struct top_row *r, enum top_key key)
{
	switch (key) {
	case TOP_REQUESTS:
		return r->requests;
	case TOP_P99:
		return r->p99_ms;
	case TOP_FAILED:
		return r->failed;
	case TOP_HELD:
		return (double)r->waiting;
	case TOP_INSIDE:
		return (double)r->inside;
	default:
		return 0;
	}
}

static int compare(const void *x, const void *y)
{
	const struct top_row *a = x, *b = y;
	int by_app = strcmp(a->app, b->app);

	if (a->app_key != b->app_key)
		return a->app_key < b->app_key ? 1 : -1;
	if (by_app || a->target != b->target)
		return by_app ? by_app : a->target - b->target;
	if (a->key != b->key)
		return a->key < b->key ? 1 : -1;
	return strcmp(a->name, b->name);
}

void top_sort(struct top *t, enum top_key key)
{
	CLEANUP(map_free) struct map apps = {0};

	for (size_t i = 0; i < t->count; i++) {
		struct top_row *r = &t->rows[i];
		uint64_t app = map_hash(r->app, strlen(r->app));
		const struct top_row *of = map_get(&apps, app);

		/* The balancer gives targets the same work: by that they would only change places. */
		r->key = r->target && key == TOP_REQUESTS ? 0 : key_of(r, key);
		r->app_key = of ? of->key : r->key;
		if (!r->target)
			map_put(&apps, app, r);
	}
	/* Sorting moves rows, so nothing may point to them from here on. */
	qsort(t->rows, t->count, sizeof(*t->rows), compare);
}

/* --- JSON --- */

static json_t *row_json(const struct top_row *r)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:I}", "name", r->name, "status", r->status, "reason",
			      r->reason, "release", *r->release ? json_string(r->release) : json_null(), "waiting",
			      (json_int_t)r->waiting, "inside", (json_int_t)r->inside, "connections",
			      (json_int_t)r->connections);
	const struct {
		const char *key;
		double value;
		bool known;
	} numbers[] = {{"requests_per_s", r->requests, r->known}, {"failed_per_s", r->failed, r->known},
		       {"retried_per_s", r->retried, r->known},	  {"p50_ms", r->p50_ms, r->p50_ms >= 0},
		       {"p99_ms", r->p99_ms, r->p99_ms >= 0}};

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		json_object_set_new(o, numbers[i].key,
				    numbers[i].known ? json_real(numbers[i].value) : json_null());
	if (r->target)
		json_object_set_new(o, "use", json_string(r->use));
	else
		json_object_set_new(o, "held", json_boolean(r->held));
	return o;
}

/* In the order of the rows; they must be sorted. */
json_t *top_json(const struct top *t)
{
	json_t *apps = json_array(), *targets = NULL;

	for (size_t i = 0; i < t->count; i++) {
		json_t *o = row_json(&t->rows[i]);

		if (t->rows[i].target && targets) {
			json_array_append_new(targets, o);
			continue;
		}
		targets = json_array();
		json_object_set_new(o, "targets", targets);
		json_array_append_new(apps, o);
	}
	return json_pack("{s:f, s:o}", "seconds", t->seconds, "apps", apps);
}
