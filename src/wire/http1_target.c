/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is asked for what: Host and the four forms of a target (RFC 9112, 3.2).
 * Whatever form came, the caller gets a host, and a target in origin form.
 */
#include "wire/http1_priv.h"

#include <string.h>

/* host [":" port] (RFC 9110, 7.2), of unreserved characters or an IPv6 address in brackets. */
static bool valid_host(struct http1_slice s, bool need_port)
{
	const char *p = s.p, *end = p + s.len, *start;
	uint32_t port = 0;

	if (p < end && *p == '[') {
		for (start = ++p; p < end && *p != ']'; p++)
			if (!(*p >= '0' && *p <= ':') && *p != '.' &&
			    !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f'))
				return false;
		if (p == end || p - start < 2)
			return false;
		p++;
	} else {
		for (start = p; p < end && http1_char(*p, HTTP1_HOST_CHAR); p++)
			;
		if (p == start)
			return false;
	}
	if (p == end)
		return !need_port;
	if (*p != ':' || p + 1 == end || end - p > 6)
		return false;
	while (++p < end) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (uint32_t)(*p - '0');
	}
	return port <= 65535;
}

static struct http1_slice without_port(struct http1_slice host, const char *port)
{
	uint32_t n = (uint32_t)strlen(port);

	if (host.len > n && memcmp(host.p + host.len - n, port, n) == 0)
		host.len -= n;
	return host;
}

/* "http://host/path" (RFC 9112, 3.2.2): becomes the origin form. The RFC lets the authority win
 * over Host; servers behind us may not, so they must agree. */
static enum http1_result absolute_form(struct http1_head *ret, struct http1_slice host,
				       const char **why)
{
	static const struct {
		const char *text, *port;
	} schemes[] = {{"http://", ":80"}, {"https://", ":443"}};
	struct http1_slice t = ret->target, authority;
	const char *p, *end = t.p + t.len, *port = NULL;
	uint32_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(schemes) && !port; i++) {
		n = (uint32_t)strlen(schemes[i].text);
		if (t.len > n && http1_is((struct http1_slice){t.p, n}, schemes[i].text))
			port = schemes[i].port;
	}
	if (!port)
		return http1_refuse(why, "the target is neither a path nor an http URI");
	for (p = t.p + n; p < end && *p != '/' && *p != '?'; p++)
		;
	authority = (struct http1_slice){t.p + n, (uint32_t)(p - t.p) - n};
	if (!valid_host(authority, false))
		return http1_refuse(why, "invalid authority in the target");
	if (host.len && !http1_same(without_port(host, port), without_port(authority, port)))
		return http1_refuse(why, "Host is not the authority of the target");
	ret->host = authority;
	if (p < end && *p == '?')
		return http1_refuse(why, "the target has a query but no path");
	if (p < end)
		ret->target = (struct http1_slice){p, (uint32_t)(end - p)};
	else if (http1_is(ret->method, "options")) /* RFC 9112, 3.2.4 */
		ret->target = (struct http1_slice){"*", 1};
	else
		ret->target = (struct http1_slice){t.p + n - 1, 1}; /* the '/' before the host */
	return HTTP1_DONE;
}

static bool is_method(const struct http1_head *h, const char *name)
{
	return h->method.len == strlen(name) && memcmp(h->method.p, name, h->method.len) == 0;
}

static enum http1_result connect_form(struct http1_head *ret, struct http1_slice host,
				      const char **why)
{
	ret->is_connect = true;
	if (!valid_host(ret->target, true))
		return http1_refuse(why, "the target of CONNECT is not host:port");
	if (host.len && !http1_same(host, ret->target) &&
	    !http1_same(host, without_port(without_port(ret->target, ":443"), ":80")))
		return http1_refuse(why, "Host is not the target of CONNECT");
	ret->host = ret->target;
	if (ret->framing != HTTP1_BODY_NONE || ret->known_at[HTTP1_CONTENT_LENGTH])
		return http1_refuse(why, "CONNECT with a body");
	return HTTP1_DONE;
}

enum http1_result http1_target(struct http1_head *ret, const char **why)
{
	struct http1_slice host = http1_get(ret, HTTP1_HOST), t = ret->target;
	enum http1_result r = HTTP1_DONE;
	const char *query;

	if (ret->known_at[HTTP1_HOST] ? !valid_host(host, false) : ret->minor > 0)
		return http1_refuse(why, host.len ? "invalid Host" : "Host is missing or empty");
	ret->host = host.p ? host : (struct http1_slice){"", 0};
	ret->is_get = is_method(ret, "GET");
	ret->is_head = is_method(ret, "HEAD");
	if (is_method(ret, "CONNECT"))
		return connect_form(ret, host, why);
	if (t.p[0] != '/' && !(t.len == 1 && t.p[0] == '*'))
		r = absolute_form(ret, host, why);
	if (r != HTTP1_DONE)
		return r;
	t = ret->target;
	ret->path = t;
	if (t.p[0] == '*') {
		ret->is_options_star = true;
		if (!is_method(ret, "OPTIONS"))
			return http1_refuse(why, "the target '*' is for OPTIONS only");
		return HTTP1_DONE;
	}
	query = memchr(t.p, '?', t.len);
	if (query)
		ret->path.len = (uint32_t)(query - t.p);
	return HTTP1_DONE;
}

int http1_host_name(struct http1_slice host, char ret[256])
{
	uint32_t n = host.len;

	/* "[::1]:80": the last ']' ends the host; else the first ':' does. */
	if (n && host.p[0] == '[') {
		const char *end = memchr(host.p, ']', n);

		n = end ? (uint32_t)(end - host.p) + 1 : n;
	} else {
		const char *colon = n ? memchr(host.p, ':', n) : NULL;

		n = colon ? (uint32_t)(colon - host.p) : n;
	}
	if (n && host.p[n - 1] == '.') /* the root's own dot */
		n--;
	if (n > 255)
		return -1;
	for (uint32_t i = 0; i < n; i++)
		ret[i] = host.p[i] >= 'A' && host.p[i] <= 'Z' ? (char)(host.p[i] | 0x20)
							       : host.p[i];
	return (int)n;
}
