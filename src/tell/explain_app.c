/* SPDX-License-Identifier: Apache-2.0
 *
 * What an app would do with a request: who could get it, how it would wait, what would happen if, and
 * what would be added.
 */
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "core/balance.h"
#include "core/eject.h"
#include "core/hold.h"
#include "tell/explain_priv.h"
#include "wire/trace.h"

#define EXPLAIN_TARGETS_MAX 256

/* --- its targets --- */

/* All that may be next, whoever's turn it is. */
static enum balance_verdict find_next(const struct balance_target *b, uint32_t n, uint32_t limit, bool *next)
{
	enum balance_verdict v = BALANCE_NONE;
	uint32_t at;

	for (uint32_t turn = 0; turn < MAX(n, 1); turn++) {
		v = balance_pick(b, n, limit, turn, &at);
		if (v != BALANCE_PICKED)
			return v;
		next[at] = true;
	}
	return v;
}

static const char *remark(const struct balance_target *b, uint32_t limit, bool next)
{
	static const char *const uses[USE_COUNT] = {[USE_PROBE] = "gets no requests yet",
						    [USE_DRAIN] = "drains: gets nothing new",
						    [USE_FENCE] = "fenced: gets nothing"};

	if (next)
		return "next";
	if (b->use != USE_SERVE)
		return uses[b->use];
	if (b->health == HEALTH_DOWN)
		return "down";
	if (b->avoid)
		return "ejected: gets nothing while others serve";
	if (limit && b->outstanding >= limit)
		return "full";
	return b->health == HEALTH_UNKNOWN ? "not looked at yet" : "has more inside";
}

static json_t *target_json(struct explain *x, const struct table_target *g, const struct balance_target *b, bool next)
{
	static const char *const uses[] = {
#define X(name, lower, what) [USE_##name] = #lower,
		TARGET_USE_TABLE(X)
#undef X
	};
	static const char *const states[] = {
#define X(name, lower) [TARGET_##name] = #lower,
		TARGET_STATE_TABLE(X)
#undef X
	};
	const struct shm_slot *slot = &x->c->t->ship->shm->slot[g->slot];
	uint32_t state = atomic_load(&slot->state);
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:b, s:s}", "name", table_string(x->t, g->name), "use",
			      uses[g->use], "state", state < ARRAY_LEN(states) ? states[state] : "unknown",
			      "inside", (json_int_t)b->outstanding, "next", next, "remark",
			      remark(b, x->app->target_limit, next));

	if (g->release)
		json_object_set_new(o, "release", json_sprintf("%s@%u", x->ship_app->name, g->release));
	if (state == TARGET_DOWN)
		json_object_set_new(o, "reason", json_string(ship_probe_error(atomic_load(&slot->error))));
	return o;
}

static void see_target(struct explain *x, const struct table_target *g, struct balance_target *b)
{
	static const enum health_state health[] = {
		[TARGET_UNKNOWN] = HEALTH_UNKNOWN, [TARGET_UP] = HEALTH_UP, [TARGET_DOWN] = HEALTH_DOWN};
	struct shm *shm = x->c->t->ship->shm;
	uint32_t state = atomic_load(&shm->slot[g->slot].state);
	struct shm_sum sum;

	shm_sum_slot(shm, g->slot, &sum);
	*b = (struct balance_target){.use = (enum target_use)g->use,
				     .health = state < ARRAY_LEN(health) ? health[state] : HEALTH_UNKNOWN,
				     .avoid = atomic_load(&shm->slot[g->slot].ejected) != EJECT_NO,
				     .outstanding = (uint32_t)MAX((int64_t)sum.inflight, 0)};
}

/* Since when has nobody been able to serve? When the last of them went down. */
static uint64_t outage_since(const struct explain *x)
{
	const struct table_target *g = table_targets(x->t) + x->app->first_target;
	uint64_t since = 0;

	for (uint32_t i = 0; i < x->app->target_count; i++)
		if (g[i].use == USE_SERVE)
			since = MAX(since, shm_get(&x->c->t->ship->shm->slot[g[i].slot].since_ms));
	return since;
}

