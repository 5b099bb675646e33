/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers that Upstate gives itself. They say so, and why, so that nobody looks
 * for the fault in the wrong place.
 */
#include "route/route_priv.h"

#include <stdarg.h>

#define OWN_MS 10000 /* to take one */

#define HEAD_MOST 600u /* of our own lines */

static const char page[] = "<!doctype html>\n<title>%u %s</title>\n<h1>%u %s</h1>\n"
			   "<p>%s.</p>\n<p><small>Answered by Upstate.</small></p>\n";

struct body {
	const char *type, *text, *id; /* id: of the request, in the place of "{id}" in the text; or NULL */
	uint32_t len, id_len;
};

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

static void put_bytes(struct buffer *b, const char *p, uint32_t n)
{
	ensure(n <= b->cap - b->len);
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

/* The app's own page for this status, if it has one. */
static bool find_page(struct exchange *x, uint16_t status, struct body *ret)
{
	const struct table_policy *p = x->app ? policy_of(x->app) : NULL;
	const struct table_rule *r = p ? policy_page(x->t->table, p, status) : NULL;

	if (!r)
		return false;
	*ret = (struct body){.type = table_string(x->t->table, r->key),
			     .text = table_string(x->t->table, r->value), .len = r->value_len};
	if (x->req && memmem(ret->text, ret->len, "{id}", 4)) {
		ret->id = x->req->data + x->id.at;
		ret->id_len = x->id.len;
	}
	return true;
}

static void put_body(struct buffer *b, const struct body *y)
{
	const char *mark = y->id ? memmem(y->text, y->len, "{id}", 4) : NULL;

	if (!mark) {
		put_bytes(b, y->text, y->len);
		return;
	}
	put_bytes(b, y->text, (uint32_t)(mark - y->text));
	put_bytes(b, y->id, y->id_len);
	put_bytes(b, mark + 4, y->len - (uint32_t)(mark + 4 - y->text));
}

/* own NULL: a page of the app's or of ours, which says why. */
static bool write_answer(struct exchange *x, uint16_t status, const char *why, const char *more, const struct body *own)
{
	const char *reason = http1_reason(status);
	char usual[1024];
	struct body y = {.type = "text/html; charset=utf-8", .text = usual};
	struct buffer *b;
	uint32_t len;

	if (own)
		y = *own;
	else if (!find_page(x, status, &y))
		y.len = (uint32_t)snprintf(usual, sizeof(usual), page, status, reason, status, reason, why);
	len = y.id ? y.len - 4 + y.id_len : y.len;
	b = x->ans = buffer_get(x->t, HEAD_MOST + (uint32_t)strlen(more) + len);
	if (!b)
		return false;
	put_text(b, "HTTP/1.1 %u %s\r\nServer: Upstate\r\nContent-Type: %.200s\r\n"
		    "Content-Length: %u\r\nCache-Control: no-store\r\n%s",
		 status, reason, y.type, len, more);
	if (status == 503 && x->app && !more[0])
		put_text(b, "Retry-After: %u\r\n",
			 hold_retry_after(&x->app->hold, &x->app->limits, x->t->loop.now_ms));
	if (x->app && x->app->conf.hsts_s && x->client->https)
		put_text(b, "Strict-Transport-Security: max-age=%u\r\n", x->app->conf.hsts_s);
	if (status == 405)
		put_text(b, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
	put_text(b, "Connection: %s\r\n\r\n", x->keep ? "keep-alive" : "close");
	if (!x->is_head)
		put_body(b, &y);
	return true;
}

static void answer(struct exchange *x, uint16_t status, const char *why, bool close, const char *more,
		   const struct body *own)
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
	x->limit_ms = 0; /* it has its own */
	x->keep = x->keep && !close && !unread && !(x->t->leaving && leave_closes(x->client));
	x->state = X_OWN;
	count_own(x, status);
	exchange_let_go(x, false);
	buffer_put(x->t, &x->ans);
	if (garbled || !write_answer(x, status, why, more, own)) {
		x->status = 0;
		exchange_finish(x, AFTER_CLOSE);
		return;
	}
	out_set_head(&x->reply.out, x->ans->data, x->ans->len);
	exchange_timer(x, OWN_MS);
	answer_run(x);
}

void answer_more(struct exchange *x, uint16_t status, const char *why, bool close, const char *more)
{
	answer(x, status, why, close, more, NULL);
}

void answer_bytes(struct exchange *x, const char *bytes, uint32_t len)
{
	const struct body own = {.type = "application/octet-stream", .text = bytes, .len = len};

	answer(x, 200, "", false, "", &own);
}

void answer_own(struct exchange *x, uint16_t status, const char *why, bool close)
{
	answer_more(x, status, why, close, "");
}

void answer_run(struct exchange *x)
{
	int n = conn_send(&x->client->conn, &x->reply.out, &x->reply.sent, &x->reply.writes);

	if (n < 0)
		exchange_client_left(x);
	else if (n > 0)
		exchange_finish(x, x->keep ? AFTER_KEEP : AFTER_LINGER);
}
