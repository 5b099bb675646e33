/* SPDX-License-Identifier: Apache-2.0
 *
 * A hostile client of a router's thread, and a target that may be hostile too. Whatever the client sends,
 * targets get requests that the strict parser takes, whole or cut off and never two at once, which say
 * once who the client is; and when it has gone, nothing is left of it. What it is answered can be read.
 *
 * Three apps: "*" has no policy, "p" has one with fields, redirects, networks, a rate and a cookie, "q" asks
 * who it is and is balanced by a field.
 */
#pragma once

#include <sys/un.h>

#include "route/route_priv.h"
#include "wire/trace.h"

#define CONNS 64
#define BYTES 65536u
#define APPS 3u

static struct thread thread;
static struct router router = {.threads = &thread, .thread_count = 1, .controller_bell = -1,
			       .log_bell = -1, .main_bell = -1};
static struct listener door = {.t = &thread};
static int target;
static struct {
	int fd;
	bool answered;
	uint32_t len;
	char data[BYTES];
} conns[CONNS];
static int conn_count;
static const uint8_t *said; /* what the target answers, if anything of its own */
static size_t said_len;
static struct {
	uint32_t len;
	char data[BYTES];
} heard; /* by the client */

static const char *const answers[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	 "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
	"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
	"HTTP/1.1 204 None\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\ncut",
};

static const struct table_in_rule changes[] = {
	{.kind = RULE_REQUEST_SET, .key = "X-Set", .value = "by the operator"},
	{.kind = RULE_REQUEST_REMOVE, .key = "X-Forwarded-For"},
	{.kind = RULE_REQUEST_REMOVE, .key = "cookie"},
	{.kind = RULE_ANSWER_SET, .key = "X-Answer", .value = "of the operator"},
	{.kind = RULE_ANSWER_REMOVE, .key = "server"},
	{.kind = RULE_REDIRECT, .key = "/go*", .value = "/*", .number = 307},
	{.kind = RULE_REDIRECT, .key = "/there", .value = "https://elsewhere/", .number = 308},
	{.kind = RULE_PAGE, .key = "text/plain", .value = "a page of the operator", .number = 403},
};
static const struct table_in_rule users[] = {
	{.kind = RULE_USER, .key = "me", .value = "sha256:00:00"},
};

