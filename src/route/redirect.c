/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain requests that belong on https: 308, so that the method stays (RFC 9110, 15.4.9), to the same
 * host, path and query. What a trusted proxy says its user sent over TLS is not led there again: that
 * would go round for ever.
 */
#include "route/route_priv.h"

#define LINE_MOST (BUFFER_MOST + 300)

bool redirect_to_https(struct exchange *x, const struct http1_head *h)
{
	struct thread *t = x->t;
	uint32_t port = t->table->limits.https_port, most = h->target.len + 300;
	int host = http1_host_name(h->host, t->host);
	struct buffer *line;
	char at[12] = "";

	if (!table_to_https(&x->app->conf, x->client->https || headers_proxy_https(x, h), h->path.p, h->path.len))
		return false;
	if (host <= 0 || h->is_options_star || most > LINE_MOST) {
		answer_own(x, 400, "this app is reached over https only", false);
		return true;
	}
	line = buffer_get(t, most);
	if (!line) {
		answer_own(x, 503, "out of memory", true);
		return true;
	}
	if (port && port != 443)
		snprintf(at, sizeof(at), ":%u", port);
	snprintf(line->data, line->cap, "Location: https://%.*s%s%.*s\r\n", host, t->host, at,
		 (int)h->target.len, h->target.p);
	answer_more(x, 308, "this app is reached over https", false, line->data);
	buffer_put(t, &line);
	return true;
}
