/* SPDX-License-Identifier: Apache-2.0
 *
 * Heads of requests and answers: the first line, and what the fields mean for
 * framing and the life of the connection. What a target means: http1_target.c.
 *
 * A head that came whole, as nearly all do, is parsed in one pass. Otherwise,
 * and before any refusal, http1_find_end() decides: nothing is refused for its
 * meaning before it is complete, so that the verdict does not depend on how
 * the network cut it.
 */
#include "wire/http1_priv.h"

#include <string.h>

#define METHOD_MAX 32
#define CONNECTION_TOKENS_MAX 32

bool http1_same(struct http1_slice a, struct http1_slice b)
{
	if (a.len != b.len)
		return false;
	for (uint32_t i = 0; i < a.len; i++)
		if ((a.p[i] | 0x20) != (b.p[i] | 0x20))
			return false;
	return true;
}

bool http1_is(struct http1_slice s, const char *lower)
{
	uint32_t i = 0;

	for (; i < s.len && lower[i]; i++) {
		char c = s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i];

		if (c != lower[i])
			return false;
	}
	return i == s.len && !lower[i];
}

/* Takes the next element off a list; empty ones are passed over (RFC 9110, 5.6.1). */
static bool next_token(struct http1_slice *list, struct http1_slice *ret)
{
	const char *p = list->p, *end, *start;

	if (!list->len)
		return false;
	end = p + list->len;
	while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
		p++;
	if (p == end)
		return false;
	start = p;
	while (p < end && *p != ',')
		p++;
	*list = (struct http1_slice){p, (uint32_t)(end - p)};
	while (p[-1] == ' ' || p[-1] == '\t')
		p--;
	*ret = (struct http1_slice){start, (uint32_t)(p - start)};
	return true;
}

bool http1_has_token(struct http1_slice list, const char *token)
{
	struct http1_slice t;

	while (next_token(&list, &t))
		if (http1_is(t, token))
			return true;
	return false;
}

/* --- first lines --- */

/* "HTTP/1.x", advancing *at. */
static enum http1_result version(const char **at, const char *end, struct http1_head *ret,
				 const char **why)
{
	static const char pattern[] = "HTTP/0.0";
	const char *p = *at;

	for (int i = 0; i < 8; i++) {
		if (p + i == end)
			return HTTP1_MORE;
		if (pattern[i] == '0' ? p[i] < '0' || p[i] > '9' : p[i] != pattern[i])
			return http1_refuse(why, "no HTTP version where it must be");
	}
	if (p[5] != '1' || p[7] > '1') {
		*why = "only HTTP/1.0 and HTTP/1.1 are spoken here";
		return HTTP1_VERSION;
	}
	ret->minor = (uint8_t)(p[7] - '0');
	*at = p + 8;
	return HTTP1_DONE;
}

static enum http1_result line_end(const char **at, const char *end, const char **why)
{
	for (int i = 0; i < 2; i++, ++*at) {
		if (*at == end)
			return HTTP1_MORE;
		if (**at != "\r\n"[i])
			return http1_refuse(why, "the first line goes on after its end");
	}
	return HTTP1_DONE;
}

static enum http1_result request_line(const char **at, const char *end, struct http1_head *ret,
				      const char **why)
{
	const char *p = *at, *start = p;
	enum http1_result r;

	while (p < end && http1_char(*p, HTTP1_TCHAR))
		p++;
	if (p == end)
		return HTTP1_MORE;
	if (*p != ' ' || p == start)
		return http1_refuse(why, "invalid byte in the method");
	if (p - start > METHOD_MAX)
		return http1_refuse(why, "the method is too long");
	ret->method = (struct http1_slice){start, (uint32_t)(p - start)};
	start = ++p;
	while (p < end && http1_char(*p, HTTP1_TARGET))
		p++;
	if (p == end)
		return HTTP1_MORE;
	if (*p == '#')
		return http1_refuse(why, "a fragment in the target");
	if (*p != ' ' || p == start)
		return http1_refuse(why, "invalid byte in the target");
	ret->target = (struct http1_slice){start, (uint32_t)(p - start)};
	*at = p + 1;
	r = version(at, end, ret, why);
	return r == HTTP1_DONE ? line_end(at, end, why) : r;
}