static void take_table(const struct sockaddr_un *addr)
{
	static const char *const hosts[APPS] = {"*", "p", "q"}, *const names[APPS] = {"a", "p", "q"};
	static const char *const root[] = {"/"};
	static struct table_net ten, most, few, any;
	const struct table_in_policy policies[APPS] = {
		[1] = {.rules = changes, .rule_count = ARRAY_LEN(changes), .allow = &most, .allow_count = 1,
		       .deny = &few, .deny_count = 1, .rate_header = "x-key", .near_name = "upstate-p",
		       .v = {.rate = RATE_HEADER, .rate_requests = 1000, .rate_ms = 10, .rate_burst = 1000,
			     .near = NEAR_COOKIE}},
		[2] = {.rules = users, .rule_count = 1, .realm = "q", .near_name = "x-near",
		       .v = {.auth = 1, .near = NEAR_HEADER}},
	};
	struct table_in_target g[APPS];
	struct table_in_app a[APPS];
	const struct table_in_listener doors[] = {
		{.id = 1, .app = UINT32_MAX}, {.id = 2, .app = UINT32_MAX, .nets = &any, .net_count = 1}};
	struct table_in in = {.apps = a, .app_count = APPS, .trusted = &ten, .trusted_count = 1, .listeners = doors,
			      .listener_count = ARRAY_LEN(doors),
			      .limits = {.clients = 10, .streams = 50, .header_bytes = 4096, .trace = TRACE_MAKE,
					 .header_count = 50, .header_ms = 1000, .idle_ms = 1000}};
	struct buf b = {0};
	struct view *v = util_alloc(sizeof(*v));

	ensure(table_net_parse("10.0.0.0/8", &ten) && table_net_parse("0.0.0.0/1", &most) &&
	       table_net_parse("9.0.0.0/8", &few) && table_net_parse("0.0.0.0/0", &any));
	for (uint32_t i = 0; i < APPS; i++) {
		g[i] = (struct table_in_target){.id = i + 1, .slot = 2 * i + 1, .use = USE_SERVE, .kind = TARGET_UNIX,
						.name = names[i], .addr_len = sizeof(sa_family_t) + 6};
		memcpy(g[i].addr, addr, sizeof(*addr));
		a[i] = (struct table_in_app){.name = names[i], .hosts = &hosts[i], .host_count = 1, .paths = root,
					     .path_count = 1, .targets = &g[i], .target_count = 1,
					     .policy = i ? &policies[i] : NULL,
					     .v = {.slot = 2 * i, .connect_ms = 1000, .response_ms = 1000,
						   .body_ms = 1000, .body_max = 30000, .probe_ms = 1000,
						   .probe_timeout_ms = 1000, .rise = 1, .fall = 1}};
	}
	ensure(table_build(&in, 1, &b, NULL) == 0 && table_check(b.data, b.len, NULL) == 0);
	*v = (struct view){.refs = 1, .table = (const void *)b.data, .size = b.len};
	v->apps = util_alloc(APPS * sizeof(*v->apps));
	v->targets = util_alloc(APPS * sizeof(*v->targets));
	v->limiters = util_alloc(v->table->policy_count * sizeof(*v->limiters));
	for (uint32_t i = 0; i < APPS; i++) {
		v->apps[i] = util_alloc(sizeof(**v->apps));
		v->targets[i] = util_alloc(sizeof(**v->targets));
		v->apps[i]->refs = v->targets[i]->refs = 1;
		v->targets[i]->id = i + 1;
		v->targets[i]->health = HEALTH_UP;
	}
	for (uint32_t i = 0; i < v->table->policy_count; i++) {
		v->limiters[i] = util_alloc(sizeof(**v->limiters));
		v->limiters[i]->refs = 1;
		v->limiters[i]->rate = (struct bucket_rate){1000, 10, 1000};
	}
	apps_take(&thread, v);
}

static void start(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);

	target = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ensure(bind(target, (void *)&addr, sizeof(sa_family_t)) == 0 && listen(target, 64) == 0);
	getsockname(target, (void *)&addr, &len); /* an abstract name of five letters */
	router.shm = shm_map(shm_create(1));
	thread.r = &router;
	ensure(router.shm && thread_init(&thread) == 0);
	take_table(&addr);
}

/* Who it is that asks is said once, by us; and so is the trace. */
static void says_who(const struct http1_head *h)
{
	uint32_t lists[2] = {0}, traces = 0;
	struct trace trace;

	for (uint32_t i = 0; i < h->header_count; i++) {
		const struct http1_header *f = &h->headers[i];

		lists[0] += f->known == HTTP1_X_FORWARDED_FOR;
		lists[1] += f->known == HTTP1_FORWARDED;
		if (!http1_is(f->name, "traceparent"))
			continue;
		traces++;
		ensure(trace_parse(f->value.p, f->value.len, &trace));
	}
	ensure(lists[0] == 1 && lists[1] == 1 && traces == 1);
}

/* One request, whole or not yet; what is behind it belongs to a tunnel, or is not there. */
static void check(const char *p, size_t len, bool *ret_whole)
{
	static const struct http1_limits limits = {.head_bytes = BYTES, .headers = HTTP1_HEADERS_MAX};
	static struct http1_head h;
	struct http1_chunked c = {0};
	size_t scanned = 0, used = 0, n;
	const char *why;
	enum http1_result r = http1_request(p, len, &scanned, &limits, &h, &why);
	char *body;

	/* Of a client of HTTP/1.0 that named no host, none is named (RFC 9112, 3.2). */
	*ret_whole = r == HTTP1_BAD && strcmp(why, "Host is missing or empty") == 0;
	if (*ret_whole)
		return;
	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
	if (r == HTTP1_MORE)
		return;
	ensure(!h.is_connect);
	says_who(&h);
	n = len - h.head_len;
	*ret_whole = h.framing == HTTP1_BODY_NONE || n == h.length;
	ensure(h.upgrade || (h.framing == HTTP1_BODY_NONE ? !n : h.framing != HTTP1_BODY_LENGTH || n <= h.length));
	if (h.framing != HTTP1_BODY_CHUNKED)
		return;
	body = memcpy(util_alloc(n + 1), p + h.head_len, n);
	r = http1_dechunk(&c, body, &n, &used, &why);
	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
	scanned = 0;
	n = len - h.head_len - used;
	if (r == HTTP1_DONE)
		r = http1_trailer(p + h.head_len + used, n, &scanned, &h, &why);
	ensure(r == HTTP1_MORE || (r == HTTP1_DONE && h.head_len == n));
	*ret_whole = r == HTTP1_DONE;
	free(body);
}

