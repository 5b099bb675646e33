/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers that Upstate gives itself. They say so, and why, so that nobody looks
 * for the fault in the wrong place.
 */
#include "route/route_priv.h"

#include <stdarg.h>

#define OWN_MS 10000 /* to take one */

static const char page[] = "<!doctype html>\n<title>%u %s</title>\n<h1>%u %s</h1>\n"
			   "<p>%s.</p>\n<p><small>Answered by Upstate.</small></p>\n";

static void put_text(struct buffer *b, const char *fmt, ...) PRINTF(2, 3);

static void put_text(struct buffer *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	ensure(n >= 0 && (uint32_t)n < b->cap - b->len);
	b->len += (uint32_t)n;
}

static void write_answer(struct exchange *x, uint16_t status, const char *why)
{
	const char *reason = http1_reason(status);
	char body[1024];
	int n = snprintf(body, sizeof(body), page, status, reason, status, reason, why);
	struct buffer *b = x->ans;

	put_text(b, "HTTP/1.1 %u %s\r\nServer: Upstate\r\nContent-Type: text/html; charset=utf-8\r\n"
		    "Content-Length: %d\r\nCache-Control: no-store\r\n",
		 status, reason, n);
	if (status == 503 && x->app)
		put_text(b, "Retry-After: %u\r\n",
			 hold_retry_after(&x->app->hold, &x->app->limits, x->t->loop.now_ms));
	if (status == 405)
		put_text(b, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
	put_text(b, "Connection: %s\r\n\r\n", x->keep ? "keep-alive" : "close");
	if (!x->is_head)
		put_text(b, "%s", body);
}

void answer_own(struct exchange *x, uint16_t status, const char *why, bool close)
{
	bool garbled = out_pending(&x->reply.out); /* another head is half on its way */
	/* The rest of the body is not waited for; without one, the connection can go on. */
	bool unread = x->framing != HTTP1_BODY_NONE && !(x->ask.ended && !x->ask.piece);

	if (x->tcp) {
		tcp_refuse(x, status);
		return;
	}
	x->status = status;
	x->end = ACCESS_OWN;
	x->keep = x->keep && !close && !unread;
	x->state = X_OWN;
	count_own(x, status);
	exchange_let_go(x, false);
	buffer_put(x->t, &x->ans);
	x->ans = garbled ? NULL : buffer_get(x->t, BUFFER_SMALL);
	if (!x->ans) {
		x->status = 0;
		exchange_finish(x, AFTER_CLOSE);
		return;
	}
	write_answer(x, status, why);
	out_set_head(&x->reply.out, x->ans->data, x->ans->len);
	exchange_timer(x, OWN_MS);
	answer_run(x);
}

void answer_run(struct exchange *x)
{
	int n = conn_send(&x->client->conn, &x->reply.out, &x->reply.sent, &x->reply.writes);

	if (n < 0)
		exchange_client_left(x);
	else if (n > 0)
		exchange_finish(x, x->keep ? AFTER_KEEP : AFTER_LINGER);
}
