/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /v1/explain: where a request would go now, and why. The request is written out and read by
 * wire/http1, as the router reads it; app, waiting and choice come from core's own functions over the
 * table that was published last and the numbers as they are now. What only the router's threads know is
 * said to be unknown, not guessed.
 */
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "core/balance.h"
#include "core/hold.h"
#include "tell/tell_priv.h"
#include "wire/trace.h"

#define EXPLAIN_HEAD_MAX 4096
#define EXPLAIN_LOST_MAX 8   /* patterns that lost, told */
#define EXPLAIN_HOSTS_MAX 20 /* hosts that exist, told when none matches */
#define EXPLAIN_TARGETS_MAX 256

struct explain {
	struct call *c;
	const struct table *t;
	const struct table_app *app;
	struct ship_app *ship_app;
	struct http1_head head;
	struct buf text; /* the request */
	char url[1024], method[32], from[64], host[256];
	int host_len;
	bool https, trusted;
	json_t *o, *unknown;
};

static PRINTF(2, 3) void add_unknown(struct explain *x, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	util_utf8(text);
	json_array_append_new(x->unknown, json_string(text));
}

/* verdict: "send", "wait" or "refuse"; status: what the client gets from Upstate itself, or 0. */
static PRINTF(4, 5) void decide(struct explain *x, const char *verdict, int status, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	util_utf8(text);
	json_object_set_new(x->o, "verdict", json_string(verdict));
	json_object_set_new(x->o, "status", status ? json_integer(status) : json_null());
	json_object_set_new(x->o, "text", json_string(text));
}

/* --- the request --- */

/* "http://host:80/path#x", "host/path" or "/path": makes of it what a client would send. */
static int write_request(struct explain *x, struct err *e)
{
	const char *p = x->url, *path;
	struct buf *b = &x->text;
	char field[1000];
	bool has_host = false;

	if (strncasecmp(p, "http://", 7) == 0)
		p += 7;
	else if (strncasecmp(p, "https://", 8) == 0)
		p += 8, x->https = true;
	else if (strstr(p, "://"))
		return err_set(e, ERR_INPUT, "'%.80s' is no URL of http or https", x->url);
	path = p + strcspn(p, "/?#");
	buf_addf(b, "%s %s%.*s HTTP/1.1\r\n", x->method, *path == '/' ? "" : "/", (int)strcspn(path, "#"), path);
	for (uint32_t i = 0; server_param_at(x->c->r, "header", i, field, sizeof(field)); i++) {
		if (!strchr(field, ':'))
			return err_set(e, ERR_INPUT, "'%.80s' is no header such as 'Accept: text/html'", field);
		has_host |= strncasecmp(field, "host:", 5) == 0;
		buf_addf(b, "%s\r\n", field);
	}
	if (!has_host && path > p)
		buf_addf(b, "Host: %.*s\r\n", (int)(path - p), p);
	buf_adds(b, "\r\n");
	return b->failed ? err_set(e, ERR_INPUT, "the request is longer than %d bytes", EXPLAIN_HEAD_MAX) : 0;
}

static int read_client(struct explain *x, struct err *e)
{
	struct table_net net;

	if (!server_param(x->c->r, "from", x->from, sizeof(x->from))) {
		if (x->t->trusted_count)
			add_unknown(x, "whether the client is a trusted proxy: give its address");
		return 0;
	}
	if (strchr(x->from, '/') || !table_net_parse(x->from, &net))
		return err_set(e, ERR_INPUT, "'%.60s' is no address such as 192.0.2.1", x->from);
	x->trusted = table_trusted(x->t, net.addr);
	return 0;
}

/* What the router would refuse before it knows whose the request is. */
static bool read_request(struct explain *x)
{
	const struct http1_limits limits = {x->t->limits.header_bytes, x->t->limits.header_count};
	static const int status[] = {[HTTP1_BAD] = 400,	      [HTTP1_LONG_LINE] = 414, [HTTP1_LONG_HEAD] = 431,
				     [HTTP1_VERSION] = 505, [HTTP1_CODING] = 501};
	const char *why = "it is not complete";
	size_t scanned = 0;
	enum http1_result r = http1_request(x->text.data, x->text.len, &scanned, &limits, &x->head, &why);

	if (r == HTTP1_DONE && x->head.is_connect)
		decide(x, "refuse", 405, "CONNECT is not served here");
	else if (r != HTTP1_DONE)
		decide(x, "refuse", r == HTTP1_MORE ? 400 : status[r], "the request is refused: %s", why);
	return r == HTTP1_DONE && !x->head.is_connect;
}

/* --- the app --- */