/* Reads what came; a request that is whole is answered, and the connection can take the next. */
static void serve(int i, uint8_t kind)
{
	ssize_t n = recv(conns[i].fd, conns[i].data + conns[i].len, BYTES - conns[i].len, MSG_DONTWAIT);
	size_t which = said_len ? ARRAY_LEN(answers) : kind % ARRAY_LEN(answers);
	bool whole;

	if (n <= 0 || conns[i].answered)
		return;
	conns[i].len += (uint32_t)n;
	check(conns[i].data, conns[i].len, &whole);
	if (!whole)
		return;
	if (said_len)
		(void)!send(conns[i].fd, said, said_len, MSG_NOSIGNAL);
	else
		(void)!send(conns[i].fd, answers[which], strlen(answers[which]), MSG_NOSIGNAL);
	conns[i].len = 0;
	conns[i].answered = which == 2 || said_len;
	if (which == 4 || (said_len && kind & 1))
		shutdown(conns[i].fd, SHUT_RDWR);
}

static void turn(uint8_t kind)
{
	int fd;

	thread_turn(&thread, 0);
	while (conn_count < CONNS && (fd = accept4(target, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		conns[conn_count].fd = fd;
		conns[conn_count].answered = false;
		conns[conn_count++].len = 0;
	}
	for (int i = 0; i < conn_count; i++)
		serve(i, kind + (uint8_t)i);
}

static void hear(int fd)
{
	ssize_t n;

	while (heard.len < BYTES && (n = recv(fd, heard.data + heard.len, BYTES - heard.len, MSG_DONTWAIT)) > 0)
		heard.len += (uint32_t)n;
}

/* A client from this address sends, in two parts, and leaves. */
static void be_client(const uint8_t *data, size_t size, size_t cut, uint8_t kind, uint32_t from_ip, bool proxied)
{
	struct sockaddr_storage from = {.ss_family = AF_INET};
	int pair[2];

	((struct sockaddr_in *)&from)->sin_addr.s_addr = htonl(from_ip);
	door.conf = (const struct table_listener *)((const char *)thread.table + thread.table->listeners) + proxied;
	heard.len = 0;
	ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	client_open(&door, pair[0], &from);
	(void)!send(pair[1], data, cut, MSG_NOSIGNAL);
	for (int i = 0; i < 3; i++)
		turn(kind);
	if (kind & 64)
		h2_drain_all(&thread);
	(void)!send(pair[1], data + cut, size - cut, MSG_NOSIGNAL);
	for (int i = 0; i < 6; i++) {
		turn(kind);
		hear(pair[1]);
	}
	close(pair[1]);
	for (int i = 0; shm_get(&thread.n->clients); i++) {
		ensure(i < 1000);
		while (i > 100 && conn_count) /* a tunnel may have waited for its other end */
			close(conns[--conn_count].fd);
		turn(kind);
	}
	while (conn_count)
		close(conns[--conn_count].fd);
	turn(kind);
	for (uint32_t i = 0; i < 2 * APPS; i++)
		ensure(!shm_get(&shm_counts(router.shm, 0, i)->inflight) &&
		       !shm_get(&shm_counts(router.shm, 0, i)->tunnels));
	ensure(list_empty(&thread.h2_sessions));
}