static void explain_waiting(struct explain *x, enum hold_reason reason, const struct shm_sum *sum, const char *because)
{
	const struct table_app *a = x->app;
	struct hold_limits l = {a->hold_wait_ms, a->hold_requests, a->hold_bytes};
	uint64_t now = clock_ms(), until = 0;
	struct hold h = {.reason = reason, .outage_since_ms = reason == HOLD_OUTAGE ? outage_since(x) : 0};
	char span[CLOCK_TEXT];

	switch (hold_admit(&h, &l, (uint32_t)sum->waiting, sum->waiting_bytes, x->text.len, now, now, &until)) {
	case HOLD_WAIT:
		explain_decide(x, "wait", 0, "%s: it waits, %s at most, with %llu others, and then gets 503", because,
		       clock_span(until - now, span), (unsigned long long)sum->waiting);
		break;
	case HOLD_REFUSE_FULL:
		explain_decide(x, "refuse", 503, "%s, and the waiting room is full: %llu of %u wait", because,
		       (unsigned long long)sum->waiting, a->hold_requests);
		break;
	case HOLD_REFUSE_LATE:
		explain_decide(x, "refuse", 503, "%s, for longer than requests may wait (%s)", because,
		       clock_span(a->hold_wait_ms, span));
		break;
	}
}

static void add_name(struct buf *list, const char *name)
{
	buf_addf(list, "%s%s", list->len ? ", " : "", name);
}

void explain_targets(struct explain *x)
{
	const struct table_target *g = table_targets(x->t) + x->app->first_target;
	uint32_t n = MIN(x->app->target_count, EXPLAIN_TARGETS_MAX);
	struct balance_target b[EXPLAIN_TARGETS_MAX];
	bool next[EXPLAIN_TARGETS_MAX] = {false};
	CLEANUP_BUF struct buf names = {.max = 400};
	json_t *list = json_array();
	enum balance_verdict v;
	struct shm_sum sum;

	for (uint32_t i = 0; i < n; i++)
		see_target(x, &g[i], &b[i]);
	v = find_next(b, n, x->app->target_limit, next);
	for (uint32_t i = 0; i < n; i++) {
		json_array_append_new(list, target_json(x, &g[i], &b[i], next[i]));
		if (next[i])
			add_name(&names, table_string(x->t, g[i].name));
	}
	json_object_set_new(x->o, "targets", list);
	if (n < x->app->target_count)
		explain_unknown(x, "what the other %u targets would do", x->app->target_count - n);
	shm_sum_slot(x->c->t->ship->shm, x->app->slot, &sum);
	json_object_set_new(x->o, "waiting", json_pack("{s:I, s:i, s:i}", "now", (json_int_t)sum.waiting, "bound",
						       (int)x->app->hold_requests, "wait_ms",
						       (int)x->app->hold_wait_ms));
	if (x->app->hold)
		explain_waiting(x, HOLD_ORDER, &sum, "the app is held, by order");
	else if (v == BALANCE_NONE)
		explain_waiting(x, HOLD_OUTAGE, &sum, n ? "none of its targets can serve" : "it has no target");
	else if (v == BALANCE_FULL)
		explain_waiting(x, HOLD_FULL, &sum, "every target that is up has as many as it may have");
	else
		explain_decide(x, "send", 0, "it goes to %s%s", buf_str(&names),
		       strchr(buf_str(&names), ',') ? ", in turn" : "");
	if (v == BALANCE_PICKED && !x->app->hold && sum.waiting)
		explain_unknown(x, "%llu wait already: a thread of the router that has some of them lets those go first",
			    (unsigned long long)sum.waiting);
}

/* --- what would happen otherwise, and what is added --- */

static PRINTF(3, 4) void add_case(json_t *list, const char *when, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(list, json_pack("{s:s, s:s}", "if", when, "then", text));
}