/* "HTTP/1.1 200 OK"; the reason may be empty, and then its space may be missing. */
static enum http1_result status_line(const char **at, const char *end, struct http1_head *ret,
				     const char **why)
{
	enum http1_result r = version(at, end, ret, why);
	const char *p = *at;

	if (r != HTTP1_DONE)
		return r;
	for (int i = 0; i < 4; i++, p++) {
		if (p == end)
			return HTTP1_MORE;
		if (i == 0 ? *p != ' ' : *p < '0' || *p > '9')
			return http1_refuse(why, "no status of three digits");
		if (i > 0)
			ret->status = (uint16_t)(ret->status * 10 + (*p - '0'));
	}
	if (ret->status < 100 || ret->status > 599)
		return http1_refuse(why, "a status that is not 100 to 599");
	if (p < end && *p == ' ') {
		const char *start = ++p;

		while (p < end && (((uint8_t)*p >= 0x20 && *p != 0x7f) || *p == '\t'))
			p++;
		ret->reason = (struct http1_slice){start, (uint32_t)(p - start)};
	}
	*at = p;
	return line_end(at, end, why);
}

/* --- framing (RFC 9112, 6) and the connection --- */

static enum http1_result coding(struct http1_slice list, const char **why)
{
	struct http1_slice all = list, t;
	uint32_t total = 0, chunked = 0;
	bool last = false;

	if (http1_is(list, "chunked"))
		return HTTP1_DONE;
	while (next_token(&all, &t)) {
		last = http1_is(t, "chunked");
		chunked += last;
		total++;
	}
	if (!total || chunked > 1 || (chunked && !last) || (chunked && total == 1))
		return http1_refuse(why, "Transfer-Encoding is not 'chunked' once, as the last");
	*why = "a transfer coding other than chunked";
	return HTTP1_CODING;
}

static bool decimal(struct http1_slice s, uint64_t *ret)
{
	uint64_t n = 0;

	if (s.len == 0 || s.len > 19) /* 19 digits fit */
		return false;
	for (uint32_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(s.p[i] - '0');
	}
	*ret = n;
	return n <= INT64_MAX;
}

/* Sets framing and length as if the message were a request; answers then add their exceptions. */
static enum http1_result framing(struct http1_head *ret, uint32_t twice, const char **why)
{
	const uint32_t single = 1u << HTTP1_CONTENT_LENGTH | 1u << HTTP1_TRANSFER_ENCODING |
				1u << HTTP1_HOST;
	const bool counted = ret->known_at[HTTP1_CONTENT_LENGTH];

	ret->framing = HTTP1_BODY_NONE;
	if (twice & single)
		return http1_refuse(why, "Host, Content-Length or Transfer-Encoding twice");
	if (ret->known_at[HTTP1_TRANSFER_ENCODING]) {
		if (counted)
			return http1_refuse(why, "both Content-Length and Transfer-Encoding");
		if (ret->minor == 0)
			return http1_refuse(why, "Transfer-Encoding in HTTP/1.0");
		ret->framing = HTTP1_BODY_CHUNKED;
		return coding(http1_get(ret, HTTP1_TRANSFER_ENCODING), why);
	}
	if (!counted)
		return HTTP1_DONE;
	if (!decimal(http1_get(ret, HTTP1_CONTENT_LENGTH), &ret->length))
		return http1_refuse(why, "Content-Length is not a number");
	if (ret->length)
		ret->framing = HTTP1_BODY_LENGTH;
	return HTTP1_DONE;
}