static void pattern_text(const struct table_match *m, char *ret, size_t size)
{
	snprintf(ret, size, "%s%.*s", m->host_len == 0 || m->host[0] == '.' ? "*" : "", (int)m->host_len,
		 m->host);
}

static const char *app_name(const struct explain *x, uint32_t app)
{
	return table_string(x->t, table_apps(x->t)[app].name);
}

static json_t *match_json(const struct explain *x, const struct table_match *m, const char *key, const char *why)
{
	char host[TABLE_TEXT_MAX + 2];

	pattern_text(m, host, sizeof(host));
	return json_pack("{s:s, s:s, s:s%, s:s}", "app", app_name(x, m->app), "host", host, "path", m->path,
			 (size_t)m->path_len, key, why);
}

/* Which pattern won, and which lost to it. */
static void explain_match(struct explain *x, struct http1_slice path)
{
	struct table_match m[EXPLAIN_LOST_MAX + 1];
	uint32_t n = table_matches(x->t, x->host, (size_t)x->host_len, path.p, path.len, m, ARRAY_LEN(m));
	json_t *lost = json_array();
	const char *how;

	ensure(n);
	how = m[0].host_len == 0	? "takes what no other host matches"
	      : m[0].host[0] == '.' ? "the longest *.suffix that matches"
				    : "the host itself";
	json_object_set_new(x->o, "match", match_json(x, &m[0], "why", how));
	for (uint32_t i = 1; i < MIN(n, ARRAY_LEN(m)); i++)
		json_array_append_new(lost, match_json(x, &m[i], "lost",
						       m[i].host_len == m[0].host_len ? "its path is shorter"
										      : "its host is less specific"));
	json_object_set_new(x->o, "lost", lost);
}

static bool is_among(const char *const *names, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* Hosts that exist, and the right word. */
static void unknown_host(struct explain *x, struct http1_slice path)
{
	struct ship *s = x->c->t->ship;
	struct ship_app *a;
	uint32_t count = 0, n = 0;
	const char *nearest;
	json_t *hosts = json_array();
	CLEANUP_BUF struct buf list = {0};

	LIST_EACH (a, &s->apps, link)
		count += a->conf ? a->conf->hosts.len : 0;
	CLEANUP_FREE const char **names = util_alloc((count + 1) * sizeof(*names));
	LIST_EACH (a, &s->apps, link)
		for (uint32_t i = 0; a->conf && i < a->conf->hosts.len; i++)
			names[n++] = a->conf->hosts.items[i];
	for (uint32_t i = 0; i < MIN(n, EXPLAIN_HOSTS_MAX); i++) {
		if (is_among(names, i, names[i]))
			continue;
		json_array_append_new(hosts, json_string(names[i]));
		buf_addf(&list, "%s%s", list.len ? ", " : "", names[i]);
	}
	if (n > EXPLAIN_HOSTS_MAX)
		buf_addf(&list, " and %u more", n - EXPLAIN_HOSTS_MAX);
	x->host[MAX(x->host_len, 0)] = '\0';
	nearest = conf_nearest(x->host, names, n);
	if (nearest && strcmp(nearest, x->host) == 0) {
		decide(x, "refuse", 404, "an app has host '%s', but none of its paths matches '%.*s'", nearest,
		       (int)MIN(path.len, 200), path.p);
	} else {
		decide(x, "refuse", 404, "no app has host '%s'%s%s%s hosts: %s", x->host,
		       nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ";",
		       buf_str(&list));
	}
	json_object_set_new(x->o, "hosts", hosts);
	json_object_set_new(x->o, "nearest", nearest ? json_string(nearest) : json_null());
}

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
		decide(x, "wait", 0, "%s: it waits, %s at most, with %llu others, and then gets 503", because,
		       clock_span(until - now, span), (unsigned long long)sum->waiting);
		break;
	case HOLD_REFUSE_FULL:
		decide(x, "refuse", 503, "%s, and the waiting room is full: %llu of %u wait", because,
		       (unsigned long long)sum->waiting, a->hold_requests);
		break;
	case HOLD_REFUSE_LATE:
		decide(x, "refuse", 503, "%s, for longer than requests may wait (%s)", because,
		       clock_span(a->hold_wait_ms, span));
		break;
	}
}

static void add_name(struct buf *list, const char *name)
{
	buf_addf(list, "%s%s", list->len ? ", " : "", name);
}

