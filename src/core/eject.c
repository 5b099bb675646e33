/* SPDX-License-Identifier: Apache-2.0 */
#include "core/eject.h"

#include <string.h>

#define OTHERS_MAX 256 /* more are not looked at: the median of so many is the median */

/* --- the window --- */

static struct eject_numbers minus(struct eject_numbers a, struct eject_numbers b)
{
	return (struct eject_numbers){a.tries - b.tries, a.failed - b.failed,
				      a.server_errors - b.server_errors, a.answers - b.answers,
				      a.answers_us - b.answers_us};
}

void eject_count(struct eject_window *w, const struct eject_numbers *now, uint32_t window_ms,
		 uint64_t now_ms)
{
	uint64_t age = now_ms - w->since_ms;

	if (!w->since_ms || age >= 2ull * window_ms || now->tries < w->base.tries) {
		*w = (struct eject_window){.base = *now, .last = *now, .since_ms = now_ms};
		return;
	}
	w->last = *now;
	if (age < window_ms)
		return;
	w->before = minus(*now, w->base);
	w->base = *now;
	w->since_ms += window_ms;
}

static uint64_t blend(uint64_t before, uint64_t so_far, uint64_t left, uint64_t of)
{
	return so_far + before * left / of;
}

static struct eject_numbers in_window(const struct eject_window *w, uint32_t window_ms,
				      uint64_t now_ms)
{
	struct eject_numbers n = minus(w->last, w->base), b = w->before;
	uint64_t age = MIN(now_ms - w->since_ms, (uint64_t)window_ms), left = window_ms - age;

	return (struct eject_numbers){blend(b.tries, n.tries, left, window_ms),
				      blend(b.failed, n.failed, left, window_ms),
				      blend(b.server_errors, n.server_errors, left, window_ms),
				      blend(b.answers, n.answers, left, window_ms),
				      blend(b.answers_us, n.answers_us, left, window_ms)};
}

/* --- the judge --- */

bool eject_allowed(const struct eject_seen *all, uint32_t n, uint32_t i)
{
	uint32_t serving = 0, ejected = 0, others_up = 0;

	for (uint32_t j = 0; j < n; j++) {
		bool out = all[j].e && all[j].e->cause != EJECT_NO;

		if (all[j].use != USE_SERVE)
			continue;
		serving++;
		ejected += out;
		others_up += j != i && !out && all[j].health == HEALTH_UP;
	}
	return others_up && 2 * (ejected + 1) <= serving;
}

static void sort(uint64_t *v, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		uint64_t x = v[i];
		uint32_t j = i;

		for (; j && v[j - 1] > x; j--)
			v[j] = v[j - 1];
		v[j] = x;
	}
}

static uint64_t permille(const struct eject_numbers *n)
{
	return n->server_errors * 1000 / MAX(n->tries, 1ull);
}

static uint64_t mean_us(const struct eject_numbers *n)
{
	return n->answers_us / MAX(n->answers, 1ull);
}

/* The (lower) median of what the other targets that take part have; false: nobody to compare with. */
static bool median(const struct eject_rules *r, const struct eject_seen *all, uint32_t n, uint32_t i,
		   uint64_t now_ms, uint64_t (*of)(const struct eject_numbers *), uint64_t *ret)
{
	uint64_t v[OTHERS_MAX];
	uint32_t len = 0;

	for (uint32_t j = 0; j < n && len < OTHERS_MAX; j++) {
		struct eject_numbers w;

		if (j == i || all[j].use != USE_SERVE || !all[j].e || all[j].e->cause != EJECT_NO ||
		    all[j].health != HEALTH_UP)
			continue;
		w = in_window(&all[j].e->window, r->window_ms, now_ms);
		if (w.tries >= r->requests)
			v[len++] = of(&w);
	}
	if (!len)
		return false;
	sort(v, len);
	*ret = v[(len - 1) / 2];
	return true;
}

static enum eject_cause speaks(const struct eject_rules *r, const struct eject_seen *all, uint32_t n,
			       uint32_t i, uint64_t now_ms, uint32_t *ret_value)
{
	struct eject_numbers w = in_window(&all[i].e->window, r->window_ms, now_ms);
	uint64_t others;

	if (all[i].silent) {
		*ret_value = r->silent_ms;
		return EJECT_STUCK;
	}
	if (r->failures && all[i].streak >= r->failures) {
		*ret_value = all[i].streak;
		return EJECT_FAILURES;
	}
	if (w.tries < r->requests)
		return EJECT_NO;
	if (r->errors && w.failed * 100 >= (uint64_t)r->errors * w.tries) {
		*ret_value = (uint32_t)(w.failed * 100 / w.tries);
		return EJECT_ERRORS;
	}
	if (r->server_errors && median(r, all, n, i, now_ms, permille, &others) &&
	    permille(&w) >= others + 10ull * r->server_errors) {
		*ret_value = (uint32_t)(permille(&w) / 10);
		return EJECT_SERVER_ERRORS;
	}
	if (r->latency && median(r, all, n, i, now_ms, mean_us, &others) &&
	    mean_us(&w) >= others * r->latency &&
	    mean_us(&w) >= others + 1000ull * r->latency_least_ms) {
		*ret_value = (uint32_t)MIN(mean_us(&w) / 1000, (uint64_t)UINT32_MAX);
		return EJECT_LATENCY;
	}
	return EJECT_NO;
}

enum eject_cause eject_judge(const struct eject_rules *r, const struct eject_seen *all, uint32_t n,
			     uint32_t i, uint64_t now_ms, uint32_t *ret_value)
{
	const struct eject_seen *g = &all[i];
	enum eject_cause cause;

	if (g->use != USE_SERVE || !g->e || g->e->cause != EJECT_NO || g->health != HEALTH_UP)
		return EJECT_NO;
	cause = speaks(r, all, n, i, now_ms, ret_value);
	return cause == EJECT_NO || eject_allowed(all, n, i) ? cause : EJECT_NO;
}

/* --- its time --- */

void eject_begin(struct eject *e, const struct eject_rules *r, enum eject_cause cause,
		 uint32_t value, uint64_t now_ms)
{
	uint64_t time = r->time_ms;

	/* Who did well for as long as it can ever be ejected begins anew. */
	if (e->ended_ms && now_ms - e->ended_ms >= r->most_ms)
		e->times = 0;
	for (uint32_t i = 0; i < e->times && time < r->most_ms; i++)
		time *= 2;
	e->times += e->times < UINT32_MAX;
	e->cause = cause;
	e->value = value;
	e->passes = 0;
	e->until_ms = cause == EJECT_STUCK ? 0 : now_ms + MIN(time, (uint64_t)r->most_ms);
}

void eject_turned_stuck(struct eject *e)
{
	e->cause = EJECT_STUCK;
	e->passes = 0;
}

void eject_probed(struct eject *e, bool passed)
{
	e->passes = passed ? e->passes + (e->passes < UINT32_MAX) : 0;
}

bool eject_over(const struct eject *e, uint32_t rise, bool has_path, uint64_t now_ms)
{
	bool proof = has_path || e->cause == EJECT_STUCK;

	return e->cause != EJECT_NO && now_ms >= e->until_ms && (!proof || e->passes >= rise);
}

void eject_end(struct eject *e, uint64_t now_ms)
{
	e->cause = EJECT_NO;
	e->ended_ms = now_ms;
	/* It is judged by what it does from now on. */
	e->window = (struct eject_window){.since_ms = 0};
}