/* Exceptions for answers, in the order of RFC 9112, 6.3. */
static void answer_framing(struct http1_head *ret, bool to_head, bool to_connect)
{
	const uint16_t status = ret->status;

	if (status == 101 || (to_connect && status / 100 == 2)) {
		ret->framing = HTTP1_TUNNEL;
		ret->keep_alive = false;
	} else if (to_head || status / 100 == 1 || status == 204 || status == 304) {
		ret->framing = HTTP1_BODY_NONE;
	} else if (ret->framing == HTTP1_BODY_NONE && !ret->known_at[HTTP1_CONTENT_LENGTH]) {
		ret->framing = HTTP1_BODY_CLOSE;
		ret->keep_alive = false;
	}
}

static enum http1_result connection(struct http1_head *ret, bool twice, const char **why)
{
	bool close = false, alive = false, upgrade = false, te = false;
	uint32_t tokens = 0;

	for (uint32_t i = ret->known_at[HTTP1_CONNECTION]; i && i <= ret->header_count; i++) {
		struct http1_slice list = ret->headers[i - 1].value, t;

		if (ret->headers[i - 1].known != HTTP1_CONNECTION)
			continue;
		while (next_token(&list, &t)) {
			if (++tokens > CONNECTION_TOKENS_MAX)
				return http1_refuse(why, "Connection names too much");
			if (http1_is(t, "close"))
				close = true;
			else if (http1_is(t, "keep-alive"))
				alive = true;
			else if (http1_is(t, "upgrade"))
				upgrade = true;
			else if (http1_is(t, "te"))
				te = true;
			else
				ret->hop_named = true;
		}
		if (!twice)
			break;
	}
	ret->keep_alive = !close && (ret->minor > 0 || alive);
	ret->upgrade = upgrade && ret->minor > 0 && http1_get(ret, HTTP1_UPGRADE).len;
	ret->te_trailers = te && http1_has_token(http1_get(ret, HTTP1_TE), "trailers");
	return HTTP1_DONE;
}

bool http1_is_hop(const struct http1_head *h, const struct http1_header *header)
{
	switch (header->known) {
	case HTTP1_CONNECTION:
	case HTTP1_UPGRADE:
	case HTTP1_TE:
	case HTTP1_TRANSFER_ENCODING:
	case HTTP1_KEEP_ALIVE:
	case HTTP1_PROXY_CONNECTION:
	case HTTP1_TRAILER:
	case HTTP1_DROPPED:
		return true;
	case HTTP1_OTHER:
		break;
	default: /* end to end: a sender must not be able to talk us out of Host or framing */
		return false;
	}
	if (!h->hop_named)
		return false;
	for (uint32_t i = h->known_at[HTTP1_CONNECTION]; i && i <= h->header_count; i++) {
		struct http1_slice list = h->headers[i - 1].value, t;

		if (h->headers[i - 1].known != HTTP1_CONNECTION)
			continue;
		while (next_token(&list, &t))
			if (http1_same(t, header->name))
				return true;
	}
	return false;
}

/* --- whole heads --- */

static enum http1_result fields_and_framing(const char **at, const char *end, uint32_t max,
					    struct http1_head *ret, const char **why)
{
	uint32_t twice;
	enum http1_result r = http1_fields(*at, end, max, ret, &twice, at, why);

	if (r == HTTP1_DONE)
		r = framing(ret, twice, why);
	if (r == HTTP1_DONE)
		r = connection(ret, twice >> HTTP1_CONNECTION & 1, why);
	return r;
}

static enum http1_result parse_request(const char **at, const char *end, uint32_t max,
				       struct http1_head *ret, const char **why)
{
	enum http1_result r;

	memset(ret, 0, offsetof(struct http1_head, headers));
	r = request_line(at, end, ret, why);
	if (r == HTTP1_DONE)
		r = fields_and_framing(at, end, max, ret, why);
	if (r == HTTP1_DONE)
		r = http1_target(ret, why);
	if (r == HTTP1_DONE)
		ret->expect_continue =
			ret->minor > 0 && http1_is(http1_get(ret, HTTP1_EXPECT), "100-continue");
	return r;
}

