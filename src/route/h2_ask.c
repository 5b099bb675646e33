/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of HTTP/2 to a target, as a connection to one that speaks HTTP/1.1: it has a flow (h2_flow.c)
 * where others have a socket. The text of a request that is sent to it becomes a HEADERS frame and what
 * follows; what the target answers is read from it as text.
 *
 *	                  exchange goes on           has let go of it
 *	nghttp2 knows it  a turn when asked for      done: RST_STREAM is on its way, or the target's END_STREAM
 *	closed            what came is still read    freed
 */
#include "route/h2_priv.h"

void h2_ask_wake(struct h2_flow *f)
{
	struct h2_ask *a = h2_ask_of_flow(f);

	if (a->up.x)
		client_again(a->up.x->client);
}

struct h2_ask *h2_ask_new(struct h2_up *h)
{
	struct thread *t = h->conn.t;
	struct h2_ask *a;

	t->h2_asks.size = sizeof(*a);
	a = pool_get(t, &t->h2_asks);
	if (!a)
		return NULL;
	memset(a, 0, sizeof(*a));
	conn_init(&a->up.conn, t, NULL);
	h2_flow_init(&a->flow, &h->link, &a->up.conn);
	a->up.target = h->target;
	a->up.is_stream = true;
	a->up.connecting = h->connecting;
	a->up.conn.writable = !h->connecting;
	/* Had the others on it, it would not be one whose end may be on its way. */
	a->up.reused = h->old && !h->ask_count;
	a->up.idle_ms = t->loop.now_ms - h->idle_since_ms;
	a->h2 = h;
	list_add_tail(&h->asks, &a->in_h2);
	h->ask_count++;
	h->old = true;
	h2_up_wait(h);
	return a;
}

static void ask_free(struct h2_ask *a)
{
	struct thread *t = a->up.conn.t;

	buffer_put(t, &a->text);
	conn_close(&a->up.conn);
	if (!pool_put(&t->h2_asks, a))
		free(a);
}

/* Takes it off its connection. */
static void detach(struct h2_ask *a)
{
	struct h2_up *h = a->h2;

	list_del(&a->in_h2);
	if (h->link.reading == &a->flow)
		h->link.reading = NULL;
	a->h2 = NULL;
	a->flow.closed = true;
	if (--h->ask_count)
		return;
	h->idle_since_ms = h->conn.t->loop.now_ms;
	h->linger_ms = 0;
	h2_flush_soon(&h->link); /* it may be at its end */
}

void h2_ask_over(struct h2_ask *a)
{
	detach(a);
	if (a->done) {
		ask_free(a);
		return;
	}
	buffer_put(a->up.conn.t, &a->text);
	a->up.conn.readable = a->up.conn.writable = true;
	h2_ask_wake(&a->flow);
}

void h2_ask_reset(struct h2_ask *a, int error, uint32_t code)
{
	a->flow.error = error;
	nghttp2_submit_rst_stream(a->h2->link.ng, NGHTTP2_FLAG_NONE, a->flow.id, code);
	h2_flush_soon(&a->h2->link);
}

/* A length that was told may be reached before the target says that it was all. */
void h2_ask_close(struct upstream *u, bool whole)
{
	struct h2_ask *a = container_of(u, struct h2_ask, up);
	struct h2_up *h = a->h2;

	list_del(&u->in_target);
	if (h && !a->flow.id)
		detach(a);
	if (!a->h2) {
		ask_free(a);
		return;
	}
	a->done = true;
	a->done_ms = h->conn.t->loop.now_ms;
	if (!whole || !a->flow.local_ended)
		h2_ask_reset(a, 0, NGHTTP2_CANCEL);
	else if (!h->linger_ms)
		h->linger_ms = a->done_ms + LINGER_MS;
	a->flow.state = OUT_BODY; /* no end is made of what is not there any more */
	conn_close(&u->conn);
	buffer_put(u->conn.t, &u->conn.in);
	h2_up_wait(h);
}

int h2_ask_error(struct upstream *u)
{
	struct h2_ask *a = container_of(u, struct h2_ask, up);

	return a->flow.closed ? a->flow.error ? a->flow.error : ECONNRESET : 0;
}

/* --- the head of a request (RFC 9113, 8.3.1) --- */

static nghttp2_nv field(const char *name, const char *value, size_t len)
{
	return (nghttp2_nv){.name = (uint8_t *)name, .namelen = strlen(name), .value = (uint8_t *)value,
			    .valuelen = len};
}

/* Behind them come the fields; what is about one connection was left out of those, and Host is :authority. */
static size_t fields_of(struct http1_head *head, nghttp2_nv *nv)
{
	size_t n = 0;

	nv[n++] = field(":method", head->method.p, head->method.len);
	nv[n++] = field(":scheme", "http", 4); /* of this connection; the user's is in X-Forwarded-Proto */
	if (head->host.len)
		nv[n++] = field(":authority", head->host.p, head->host.len);
	nv[n++] = field(":path", head->target.p, head->target.len);
	if (head->known_at[HTTP1_HOST])
		head->headers[head->known_at[HTTP1_HOST] - 1].known = HTTP1_DROPPED;
	n += h2_flow_fields(head, false, nv + n);
	if (head->te_trailers)
		nv[n++] = field("te", "trailers", 8);
	return n;
}

ssize_t h2_ask_head(struct h2_flow *f, const char *p, size_t len)
{
	const struct http1_limits limits = {UINT32_MAX, HTTP1_PASSED_MAX, true};
	struct http1_head *head = &f->conn->t->head;
	nghttp2_data_provider body = h2_flow_body(f);
	nghttp2_nv nv[HTTP1_PASSED_MAX + 5];
	size_t scanned = 0;
	const char *why;
	int32_t id;

	if (http1_request(p, len, &scanned, &limits, head, &why) != HTTP1_DONE)
		return -1;
	f->is_head = head->is_head;
	f->framing = head->framing;
	f->left = head->length;
	f->state = head->framing == HTTP1_BODY_NONE ? OUT_OVER : OUT_BODY;
	id = nghttp2_submit_request(f->link->ng, NULL, nv, fields_of(head, nv),
				    f->state == OUT_OVER ? NULL : &body, f);
	if (id < 0) { /* its numbers are used up, or there is no memory */
		h2_up_of(f->link)->closing = true;
		return -1;
	}
	f->id = id;
	return (ssize_t)head->head_len;
}
