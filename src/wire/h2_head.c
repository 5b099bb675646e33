/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/h2_head.h"

#include <stdio.h>
#include <string.h>

#include "wire/http1_priv.h"

#define END_ROOM 160 /* what h2_head_end() adds at most */
#define STATUS_ROOM 64 /* a status line */

static const char *const pseudo_names[] = {
#define X(name, text) [H2_##name] = text,
	H2_PSEUDO_TABLE(X)
#undef X
};

void h2_head_begin(struct h2_head *h, char *p, uint32_t cap, uint32_t max, enum h2_head_kind kind)
{
	*h = (struct h2_head){.p = p, .cap = cap, .max = max, .kind = kind, .begun = kind == H2_HEAD_TRAILER};
	if (kind != H2_HEAD_TRAILER)
		return;
	ensure(cap >= 3);
	memcpy(p, "0\r\n", h->len = 3);
}

static enum http1_result bad(struct h2_head *h, const char *sentence)
{
	return http1_refuse(&h->why, sentence);
}

static enum http1_result too_long(struct h2_head *h)
{
	h->why = "the fields are too long";
	return HTTP1_LONG_HEAD;
}

/* Room for n bytes was made sure of by the caller. */
static void put(struct h2_head *h, const char *p, uint32_t n)
{
	ensure(h->cap - h->len >= n);
	if (n)
		memcpy(h->p + h->len, p, n);
	h->len += n;
}

#define PUT(h, literal) put(h, literal, sizeof(literal) - 1)

static void put_pseudo(struct h2_head *h, enum h2_pseudo k)
{
	put(h, h->p + h->pseudo[k].at, h->pseudo[k].len);
}

static bool value_is_fine(struct http1_slice v)
{
	for (uint32_t i = 0; i < v.len; i++)
		if (((uint8_t)v.p[i] < 0x20 && v.p[i] != '\t') || v.p[i] == 0x7f)
			return false;
	return !v.len || !(strchr(" \t", v.p[0]) || strchr(" \t", v.p[v.len - 1]));
}

static bool name_is_fine(struct http1_slice n)
{
	for (uint32_t i = 0; i < n.len; i++)
		if (!http1_char(n.p[i], HTTP1_TCHAR) || (n.p[i] >= 'A' && n.p[i] <= 'Z'))
			return false;
	return n.len;
}

static bool all_of(struct http1_slice s, enum http1_class class)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!http1_char(s.p[i], class))
			return false;
	return s.len;
}

/* --- pseudo fields --- */

static const char *wrong_pseudo(enum h2_pseudo k, struct http1_slice v)
{
	switch (k) {
	case H2_METHOD:
		return all_of(v, HTTP1_TCHAR) ? NULL : "invalid :method";
	case H2_SCHEME:
		return http1_is(v, "http") || http1_is(v, "https")
			       ? NULL : "a :scheme other than http and https";
	case H2_AUTHORITY: /* whether it is a host, the parser of HTTP/1 says */
		return all_of(v, HTTP1_TARGET) ? NULL : "invalid :authority";
	case H2_PATH:
		return all_of(v, HTTP1_TARGET) && (v.p[0] == '/' || http1_is(v, "*"))
			       ? NULL : "invalid :path";
	default:
		return http1_is(v, "websocket") ? NULL : "a :protocol other than websocket";
	}
}

static enum http1_result take_pseudo(struct h2_head *h, struct http1_slice name,
				     struct http1_slice value)
{
	int k = 0;

	while (k < H2_PSEUDO_COUNT && (name.len != strlen(pseudo_names[k]) ||
				       memcmp(name.p, pseudo_names[k], name.len) != 0))
		k++;
	if (k == H2_PSEUDO_COUNT)
		return bad(h, "a pseudo field that is not for requests");
	if (h->begun)
		return bad(h, "a pseudo field behind the others");
	if (h->seen >> k & 1)
		return bad(h, "a pseudo field twice");
	if (wrong_pseudo((enum h2_pseudo)k, value))
		return bad(h, wrong_pseudo((enum h2_pseudo)k, value));
	if (value.len > h->max - h->len) {
		h->why = "the pseudo fields are too long";
		return k == H2_PATH ? HTTP1_LONG_LINE : HTTP1_LONG_HEAD;
	}
	if (h->cap - h->len < value.len)
		return HTTP1_MORE;
	h->seen |= (uint8_t)(1 << k);
	h->pseudo[k] = (struct h2_span){h->len, value.len};
	put(h, value.p, value.len);
	return HTTP1_DONE;
}