static enum http1_result parse_answer(const char **at, const char *end, uint32_t max,
				      struct http1_head *ret, const char **why)
{
	enum http1_result r;

	memset(ret, 0, offsetof(struct http1_head, headers));
	r = status_line(at, end, ret, why);
	return r == HTTP1_DONE ? fields_and_framing(at, end, max, ret, why) : r;
}

typedef enum http1_result parse_fn(const char **at, const char *end, uint32_t max,
				   struct http1_head *ret, const char **why);

static enum http1_result head(const char *p, size_t len, size_t start, size_t *scanned,
			      const struct http1_limits *limits, parse_fn *parse,
			      struct http1_head *ret, const char **why)
{
	const struct http1_shape shape = {.start = start, .limit = limits->head_bytes};
	const char *at = p + start;
	enum http1_result r, whole = HTTP1_DONE;

	if (*scanned)
		whole = http1_find_end(p, len, &shape, scanned, why);
	if (whole != HTTP1_DONE)
		return whole;
	r = parse(&at, p + MAX(start, MIN(len, shape.limit)),
		  MIN(limits->headers, limits->passed ? (uint32_t)HTTP1_PASSED_MAX : HTTP1_HEADERS_MAX), ret, why);
	if (r != HTTP1_DONE) {
		whole = http1_find_end(p, len, &shape, scanned, why);
		ensure(whole != HTTP1_DONE || r != HTTP1_MORE);
		return whole == HTTP1_DONE ? r : whole;
	}
	ret->head_len = (uint32_t)(at - p);
	return HTTP1_DONE;
}

enum http1_result http1_request(const char *p, size_t len, size_t *scanned,
				const struct http1_limits *limits, struct http1_head *ret,
				const char **why)
{
	size_t start = 0;

	while (start < 4 && len - start >= 2 && p[start] == '\r' && p[start + 1] == '\n')
		start += 2;
	return head(p, len, start, scanned, limits, parse_request, ret, why);
}

enum http1_result http1_answer(const char *p, size_t len, size_t *scanned,
			       const struct http1_limits *limits, bool to_head, bool to_connect,
			       struct http1_head *ret, const char **why)
{
	enum http1_result r = head(p, len, 0, scanned, limits, parse_answer, ret, why);

	if (r == HTTP1_DONE)
		answer_framing(ret, to_head, to_connect);
	return r;
}

const char *http1_reason(uint16_t status)
{
	static const char *const reasons[600] = {
		[100] = "Continue", [101] = "Switching Protocols", [102] = "Processing",
		[103] = "Early Hints",
		[200] = "OK", [201] = "Created", [202] = "Accepted",
		[203] = "Non-Authoritative Information", [204] = "No Content",
		[205] = "Reset Content", [206] = "Partial Content",
		[300] = "Multiple Choices", [301] = "Moved Permanently", [302] = "Found",
		[303] = "See Other", [304] = "Not Modified", [307] = "Temporary Redirect",
		[308] = "Permanent Redirect",
		[400] = "Bad Request", [401] = "Unauthorized", [402] = "Payment Required",
		[403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
		[406] = "Not Acceptable", [407] = "Proxy Authentication Required",
		[408] = "Request Timeout", [409] = "Conflict", [410] = "Gone",
		[411] = "Length Required", [412] = "Precondition Failed",
		[413] = "Content Too Large", [414] = "URI Too Long",
		[415] = "Unsupported Media Type", [416] = "Range Not Satisfiable",
		[417] = "Expectation Failed", [421] = "Misdirected Request",
		[422] = "Unprocessable Content", [425] = "Too Early", [426] = "Upgrade Required",
		[428] = "Precondition Required", [429] = "Too Many Requests",
		[431] = "Request Header Fields Too Large",
		[500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
		[503] = "Service Unavailable", [504] = "Gateway Timeout",
		[505] = "HTTP Version Not Supported", [507] = "Insufficient Storage",
		[511] = "Network Authentication Required",
	};

	return status < ARRAY_LEN(reasons) && reasons[status] ? reasons[status] : "";
}