void explain_cases(struct explain *x)
{
	const struct table_app *a = x->app;
	bool safe = (x->head.is_get || x->head.is_head) && x->head.framing == HTTP1_BODY_NONE;
	json_t *list = json_array();
	char span[CLOCK_TEXT], more[CLOCK_TEXT];

	clock_span(a->hold_wait_ms, span);
	add_case(list, "the app is held", "it waits %s at most among %u at most, then 503", span, a->hold_requests);
	add_case(list, "all targets are down", "it waits until %s after that began, then 503; later ones get 503 at once",
		 span);
	if (a->target_limit)
		add_case(list, "all targets are full", "it waits %s at most, then 503 (full: %u are inside)", span,
			 a->target_limit);
	add_case(list, "the target does not answer", "504 after %s%s", clock_span(a->response_ms, more),
		 safe ? "" : "; it is never sent twice");
	add_case(list, "the target breaks before it answers", "%s",
		 safe ? "it is sent once more, to another one if there is one; then 502"
		      : a->h2 ? "it is sent again if it did not go out or the target says that it does not work on it; "
				"else 502"
		      : a->retry_unread
			    ? "it is sent to another one if nothing of it was written or the socket proves it "
			      "unread; else 502"
			    : "it is sent to another one if nothing of it was written; else 502");
	json_object_set_new(x->o, "otherwise", list);
}

static void add_header(json_t *list, const char *name, const char *value)
{
	char text[900];

	util_text(text, sizeof(text), value);
	json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "value", text));
}

static void explain_trace(struct explain *x, json_t *list)
{
	struct http1_slice came = http1_get(&x->head, HTTP1_TRACEPARENT);
	struct trace trace;
	char text[100];

	if (x->t->limits.trace == TRACE_OFF)
		return;
	if (trace_parse(came.p, came.len, &trace)) {
		snprintf(text, sizeof(text), "00-%.*s-PARENT-%02x, PARENT made anew", TRACE_ID, trace.id, trace.flags);
		add_header(list, "traceparent", text);
	} else if (x->t->limits.trace == TRACE_MAKE) {
		add_header(list, "traceparent", "made anew: 00-TRACE-PARENT-01");
	}
}

/* As route/headers.c writes them. */
void explain_headers(struct explain *x)
{
	const char *ip = x->from[0] ? x->from : "CLIENT", *open = strchr(ip, ':') ? "\"[" : "",
		   *shut = *open ? "]\"" : "";
	bool tls = x->https && x->t->limits.https_port;
	json_t *list = json_array();
	CLEANUP_BUF struct buf b = {.max = 800};
	struct http1_slice theirs = http1_get(&x->head, HTTP1_X_FORWARDED_FOR), host = x->head.host;

	if (x->trusted && theirs.len)
		buf_addf(&b, "%.*s, ", (int)theirs.len, theirs.p);
	buf_adds(&b, ip);
	add_header(list, "X-Forwarded-For", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_X_FORWARDED_PROTO) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s", theirs.len ? (int)theirs.len : 5, theirs.len ? theirs.p : tls ? "https" : "http");
	add_header(list, "X-Forwarded-Proto", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_X_FORWARDED_HOST) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s", (int)(theirs.len ? theirs.len : host.len), theirs.len ? theirs.p : host.p);
	add_header(list, "X-Forwarded-Host", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_FORWARDED) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s%sfor=%s%s%s;host=\"%.*s\";proto=http%s", (int)theirs.len, theirs.len ? theirs.p : "",
		 theirs.len ? ", " : "", open, ip, shut, (int)host.len, host.p, tls ? "s" : "");
	add_header(list, "Forwarded", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_X_REQUEST_ID) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s", (int)theirs.len, theirs.len ? theirs.p : "");
	add_header(list, "X-Request-Id", theirs.len ? buf_str(&b) : "made anew: 32 hexadecimal digits");
	explain_trace(x, list);
	json_object_set_new(x->o, "headers", list);
	if (x->https && !tls)
		explain_unknown(x, "who ends TLS: the request is looked at as it comes in here");
}
