/* SPDX-License-Identifier: Apache-2.0
 *
 * Heads as they are sent on. What concerns one connection only is left out
 * (RFC 9110, 7.6.1); who the client is (X-Forwarded-*, RFC 7239) is said by us,
 * and what it claims itself counts only when it is a trusted proxy.
 *
 * The request is a hop of a trace (wire/trace.h), which is passed on or begins here.
 *
 * The request head stays in memory as long as its exchange: it may be sent again,
 * and the access log is taken from it.
 */
#include "route/route_priv.h"
#include "wire/trace.h"

#define ID_MAX 128

struct cat {
	char *start, *p, *end;
};

static void put(struct cat *c, const char *s, size_t n)
{
	/* Room was made for the worst case: running over is a bug, not input. */
	ensure((size_t)(c->end - c->p) >= n);
	memcpy(c->p, s, n);
	c->p += n;
}

static void puts_to(struct cat *c, const char *s)
{
	put(c, s, strlen(s));
}

#define PUT(c, literal) put(c, literal, sizeof(literal) - 1)

static struct slice16 put_slice(struct cat *c, struct http1_slice s)
{
	struct slice16 where = {(uint16_t)MIN(c->p - c->start, 65535), (uint16_t)MIN(s.len, 65535u)};

	put(c, s.p, s.len);
	return where;
}

static void put_header(struct cat *c, const struct http1_header *h)
{
	put(c, h->name.p, h->name.len);
	PUT(c, ": ");
	put(c, h->value.p, h->value.len);
	PUT(c, "\r\n");
}

static void put_number(struct cat *c, uint64_t n)
{
	char digits[24];
	int at = sizeof(digits);

	do
		digits[--at] = (char)('0' + n % 10);
	while (n /= 10);
	put(c, digits + at, sizeof(digits) - (size_t)at);
}

/* All values of a list header, joined, each followed by ", ". */
static void put_list(struct cat *c, const struct http1_head *h, enum http1_known known)
{
	for (uint32_t i = h->known_at[known]; i && i <= h->header_count; i++) {
		const struct http1_header *f = &h->headers[i - 1];

		if (f->known != known || !f->value.len)
			continue;
		put(c, f->value.p, f->value.len);
		PUT(c, ", ");
	}
}

static void put_forwarded(struct exchange *x, struct cat *c, const struct http1_head *h)
{
	const char *ip = x->client->ip;
	bool six = strchr(ip, ':'), trusted;
	struct http1_slice proto, host;

	trusted = x->t->table->trusted_count && table_trusted(x->t->table, x->client->addr);
	proto = trusted ? http1_get(h, HTTP1_X_FORWARDED_PROTO) : (struct http1_slice){0};
	host = trusted ? http1_get(h, HTTP1_X_FORWARDED_HOST) : (struct http1_slice){0};
	if (!proto.len)
		proto = x->client->https ? (struct http1_slice){"https", 5} : (struct http1_slice){"http", 4};
	if (!host.len)
		host = h->host;
	PUT(c, "X-Forwarded-For: ");
	if (trusted)
		put_list(c, h, HTTP1_X_FORWARDED_FOR);
	puts_to(c, ip);
	PUT(c, "\r\nX-Forwarded-Proto: ");
	put(c, proto.p, proto.len);
	if (host.len) {
		PUT(c, "\r\nX-Forwarded-Host: ");
		put(c, host.p, host.len);
	}
	PUT(c, "\r\nForwarded: ");
	if (trusted)
		put_list(c, h, HTTP1_FORWARDED);
	puts_to(c, six ? "for=\"[" : "for=");
	puts_to(c, ip);
	puts_to(c, six ? "]\"" : "");
	if (h->host.len) { /* its bytes were checked: none needs quoting but ':' and brackets */
		PUT(c, ";host=\"");
		put(c, h->host.p, h->host.len);
		PUT(c, "\"");
	}
	puts_to(c, x->client->https ? ";proto=https\r\n" : ";proto=http\r\n");
}

