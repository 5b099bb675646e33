/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /v1/explain: where a request would go now, and why. The request is written out and read by
 * wire/http1, as the router reads it; app, waiting and choice come from core's own functions over the
 * table that was published last and the numbers as they are now. What only the router's threads know is
 * said to be unknown, not guessed.
 */
#include <stdarg.h>
#include <string.h>

#include "tell/explain_priv.h"

#define EXPLAIN_HEAD_MAX 4096
#define EXPLAIN_LOST_MAX 8   /* patterns that lost, told */
#define EXPLAIN_HOSTS_MAX 20 /* hosts that exist, told when none matches */

void explain_unknown(struct explain *x, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	util_utf8(text);
	json_array_append_new(x->unknown, json_string(text));
}

void explain_decide(struct explain *x, const char *verdict, int status, const char *fmt, ...)
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
			explain_unknown(x, "whether the client is a trusted proxy: give its address");
		return 0;
	}
	if (strchr(x->from, '/') || !table_net_parse(x->from, &net))
		return err_set(e, ERR_INPUT, "'%.60s' is no address such as 192.0.2.1", x->from);
	memcpy(x->addr, net.addr, sizeof(x->addr));
	x->trusted = table_trusted(x->t, net.addr);
	return 0;
}

/* What the router would refuse before it knows whose the request is. */
static bool read_request(struct explain *x)
{
	const struct http1_limits limits = {.head_bytes = x->t->limits.header_bytes,
					    .headers = x->t->limits.header_count};
	static const int status[] = {[HTTP1_BAD] = 400,	      [HTTP1_LONG_LINE] = 414, [HTTP1_LONG_HEAD] = 431,
				     [HTTP1_VERSION] = 505, [HTTP1_CODING] = 501};
	const char *why = "it is not complete";
	size_t scanned = 0;
	enum http1_result r = http1_request(x->text.data, x->text.len, &scanned, &limits, &x->head, &why);

	if (r == HTTP1_DONE && x->head.is_connect)
		explain_decide(x, "refuse", 405, "CONNECT is not served here");
	else if (r != HTTP1_DONE)
		explain_decide(x, "refuse", r == HTTP1_MORE ? 400 : status[r], "the request is refused: %s", why);
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
		explain_decide(x, "refuse", 404, "an app has host '%s', but none of its paths matches '%.*s'", nearest,
		       (int)MIN(path.len, 200), path.p);
	} else {
		explain_decide(x, "refuse", 404, "no app has host '%s'%s%s%s hosts: %s", x->host,
		       nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ";",
		       buf_str(&list));
	}
	json_object_set_new(x->o, "hosts", hosts);
	json_object_set_new(x->o, "nearest", nearest ? json_string(nearest) : json_null());
}

/* --- the whole --- */

/* What the router looks at first overrides what was said before. */
static void explain_app(struct explain *x)
{
	const struct http1_head *h = &x->head;
	struct http1_slice path = h->is_options_star ? (struct http1_slice){"/", 1} : h->path;
	const char *token;
	size_t token_len;
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
	explain_policy(x);
	if (x->app->body_max && h->framing == HTTP1_BODY_LENGTH && h->length > x->app->body_max)
		explain_decide(x, "refuse", 413, "a body of %llu bytes is more than the app takes (%llu)",
		       (unsigned long long)h->length, (unsigned long long)x->app->body_max);
	if (table_to_https(x->app, x->https || (x->trusted && http1_is(http1_get(h, HTTP1_X_FORWARDED_PROTO), "https")),
			   path.p, path.len))
		explain_decide(x, "refuse", 308, "the app is reached over https: the client is led there");
	if (table_challenge(x->app, path.p, path.len, &token, &token_len)) {
		bool ours = token_len && (h->is_get || h->is_head);

		explain_decide(x, ours ? "answer" : "refuse", ours ? 200 : 404,
			       "Upstate answers it itself: it is how the app's certificate is got (tls: auto)");
	}
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
