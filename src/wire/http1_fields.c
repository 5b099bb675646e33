/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines and fields of HTTP/1 sections. Names go by a table, a byte at a time;
 * values, which are most of a head, eight bytes at a time: a word is searched
 * for any control byte at once, since nothing else can end a value.
 *
 * Lines end with CRLF and nothing else. RFC 9112, 2.2 lets a recipient take a
 * bare LF; smuggling lives on some doing so and some not, so we do not.
 */
#include "wire/http1_priv.h"

#include <string.h>

#define ALL (HTTP1_TCHAR | HTTP1_TARGET | HTTP1_HOST_CHAR)
#define BOTH (HTTP1_TCHAR | HTTP1_TARGET)

const uint8_t http1_class[256] = {
	['!'] = BOTH,
	['"'] = HTTP1_TARGET,
	['#'] = HTTP1_TCHAR,
	['$' ... '\''] = BOTH,
	['(' ... ')'] = HTTP1_TARGET,
	['*' ... '+'] = BOTH,
	[','] = HTTP1_TARGET,
	['-' ... '.'] = ALL,
	['/'] = HTTP1_TARGET,
	['0' ... '9'] = ALL,
	[':' ... '@'] = HTTP1_TARGET,
	['A' ... 'Z'] = ALL,
	['[' ... ']'] = HTTP1_TARGET,
	['^'] = BOTH,
	['_'] = ALL,
	['`'] = BOTH,
	['a' ... 'z'] = ALL,
	['{'] = HTTP1_TARGET,
	['|'] = BOTH,
	['}'] = HTTP1_TARGET,
	['~'] = ALL,
};

/* The first control byte (0-31, 127) of p[0..end), or end. */
static inline const char *find_control(const char *p, const char *end)
{
	const uint64_t ones = ~0ull / 255, highs = ones * 128;

	while (end - p >= 8) {
		uint64_t w, found;

		memcpy(&w, p, 8);
		/* Borrows make false finds only above a true one, so "any?" is exact. */
		found = ((w - ones * 0x20) & ~w) | (((w ^ ones * 0x7f) - ones) & ~(w ^ ones * 0x7f));
		if (found & highs)
			break;
		p += 8;
	}
	while (p < end && (uint8_t)*p >= 0x20 && *p != 0x7f)
		p++;
	return p;
}

enum http1_result http1_find_end(const char *p, size_t len, const struct http1_shape *shape,
				 size_t *scanned, const char **why)
{
	const size_t stop = MIN(len, shape->limit);
	size_t i = MAX(*scanned, shape->start);

	while (i < stop) {
		i = (size_t)(find_control(p + i, p + stop) - p);
		if (i == stop)
			break;
		if (p[i] == '\t') {
			i++;
			continue;
		}
		if (p[i] == '\n')
			return http1_refuse(why, "a line ends with LF, not CRLF");
		if (p[i] != '\r')
			return http1_refuse(why, "control byte in the head");
		if (i + 1 == stop)
			break;
		if (p[i + 1] != '\n')
			return http1_refuse(why, "CR without LF");
		if (i == shape->start && !shape->may_be_empty)
			return http1_refuse(why, "nothing but empty lines");
		if (i == shape->start || p[i - 1] == '\n') {
			*scanned = i;
			return HTTP1_DONE;
		}
		i += 2;
	}
	*scanned = i;
	if (len < shape->limit)
		return HTTP1_MORE;
	if (shape->start < stop && memchr(p + shape->start, '\n', stop - shape->start)) {
		*why = "the head is too long";
		return HTTP1_LONG_HEAD;
	}
	*why = "the first line is too long";
	return HTTP1_LONG_LINE;
}

static bool same_name(const char *name, const char *lower, size_t len)
{
	/* Setting bit 5 maps no other token character onto a letter or '-'. */
	for (size_t i = 0; i < len; i++)
		if ((name[i] | 0x20) != lower[i])
			return false;
	return true;
}

#define TRY(known, lower)                                                                          \
	return same_name(name, lower, sizeof(lower) - 1) ? HTTP1_##known : HTTP1_OTHER

/* Length and first letter leave one candidate at most. */
static enum http1_known known_name(const char *name, size_t len)
{
	const char first = name[0] | 0x20;