static bool id_is_fine(struct http1_slice id)
{
	if (!id.len || id.len > ID_MAX)
		return false;
	for (uint32_t i = 0; i < id.len; i++) {
		char ch = id.p[i];

		if (!((ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') ||
		      ch == '.' || ch == '_' || ch == '-'))
			return false;
	}
	return true;
}

/* 32 digits that no other request has. */
static void make_id(struct thread *t, char made[TRACE_ID])
{
	/* Zeros only are no trace (wire/trace.h). */
	trace_hex(trace_hex(made, thread_random(t)), thread_random(t) ?: 1);
}

/* A client's own id is passed on from a trusted proxy only: others could make ids collide. Returns where the
 * id stands when it was made here, else NULL. */
static const char *put_id(struct exchange *x, struct cat *c, const struct http1_head *h)
{
	struct http1_slice id = http1_get(h, HTTP1_X_REQUEST_ID);
	char made[TRACE_ID];

	if (!id_is_fine(id) ||
	    !(x->t->table->trusted_count && table_trusted(x->t->table, x->client->addr))) {
		make_id(x->t, made);
		id = (struct http1_slice){made, sizeof(made)};
	}
	PUT(c, "X-Request-Id: ");
	x->id = put_slice(c, id);
	PUT(c, "\r\n");
	return id.p == made ? c->p - 2 - TRACE_ID : NULL;
}

/* What came of a trace, as far as it can be passed on. */
struct trace_in {
	uint32_t parents, state_bytes;
};

/* tracestate belongs to the traceparent beside it, and goes where that goes (3.3). Several fields are one
 * list; one that is longer than must be passed on is left out as a whole, not cut. */
static void put_tracestate(struct cat *c, const struct http1_head *h, const struct trace_in *in)
{
	if (!in->state_bytes || in->state_bytes > TRACE_STATE_MAX)
		return;
	for (uint32_t i = h->known_at[HTTP1_TRACESTATE]; i && i <= h->header_count; i++)
		if (h->headers[i - 1].known == HTTP1_TRACESTATE && h->headers[i - 1].value.len)
			put_header(c, &h->headers[i - 1]);
}

/* We are a hop of the trace that came, or of one that begins here; then its id is the request's, when that
 * was made here too. Begun here means sampled: an app whose tracing asks its caller would otherwise record
 * nothing any more. */
static void put_trace(struct exchange *x, struct cat *c, const struct http1_head *h, const struct trace_in *in,
		      const char *id_made)
{
	struct http1_slice came = http1_get(h, HTTP1_TRACEPARENT);
	struct trace trace = {.flags = TRACE_SAMPLED};
	bool valid = in->parents == 1 && trace_parse(came.p, came.len, &trace);
	char made[TRACE_ID], parent[TRACE_PARENT];

	x->trace = (struct slice16){0};
	if (x->t->table->limits.trace == TRACE_OFF || (!valid && x->t->table->limits.trace == TRACE_PASS))
		return;
	if (!valid && id_made) {
		trace.id = id_made;
	} else if (!valid) {
		make_id(x->t, made);
		trace.id = made;
	}
	trace_write(parent, trace.id, thread_random(x->t) ?: 1, trace.flags);
	PUT(c, "traceparent: ");
	if (c->p - c->start + 3 <= 65535)
		x->trace = (struct slice16){(uint16_t)(c->p - c->start + 3), TRACE_ID};
	put(c, parent, sizeof(parent));
	PUT(c, "\r\n");
	if (valid)
		put_tracestate(c, h, in);
}

/* Does it begin with that, '_' counting as '-'? */
static bool spells(struct http1_slice name, const char *lower, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char ch = name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i];

		if (ch != lower[i] && !(ch == '_' && lower[i] == '-'))
			return false;
	}
	return true;
}

/* Servers that hand headers on as variables (CGI, WSGI, Rack) cannot tell '_' from '-'. So a header
 * that they would take for one that we read or write is not passed on; nor is what else claims to
 * know who the client is, unless a trusted proxy says it. */
static bool is_false_claim(struct http1_slice name, bool trusted)
{
	static const struct {
		const char *text;
		uint32_t len;
	} ours[] = {
#define X(id, text) {text, sizeof(text) - 1},
		HTTP1_KNOWN_TABLE(X)
#undef X
	};

	if ((name.p[0] | 0x20) == 'x' &&
	    ((name.len > 12 && spells(name, "x-forwarded-", 12)) ||
	     (name.len == 9 && spells(name, "x-real-ip", 9))))
		return !trusted || memchr(name.p, '_', name.len);
	if (!memchr(name.p, '_', name.len))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (name.len == ours[i].len && spells(name, ours[i].text, name.len))
			return true;
	return false;
}

static void put_request_headers(struct exchange *x, struct cat *c, const struct http1_head *h,
				struct trace_in *trace)
{
	bool trusted = x->t->table->trusted_count && table_trusted(x->t->table, x->client->addr);

	for (uint32_t i = 0; i < h->header_count; i++) {
		const struct http1_header *f = &h->headers[i];

		switch (f->known) {
		case HTTP1_HOST:
		case HTTP1_X_FORWARDED_FOR:
		case HTTP1_X_FORWARDED_PROTO:
		case HTTP1_X_FORWARDED_HOST:
		case HTTP1_FORWARDED:
		case HTTP1_X_REQUEST_ID:
			continue;
		case HTTP1_USER_AGENT:
			x->agent = (struct slice16){
				(uint16_t)MIN(c->p - c->start + f->name.len + 2, 65535),
				(uint16_t)MIN(f->value.len, 65535u)};
			break;
		case HTTP1_TRACEPARENT:
		case HTTP1_TRACESTATE:
			if (x->t->table->limits.trace == TRACE_OFF)
				break;
			if (f->known == HTTP1_TRACEPARENT)
				trace->parents++;
			else
				trace->state_bytes += f->value.len;
			continue;
		case HTTP1_OTHER:
			if (is_false_claim(f->name, trusted))
				continue;
			__attribute__((fallthrough));
		default:
			if (http1_is_hop(h, f))
				continue;
		}
		put_header(c, f);
	}
}

