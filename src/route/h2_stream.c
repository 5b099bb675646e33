/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of HTTP/2, as a client that speaks HTTP/1.1: its connection has a flow (h2_flow.c)
 * where others have a socket. The head of the request is in conn.in from the start.
 *
 *	                  exchange goes on         over
 *	known to nghttp2  (a turn when asked for)  done: its last bytes are sent, bounded in time
 *	closed            a turn, and it ends      freed
 */
#include "route/h2_priv.h"

static void reset(struct h2_stream *s, uint32_t code)
{
	s->cut = true;
	nghttp2_submit_rst_stream(s->h2->link.ng, NGHTTP2_FLAG_NONE, s->flow.id, code);
	h2_flush_soon(&s->h2->link);
}

void h2_stream_wake(struct h2_flow *f)
{
	struct h2_stream *s = h2_stream_of_flow(f);

	if (s->client.x)
		client_again(&s->client);
}

/* --- its life --- */

/* Its last bytes were not taken in time; or those of its request are not wanted (RFC 9113, 8.1). */
static void on_stream_time(struct loop_timer *timer)
{
	struct h2_stream *s = container_of(timer, struct h2_stream, client.timer);

	reset(s, s->flow.local_ended ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR);
}

/* A reset that comes with the answer makes some clients throw the answer away (curl 7.88 does); and
 * often only the mark of the request's end is still on its way. */
void h2_stream_linger(struct h2_stream *s)
{
	struct loop *loop = &s->client.conn.t->loop;

	if (!s->flow.remote_ended)
		loop_timer_set(loop, &s->client.timer, loop->now_ms + LINGER_MS);
}

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id)
{
	struct thread *t = h->c->conn.t;
	struct h2_stream *s = pool_get(t, &t->h2_streams);
	struct loop_timer timer;

	if (!s)
		return NULL;
	timer = s->client.timer; /* may still be in the heap */
	memset(s, 0, sizeof(*s));
	client_init(&s->client, t, NULL);
	s->client.timer = timer;
	s->client.timer.on_time = on_stream_time;
	h2_flow_init(&s->flow, &h->link, &s->client.conn);
	s->flow.id = id;
	s->client.is_stream = true;
	memcpy(s->client.addr, h->c->addr, sizeof(s->client.addr));
	memcpy(s->client.ip, h->c->ip, sizeof(s->client.ip));
	s->client.port = h->c->port;
	s->client.https = h->c->https;
	s->h2 = h;
	list_add_tail(&h->streams, &s->in_h2);
	h->stream_count++;
	shm_add(&t->n->h2_streams, 1);
	return s;
}

void h2_stream_free(struct h2_stream *s)
{
	struct thread *t = s->client.conn.t;

	ensure(!s->client.x);
	list_del(&s->in_h2);
	list_del(&s->client.in_again);
	if (!--s->h2->stream_count)
		h2_flush_soon(&s->h2->link); /* it may be idle now, or at its end */
	conn_close(&s->client.conn);
	loop_timer_stop(&t->loop, &s->client.timer);
	if (!pool_put(&t->h2_streams, s)) {
		loop_timer_fini(&t->loop, &s->client.timer);
		free(s);
	}
}

void h2_stream_gone(struct h2_stream *s)
{
	struct exchange *x = s->client.x;

	if (!x)
		h2_stream_free(s);
	else if (x->state == X_TUNNEL)
		exchange_finish(x, AFTER_CLOSE);
	else
		exchange_client_left(x);
}

/* A piece of the body that came with its head goes out with it too, as far as there is room. */
static void begin(struct h2_stream *s)
{
	struct client *c = &s->client;

	if (s->flow.refused) {
		client_refuse(c, s->flow.refused, s->flow.why);
		return;
	}
	if (s->flow.queued && !s->flow.tunnel)
		conn_read(&c->conn);
	client_process(c);
}

void h2_stream_run(struct client *c)
{
	struct h2_stream *s = h2_stream_of(c);

	if (s->flow.closed)
		h2_stream_gone(s);
	else if (c->x)
		exchange_run(c->x);
	else if (!s->done)
		begin(s);
}

void h2_stream_over(struct client *c)
{
	struct h2_stream *s = h2_stream_of(c);
	struct loop *loop = &c->conn.t->loop;

	s->done = true;
	if (s->flow.closed) {
		h2_stream_free(s);
		return;
	}
	h2_flow_dropped(&s->flow);
	buffer_put(c->conn.t, &c->conn.in);
	if (s->flow.state != OUT_OVER)
		reset(s, s->flow.tunnel && s->submitted ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
	else if (s->flow.local_ended)
		h2_stream_linger(s);
	else
		loop_timer_set(loop, &c->timer, loop->now_ms + c->conn.t->table->limits.idle_ms);
}