/* Which pseudo fields must be there, and which must not (RFC 9113, 8.3.1 and 8.5; RFC 8441, 4). */
static const char *wrong_set(const struct h2_head *h)
{
	const uint8_t all = 1 << H2_METHOD | 1 << H2_SCHEME | 1 << H2_PATH,
		      connect = 1 << H2_METHOD | 1 << H2_AUTHORITY,
		      tunnel = all | connect | 1 << H2_PROTOCOL;
	struct http1_slice m = {h->p + h->pseudo[H2_METHOD].at, h->pseudo[H2_METHOD].len};
	bool is_connect = m.len == 7 && memcmp(m.p, "CONNECT", 7) == 0;

	if (h2_head_is_tunnel(h))
		return is_connect && h->seen == tunnel ? NULL : "not a request for a WebSocket";
	if (is_connect)
		return h->seen == connect ? NULL : "CONNECT takes :method and :authority only";
	return (h->seen & all) == all ? NULL : "a pseudo field is missing";
}

/* The request line and Host, once the pseudo fields are over. Without :authority, Host comes with the
 * fields. */
static enum http1_result put_first_lines(struct h2_head *h)
{
	const char *why = wrong_set(h);
	uint32_t need = 40 + h->pseudo[H2_METHOD].len + h->pseudo[H2_PATH].len +
			2 * h->pseudo[H2_AUTHORITY].len;

	if (why)
		return bad(h, why);
	if (h->cap - h->len < need)
		return HTTP1_MORE;
	h->begun = true;
	h->start = h->len;
	if (h2_head_is_tunnel(h))
		PUT(h, "GET");
	else
		put_pseudo(h, H2_METHOD);
	PUT(h, " ");
	put_pseudo(h, h->seen >> H2_PATH & 1 ? H2_PATH : H2_AUTHORITY);
	PUT(h, " HTTP/1.1\r\n");
	if (!(h->seen >> H2_AUTHORITY & 1))
		return HTTP1_DONE;
	PUT(h, "Host: ");
	h->host = (struct h2_span){h->len, h->pseudo[H2_AUTHORITY].len};
	put_pseudo(h, H2_AUTHORITY);
	PUT(h, "\r\n");
	return HTTP1_DONE;
}

/* The status line (RFC 9113, 8.3.2); 101 is not of this version (8.6). */
static enum http1_result take_status(struct h2_head *h, struct http1_slice name, struct http1_slice v)
{
	char line[STATUS_ROOM];
	uint16_t status = 0;

	if (!http1_is(name, ":status"))
		return bad(h, "a pseudo field that is not for answers");
	if (h->begun)
		return bad(h, h->status ? "a pseudo field behind the others" : ":status is not the first field");
	for (uint32_t i = 0; i < v.len && v.len == 3; i++)
		status = v.p[i] >= '0' && v.p[i] <= '9' ? (uint16_t)(status * 10 + v.p[i] - '0') : 1000;
	if (status < 100 || status > 599 || status == 101)
		return bad(h, "invalid :status");
	if (h->cap - h->len < STATUS_ROOM)
		return HTTP1_MORE;
	put(h, line, (uint32_t)snprintf(line, sizeof(line), "HTTP/1.1 %u %s\r\n", status, http1_reason(status)));
	h->status = status;
	h->begun = true;
	return HTTP1_DONE;
}

/* --- fields --- */

static enum http1_result put_field(struct h2_head *h, struct http1_slice name,
				   struct http1_slice value)
{
	put(h, name.p, name.len);
	PUT(h, ": ");
	put(h, value.p, value.len);
	PUT(h, "\r\n");
	return HTTP1_DONE;
}

/* Crumbs of a cookie become one field (RFC 9113, 8.2.3). */
static enum http1_result put_cookie(struct h2_head *h, struct http1_slice name,
				    struct http1_slice value)
{
	uint32_t n = value.len + 2;

	if (!h->cookie_end) {
		put_field(h, name, value);
		h->cookie_end = h->len - 2;
		return HTTP1_DONE;
	}
	if (++h->crumbs > H2_CRUMBS_MAX)
		return too_long(h);
	memmove(h->p + h->cookie_end + n, h->p + h->cookie_end, h->len - h->cookie_end);
	memcpy(h->p + h->cookie_end, "; ", 2);
	memcpy(h->p + h->cookie_end + 2, value.p, value.len);
	if (h->host.at > h->cookie_end)
		h->host.at += n;
	h->cookie_end += n;
	h->len += n;
	return HTTP1_DONE;
}

static enum http1_result put_host(struct h2_head *h, struct http1_slice name,
				  struct http1_slice value)
{
	if (h->host.len) /* said by :authority: then it must be the same, and is there already */
		return http1_same((struct http1_slice){h->p + h->host.at, h->host.len}, value)
			       ? HTTP1_DONE : bad(h, "Host is not :authority");
	put_field(h, name, value); /* a second one, the parser of HTTP/1 refuses */
	return HTTP1_DONE;
}