	switch (len) {
	case 2:
		TRY(TE, "te");
	case 4:
		TRY(HOST, "host");
	case 6:
		TRY(EXPECT, "expect");
	case 7:
		if (first == 'u')
			TRY(UPGRADE, "upgrade");
		TRY(TRAILER, "trailer");
	case 9:
		TRY(FORWARDED, "forwarded");
	case 10:
		if (first == 'c')
			TRY(CONNECTION, "connection");
		if (first == 'u')
			TRY(USER_AGENT, "user-agent");
		if (first == 't')
			TRY(TRACESTATE, "tracestate");
		TRY(KEEP_ALIVE, "keep-alive");
	case 11:
		TRY(TRACEPARENT, "traceparent");
	case 12:
		if (first == 'c')
			TRY(CONTENT_TYPE, "content-type");
		TRY(X_REQUEST_ID, "x-request-id");
	case 14:
		TRY(CONTENT_LENGTH, "content-length");
	case 15:
		if (first == 'x')
			TRY(X_FORWARDED_FOR, "x-forwarded-for");
		TRY(IDEMPOTENCY_KEY, "idempotency-key");
	case 16:
		if (first == 'x')
			TRY(X_FORWARDED_HOST, "x-forwarded-host");
		TRY(PROXY_CONNECTION, "proxy-connection");
	case 17:
		if (first == 't')
			TRY(TRANSFER_ENCODING, "transfer-encoding");
		TRY(X_FORWARDED_PROTO, "x-forwarded-proto");
	default:
		return HTTP1_OTHER;
	}
}

static_assert(HTTP1_KNOWN_COUNT == 21, "known_name() must know every row of the table");

static enum http1_result bad_name(char c, bool empty, const char **why)
{
	if (empty && (c == ' ' || c == '\t'))
		return http1_refuse(why, "a folded header line");
	if (empty && c == ':')
		return http1_refuse(why, "a header without a name");
	if (c == ' ' || c == '\t')
		return http1_refuse(why, "white space before the colon of a header");
	return http1_refuse(why, "invalid byte in a header name");
}

/* The value from p to the end of its line; *ret_next is the start of the next. */
static inline enum http1_result field_value(const char *p, const char *end,
					    struct http1_slice *ret, const char **ret_next,
					    const char **why)
{
	const char *start, *last;

	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	start = p;
	for (;;) {
		p = find_control(p, end);
		if (p == end)
			return HTTP1_MORE;
		if (*p != '\t')
			break;
		p++;
	}
	if (*p != '\r')
		return http1_refuse(why, "control byte in a header value");
	if (end - p < 2)
		return HTTP1_MORE;
	if (p[1] != '\n')
		return http1_refuse(why, "CR without LF");
	last = p;
	while (last > start && (last[-1] == ' ' || last[-1] == '\t'))
		last--;
	*ret = (struct http1_slice){start, (uint32_t)(last - start)};
	*ret_next = p + 2;
	return HTTP1_DONE;
}

enum http1_result http1_fields(const char *p, const char *end, uint32_t max,
			       struct http1_head *ret, uint32_t *ret_twice, const char **ret_end,
			       const char **why)
{
	uint32_t n = 0, twice = 0;

	memset(ret->known_at, 0, sizeof(ret->known_at));
	for (;;) {
		struct http1_header *h = &ret->headers[n];
		const char *name = p;
		enum http1_result r;

		while (p < end && http1_char(*p, HTTP1_TCHAR))
			p++;
		if (p == end)
			return HTTP1_MORE;
		if (*p == '\r' && p == name)
			break;
		if (*p != ':' || p == name)
			return bad_name(*p, p == name, why);
		if (n == max) {
			*why = "too many header lines";
			return HTTP1_LONG_HEAD;
		}
		h->name = (struct http1_slice){name, (uint32_t)(p - name)};
		h->known = known_name(name, h->name.len);
		r = field_value(p + 1, end, &h->value, &p, why);
		if (r != HTTP1_DONE)
			return r;
		n++;
		if (ret->known_at[h->known])
			twice |= 1u << h->known;
		else if (h->known)
			ret->known_at[h->known] = n;
	}
	if (end - p < 2)
		return HTTP1_MORE;
	if (p[1] != '\n')
		return http1_refuse(why, "CR without LF");
	ret->header_count = n;
	ret->added_len = 0;
	*ret_twice = twice;
	*ret_end = p + 2;
	return HTTP1_DONE;
}