static void explain_targets(struct explain *x)
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
		add_unknown(x, "what the other %u targets would do", x->app->target_count - n);
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
		decide(x, "send", 0, "it goes to %s%s", buf_str(&names),
		       strchr(buf_str(&names), ',') ? ", in turn" : "");
	if (v == BALANCE_PICKED && !x->app->hold && sum.waiting)
		add_unknown(x, "%llu wait already: a thread of the router that has some of them lets those go first",
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

static void explain_cases(struct explain *x)
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
static void explain_headers(struct explain *x)
{
	const char *ip = x->from[0] ? x->from : "CLIENT", *open = strchr(ip, ':') ? "\"[" : "",
		   *shut = *open ? "]\"" : "";
	json_t *list = json_array();
	CLEANUP_BUF struct buf b = {.max = 800};
	struct http1_slice theirs = http1_get(&x->head, HTTP1_X_FORWARDED_FOR), host = x->head.host;

	if (x->trusted && theirs.len)
		buf_addf(&b, "%.*s, ", (int)theirs.len, theirs.p);
	buf_adds(&b, ip);
	add_header(list, "X-Forwarded-For", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_X_FORWARDED_PROTO) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s", theirs.len ? (int)theirs.len : 4, theirs.len ? theirs.p : "http");
	add_header(list, "X-Forwarded-Proto", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_X_FORWARDED_HOST) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s", (int)(theirs.len ? theirs.len : host.len), theirs.len ? theirs.p : host.p);
	add_header(list, "X-Forwarded-Host", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_FORWARDED) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s%sfor=%s%s%s;host=\"%.*s\";proto=http", (int)theirs.len, theirs.len ? theirs.p : "",
		 theirs.len ? ", " : "", open, ip, shut, (int)host.len, host.p);
	add_header(list, "Forwarded", buf_str(&b));
	theirs = x->trusted ? http1_get(&x->head, HTTP1_X_REQUEST_ID) : (struct http1_slice){0};
	buf_free(&b);
	buf_addf(&b, "%.*s", (int)theirs.len, theirs.len ? theirs.p : "");
	add_header(list, "X-Request-Id", theirs.len ? buf_str(&b) : "made anew: 32 hexadecimal digits");
	explain_trace(x, list);
	json_object_set_new(x->o, "headers", list);
	if (x->https)
		add_unknown(x, "who ends TLS: the request is looked at as it comes in here");
}

/* --- the whole --- */

static void explain_app(struct explain *x)
{
	const struct http1_head *h = &x->head;
	struct http1_slice path = h->is_options_star ? (struct http1_slice){"/", 1} : h->path;
	int32_t i;

	x->host_len = http1_host_name(h->host, x->host);
	i = x->host_len < 0 ? -1 : table_find(x->t, x->host, (size_t)x->host_len, path.p, path.len);
	if (i >= 0)
		x->ship_app = ship_find(x->c->t->ship, app_name(x, (uint32_t)i));
	if (i < 0 || !x->ship_app) {
		unknown_host(x, path);
		return;
	}
	x->app = &table_apps(x->t)[i];
	json_object_set_new(x->o, "app", json_string(x->ship_app->name));
	explain_match(x, path);
	explain_targets(x);
	if (x->app->body_max && h->framing == HTTP1_BODY_LENGTH && h->length > x->app->body_max)
		decide(x, "refuse", 413, "a body of %llu bytes is more than the app takes (%llu)",
		       (unsigned long long)h->length, (unsigned long long)x->app->body_max);
	explain_cases(x);
	explain_headers(x);
}

static int explain_start(struct explain *x, struct err *e)
{
	x->t = ship_table();
	if (!x->t)
		return err_set(e, ERR_REFUSED, "no routing table was made yet; try again");
	if (!server_param(x->c->r, "url", x->url, sizeof(x->url)) || !x->url[0])
		return err_set(e, ERR_INPUT, "it needs a URL: /v1/explain?url=http://HOST/PATH");
	util_copy(x->method, sizeof(x->method), "GET");
	server_param(x->c->r, "method", x->method, sizeof(x->method));
	return read_client(x, e) < 0 || write_request(x, e) < 0 ? -(int)e->code : 0;
}

void tell_explain(struct call *c, json_t *body UNUSED)
{
	struct ship *s = c->t->ship;
	struct explain x = {.c = c, .text.max = EXPLAIN_HEAD_MAX};
	struct err e;

	x.unknown = json_array();
	x.o = json_pack("{s:n, s:I, s:b, s:o}", "app", "table", (json_int_t)s->generation, "applied",
			ship_applied(s) >= s->generation, "unknown", x.unknown);
	if (explain_start(&x, &e) < 0) {
		json_decref(x.o);
		tell_answer_err(c, &e);
	} else {
		json_object_set_new(x.o, "url", json_string(x.url));
		json_object_set_new(x.o, "method", json_string(x.method));
		if (read_request(&x))
			explain_app(&x);
		tell_answer_json(c, 200, x.o);
	}
	buf_free(&x.text);
}