bool headers_request(struct exchange *x, const struct http1_head *h)
{
	/* What is added is bounded: addresses, an id, fixed text, and Host three times more. */
	uint32_t most = h->head_len + h->added_len + 700 + 3 * h->host.len;
	struct trace_in trace = {0};
	struct cat c;

	x->req = buffer_get(x->t, most);
	if (!x->req)
		return false;
	c = (struct cat){x->req->data, x->req->data, x->req->data + x->req->cap};
	x->method = put_slice(&c, h->method);
	PUT(&c, " ");
	x->path = put_slice(&c, h->target);
	PUT(&c, " HTTP/1.1\r\nHost: ");
	x->host = put_slice(&c, h->host);
	PUT(&c, "\r\n");
	put_request_headers(x, &c, h, &trace);
	if (x->upgrade) {
		PUT(&c, "Connection: upgrade\r\nUpgrade: ");
		put_slice(&c, http1_get(h, HTTP1_UPGRADE));
		PUT(&c, "\r\n");
	} else if (h->te_trailers) {
		PUT(&c, "Connection: te\r\nTE: trailers\r\n");
	}
	if (h->framing == HTTP1_BODY_CHUNKED)
		PUT(&c, "Transfer-Encoding: chunked\r\n");
	put_forwarded(x, &c, h);
	put_trace(x, &c, h, &trace, put_id(x, &c, h));
	PUT(&c, "\r\n");
	x->req->len = (uint32_t)(c.p - c.start);
	return true;
}

static void put_status(struct cat *c, const struct http1_head *h)
{
	PUT(c, "HTTP/1.1 ");
	put_number(c, h->status);
	PUT(c, " ");
	put(c, h->reason.p, h->reason.len);
	PUT(c, "\r\n");
}

static bool answer_room(struct exchange *x, const struct http1_head *h, struct cat *c)
{
	buffer_put(x->t, &x->ans);
	/* Twice a small head, so that a short body can be put behind it. */
	x->ans = buffer_get(x->t, h->head_len + h->added_len + 200);
	if (!x->ans)
		return false;
	*c = (struct cat){x->ans->data, x->ans->data, x->ans->data + x->ans->cap};
	return true;
}

/* 204 has no body and so no length; some who read one wait for it (RFC 9110, 8.6). */
static bool is_idle_length(const struct http1_head *h, const struct http1_header *f)
{
	return f->known == HTTP1_CONTENT_LENGTH && (h->status == 204 || h->status / 100 == 1);
}

/* The status line, and of the target's fields those that are passed on. */
static void put_passed(struct cat *c, const struct http1_head *h)
{
	put_status(c, h);
	for (uint32_t i = 0; i < h->header_count; i++)
		if (!http1_is_hop(h, &h->headers[i]) && !is_idle_length(h, &h->headers[i]))
			put_header(c, &h->headers[i]);
}

/* RFC 6797, 7.1. What the app or its policy says of it is left as it is. */
static void put_hsts(struct exchange *x, struct cat *c, const struct http1_head *h)
{
	static const char name[] = "strict-transport-security";

	for (uint32_t i = 0; i < h->header_count; i++)
		if ((h->headers[i].known == HTTP1_OTHER || h->headers[i].known == HTTP1_ADDED) &&
		    http1_is(h->headers[i].name, name))
			return;
	PUT(c, "Strict-Transport-Security: max-age=");
	put_number(c, x->app->conf.hsts_s);
	PUT(c, "\r\n");
}

bool headers_answer(struct exchange *x, const struct http1_head *h, bool chunked, bool close)
{
	struct cat c;

	if (!answer_room(x, h, &c))
		return false;
	put_passed(&c, h);
	if (h->status == 101) {
		PUT(&c, "Connection: upgrade\r\nUpgrade: ");
		put_slice(&c, http1_get(h, HTTP1_UPGRADE));
		PUT(&c, "\r\n");
	}
	if (x->app->conf.hsts_s && x->client->https)
		put_hsts(x, &c, h);
	if (chunked)
		PUT(&c, "Transfer-Encoding: chunked\r\n");
	if (close)
		PUT(&c, "Connection: close\r\n");
	else if (x->old_client)
		PUT(&c, "Connection: keep-alive\r\n");
	PUT(&c, "\r\n");
	x->ans->len = (uint32_t)(c.p - c.start);
	return true;
}

bool headers_interim(struct exchange *x, const struct http1_head *h)
{
	struct cat c;

	if (!answer_room(x, h, &c))
		return false;
	put_passed(&c, h);
	PUT(&c, "\r\n");
	x->ans->len = (uint32_t)(c.p - c.start);
	return true;
}

bool headers_proxy_https(const struct exchange *x, const struct http1_head *h)
{
	return x->t->table->trusted_count && table_trusted(x->t->table, x->client->addr) &&
	       http1_is(http1_get(h, HTTP1_X_FORWARDED_PROTO), "https");
}
