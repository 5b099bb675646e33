/* SPDX-License-Identifier: Apache-2.0
 *
 * Times are kept in buckets that grow with the time, so that a percentile of millions
 * of requests costs 8 KB and is right to 3 %; the longest is exact.
 */
#include "tally.h"

#include <string.h>

static const struct {
	const char *name;
	bool failed;
} outcomes[] = {
#define X(name, key, failed) [OUTCOME_##name] = {#key, failed},
    OUTCOME_TABLE(X)
#undef X
};

bool outcome_failed(enum outcome o)
{
	return outcomes[o].failed;
}

const char *outcome_name(enum outcome o)
{
	return outcomes[o].name;
}

struct tally *tally_new(const char *name, uint64_t now_us)
{
	struct tally *t = util_alloc(sizeof(*t));

	memset(t, 0, sizeof(*t));
	util_copy(t->name, sizeof(t->name), name);
	t->begin_us = now_us;
	t->faults = json_array();
	return t;
}

void tally_free(struct tally *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->sample_count; i++)
		free(t->samples[i]);
	json_decref(t->faults);
	free(t);
}

/* 0..31 as they are; then 32 buckets for each doubling. */
static unsigned bucket(uint64_t us)
{
	unsigned bits = us < 32 ? 0 : 63 - (unsigned)__builtin_clzll(us) - 5;

	return MIN(bits * 32 + (unsigned)(us >> bits), TALLY_TIMES - 1);
}

static uint64_t bucket_us(unsigned b)
{
	unsigned bits = b < 64 ? 0 : b / 32 - 1;

	return ((uint64_t)(b - bits * 32) << bits) + ((1ull << bits) >> 1);
}

void tally_settle(struct tally *t, enum outcome o, enum method m, uint64_t took_us, bool permitted)
{
	t->by[o][m]++;
	t->settled++;
	t->permitted += permitted && outcomes[o].failed;
	t->times[bucket(took_us)]++;
	t->longest_us = MAX(t->longest_us, took_us);
}

void tally_version(struct tally *t, const char *name, size_t len)
{
	if (!len) /* --plain looks at no version */
		return;
	len = MIN(len, sizeof(t->versions[0].name) - 1);
	for (int i = 0; i < TALLY_VERSIONS; i++) {
		if (!t->versions[i].count)
			memcpy(t->versions[i].name, name, len);
		if (strlen(t->versions[i].name) == len &&
		    memcmp(t->versions[i].name, name, len) == 0) {
			t->versions[i].count++;
			return;
		}
	}
}

void tally_sample(struct tally *t, const char *text)
{
	if (t->sample_count < TALLY_SAMPLES)
		t->samples[t->sample_count++] = util_strdup(text);
}

uint64_t tally_failed(const struct tally *t)
{
	uint64_t n = 0;

	for (int o = 0; o < OUTCOME_COUNT; o++)
		for (int m = 0; m < METHOD_COUNT; m++)
			n += outcomes[o].failed ? t->by[o][m] : 0;
	return n;
}

uint64_t tally_wrong(const struct tally *t)
{
	return t->by[OUTCOME_WRONG][METHOD_GET] + t->by[OUTCOME_WRONG][METHOD_POST] + t->stray;
}

uint64_t tally_percentile_us(const struct tally *t, unsigned permille)
{
	uint64_t want = (t->settled * permille + 999) / 1000, seen = 0;

	for (unsigned b = 0; b < TALLY_TIMES; b++) {
		seen += t->times[b];
		if (seen >= want && seen)
			return MIN(bucket_us(b), t->longest_us);
	}
	return 0;
}

static json_t *ms(uint64_t us)
{
	return json_real((double)us / 1000.0);
}

static json_t *by_method(const struct tally *t, enum method m)
{
	uint64_t all = 0, failed = 0;

	for (int o = 0; o < OUTCOME_COUNT; o++) {
		all += t->by[o][m];
		failed += outcomes[o].failed ? t->by[o][m] : 0;
	}
	return json_pack("{s:I, s:I, s:I}", "requests", (json_int_t)all, "failed",
			 (json_int_t)failed, "wrong", (json_int_t)t->by[OUTCOME_WRONG][m]);
}

static json_t *classes(const struct tally *t)
{
	json_t *j = json_object();

	for (int o = 0; o < OUTCOME_COUNT; o++)
		json_object_set_new(
		    j, outcomes[o].name,
		    json_integer((json_int_t)(t->by[o][METHOD_GET] + t->by[o][METHOD_POST])));
	return j;
}

json_t *tally_json(const struct tally *t, uint64_t now_us)
{
	uint64_t failed = tally_failed(t);
	json_t *j = json_object(), *versions = json_object(), *samples = json_array();

	for (int i = 0; i < TALLY_VERSIONS && t->versions[i].count; i++)
		json_object_set_new(versions, t->versions[i].name,
				    json_integer((json_int_t)t->versions[i].count));
	for (uint32_t i = 0; i < t->sample_count; i++)
		json_array_append_new(samples, json_string(t->samples[i]));
	json_object_set_new(j, "name", json_string(t->name));
	json_object_set_new(
	    j, "seconds",
	    json_real((double)((t->end_us ? t->end_us : now_us) - t->begin_us) / 1e6));
	json_object_set_new(j, "requests", json_integer((json_int_t)t->settled));
	json_object_set_new(j, "failed", json_integer((json_int_t)failed));
	json_object_set_new(j, "permitted", json_integer((json_int_t)t->permitted));
	json_object_set_new(j, "not_permitted", json_integer((json_int_t)(failed - t->permitted)));
	json_object_set_new(j, "wrong", json_integer((json_int_t)tally_wrong(t)));
	json_object_set_new(j, "stray", json_integer((json_int_t)t->stray));
	json_object_set_new(j, "waited", json_integer((json_int_t)t->waited));
	json_object_set_new(j, "client_late_ms", ms(t->late_us));
	json_object_set_new(j, "p50_ms", ms(tally_percentile_us(t, 500)));
	json_object_set_new(j, "p99_ms", ms(tally_percentile_us(t, 990)));
	json_object_set_new(j, "p999_ms", ms(tally_percentile_us(t, 999)));
	json_object_set_new(j, "longest_ms", ms(t->longest_us));
	json_object_set_new(j, "classes", classes(t));
	json_object_set_new(j, "get", by_method(t, METHOD_GET));
	json_object_set_new(j, "post", by_method(t, METHOD_POST));
	json_object_set_new(j, "versions", versions);
	json_object_set(j, "faults", t->faults);
	json_object_set_new(j, "failures", samples);
	return j;
}