/* Fields that are about one connection have no place in HTTP/2 (RFC 9113, 8.2.2). */
static bool is_of_connection(struct http1_slice name)
{
	static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
					    "transfer-encoding", "upgrade"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (http1_is(name, names[i]))
			return true;
	return false;
}

static bool is_zero(struct http1_slice v)
{
	for (uint32_t i = 0; i < v.len; i++)
		if (v.p[i] != '0')
			return false;
	return true;
}

static enum http1_result take_field(struct h2_head *h, struct http1_slice name,
				    struct http1_slice value)
{
	if (is_of_connection(name))
		return bad(h, "a field that is about one connection");
	if (http1_is(name, "te") && h->kind != H2_HEAD_ANSWER) {
		if (!http1_is(value, "trailers"))
			return bad(h, "TE is not 'trailers'");
		h->te_trailers = true; /* is said with Connection, at the end */
		return HTTP1_DONE;
	}
	if (h->kind == H2_HEAD_TRAILER)
		return put_field(h, name, value);
	if (http1_is(name, "content-length")) {
		h->length = true;
		h->empty = is_zero(value);
	}
	if (h->kind == H2_HEAD_ANSWER)
		return put_field(h, name, value);
	if (http1_is(name, "host"))
		return put_host(h, name, value);
	if (http1_is(name, "cookie"))
		return put_cookie(h, name, value);
	if (http1_is(name, "http2-settings") ||
	    (h2_head_is_tunnel(h) && http1_is(name, "sec-websocket-key")))
		return HTTP1_DONE;
	return put_field(h, name, value);
}

enum http1_result h2_head_field(struct h2_head *h, struct http1_slice name, struct http1_slice value)
{
	if (!value_is_fine(value))
		return bad(h, "invalid byte in the value of a field");
	if (name.len && name.p[0] == ':')
		return h->kind == H2_HEAD_ANSWER ? take_status(h, name, value) : take_pseudo(h, name, value);
	if (!name_is_fine(name))
		return bad(h, "invalid byte in the name of a field");
	if (!h->begun && h->kind == H2_HEAD_ANSWER)
		return bad(h, ":status is missing");
	if (!h->begun) {
		enum http1_result r = put_first_lines(h);

		if (r != HTTP1_DONE)
			return r;
	}
	if (h->len - h->start + name.len + value.len + 4 > h->max)
		return too_long(h);
	if (h->cap - h->len < name.len + value.len + 4)
		return HTTP1_MORE;
	return take_field(h, name, value);
}

/* The body's framing. Without a length, and open, an answer in HTTP/1.1 would go on to the connection's end. */
static enum http1_result end_answer(struct h2_head *h, bool ended)
{
	bool interim = h->status / 100 == 1, none = interim || h->to_head || h->status == 204 || h->status == 304;

	if (!h->begun)
		return bad(h, ":status is missing");
	if (interim && ended)
		return bad(h, "an interim answer that is the last");
	if (ended && !none && h->length && !h->empty)
		return bad(h, "Content-Length is not the length of the body");
	if (h->cap - h->len < END_ROOM)
		return HTTP1_MORE;
	h->chunked = !none && !h->length && !ended;
	if (h->chunked)
		PUT(h, "transfer-encoding: chunked\r\n");
	else if (!none && !h->length)
		PUT(h, "content-length: 0\r\n");
	PUT(h, "\r\n");
	return HTTP1_DONE;
}

enum http1_result h2_head_end(struct h2_head *h, bool ended, const char *key)
{
	bool tunnel = h2_head_is_tunnel(h);

	if (h->kind == H2_HEAD_ANSWER)
		return end_answer(h, ended);
	if (!h->begun) {
		enum http1_result r = put_first_lines(h);

		if (r != HTTP1_DONE)
			return r;
	}
	if (h->length && (tunnel || (ended && !h->empty)))
		return bad(h, "Content-Length is not the length of the body");
	if (h->cap - h->len < END_ROOM)
		return HTTP1_MORE;
	if (tunnel) {
		PUT(h, "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ");
		put(h, key, H2_KEY_LEN);
		PUT(h, "\r\n");
	} else if (h->te_trailers && h->kind == H2_HEAD_REQUEST) {
		PUT(h, "Connection: te\r\nTE: trailers\r\n");
	}
	if (h->kind == H2_HEAD_REQUEST && !tunnel && !ended && !h->length && h->seen >> H2_PATH & 1)
		PUT(h, "Transfer-Encoding: chunked\r\n");
	PUT(h, "\r\n");
	return HTTP1_DONE;
}
