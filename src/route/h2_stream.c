/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of HTTP/2, as a client that speaks HTTP/1.1: its connection has this layer
 * where others have a socket. Read from it comes the text of the request, made of what
 * the session got:
 *
 *	head (in conn.in from the start)  body, in chunks when no length was told  last chunk, trailer
 *
 * and what is sent to it is taken apart again (h2_answer.c). Window is given back as the
 * exchange reads: what a client may send ahead is bounded by the windows, and no buffer is
 * held while there are no bytes.
 *
 *	                  exchange goes on         over
 *	known to nghttp2  (a turn when asked for)  done: its last bytes are sent, bounded in time
 *	closed            a turn, and it ends      freed
 */
#include "route/h2_priv.h"

static void reset(struct h2_stream *s, uint32_t code)
{
	s->cut = true;
	nghttp2_submit_rst_stream(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, code);
	h2_flush_soon(s->h2);
}

/* --- what is read --- */

bool h2_stream_data(struct h2_stream *s, const uint8_t *p, size_t len)
{
	struct thread *t = s->client.conn.t;

	while (len) {
		struct buffer *b = s->body_last;
		uint32_t n;

		if (!b || b->at + b->len == b->cap) {
			b = buffer_get(t, s->queued || len > BUFFER_SMALL ? BUFFER_LARGE : BUFFER_SMALL);
			if (!b)
				return false;
			b->next = NULL;
			if (s->body)
				s->body_last->next = b;
			else
				s->body = b;
			s->body_last = b;
		}
		n = (uint32_t)MIN(len, b->cap - b->at - b->len);
		memcpy(b->data + b->at + b->len, p, n);
		b->len += n;
		s->queued += n;
		p += n;
		len -= n;
	}
	h2_stream_readable(s);
	return true;
}

void h2_stream_readable(struct h2_stream *s)
{
	s->client.conn.readable = true;
	if (s->client.x)
		client_again(&s->client);
}

static void pop(struct h2_stream *s)
{
	struct buffer *b = s->body;

	s->body = b->next;
	buffer_put(s->client.conn.t, &b);
	if (!s->body)
		s->body_last = NULL;
}

void h2_stream_dropped(struct h2_stream *s)
{
	while (s->body)
		pop(s);
	if (s->queued) {
		nghttp2_session_consume_connection(s->h2->ng, s->queued);
		h2_flush_soon(s->h2);
	}
	s->queued = s->piece = 0;
}

/* What comes next, when no piece is in hand: framing, or nothing. */
static bool next_piece(struct h2_stream *s)
{
	if (s->queued) {
		s->piece = s->queued;
		s->frame = s->line;
		if (s->chunked)
			s->frame_len = (uint32_t)snprintf(s->line, sizeof(s->line), "%x\r\n", s->piece);
		return true;
	}
	if (!s->remote_ended || s->end_read)
		return false;
	s->end_read = true;
	if (!s->chunked)
		return false;
	s->frame = s->trailer ? s->trailer->data : "0\r\n\r\n";
	s->frame_len = s->trailer ? s->trailer->len : 5;
	return true;
}

static uint32_t read_frame(struct h2_stream *s, char *p, uint32_t room)
{
	uint32_t n = MIN(room, s->frame_len);

	memcpy(p, s->frame, n);
	s->frame += n;
	s->frame_len -= n;
	return n;
}

static uint32_t read_body(struct h2_stream *s, char *p, uint32_t room)
{
	struct buffer *b = s->body;
	uint32_t n = MIN(MIN(room, s->piece), b->len);

	memcpy(p, b->data + b->at, n);
	b->at += n;
	b->len -= n;
	if (!b->len)
		pop(s);
	s->queued -= n;
	s->piece -= n;
	if (!s->piece && s->chunked) {
		s->frame = "\r\n";
		s->frame_len = 2;
	}
	return n;
}

/* On a long way, a window is what one round trip brings. Whose target has taken a whole one, and waits, may
 * send twice as much ahead; whose target is slow may not, so that the window of the connection stays for others. */
static void grow_window(struct h2_stream *s, uint32_t took)
{
	s->taken += took;
	if (s->queued || s->taken < s->window || s->window >= H2_STREAM_MOST)
		return;
	s->taken = 0;
	s->window = MIN(2 * s->window, H2_STREAM_MOST);
	nghttp2_session_set_local_window_size(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, (int32_t)s->window);
}

static ssize_t stream_recv(struct conn *c, void *p, size_t room)
{
	struct h2_stream *s = container_of(c, struct h2_stream, client.conn);
	uint32_t got = 0, before = s->queued, most = (uint32_t)MIN(room, BUFFER_MOST);

	if (s->closed) {
		errno = ECONNRESET;
		return -1;
	}
	while (got < most) {
		if (s->frame_len)
			got += read_frame(s, (char *)p + got, most - got);
		else if (s->piece)
			got += read_body(s, (char *)p + got, most - got);
		else if (!next_piece(s))
			break;
	}
	if (before != s->queued) {
		nghttp2_session_consume(s->h2->ng, s->id, before - s->queued);
		grow_window(s, before - s->queued);
		h2_flush_soon(s->h2);
	}
	if (got || s->end_read)
		return (ssize_t)got;
	errno = EAGAIN;
	return -1;
}

/* --- what is sent --- */

static ssize_t stream_send(struct conn *c, const struct iovec *v, size_t n)
{
	struct h2_stream *s = container_of(c, struct h2_stream, client.conn);
	ssize_t total = 0;

	for (size_t i = 0; i < n && !s->closed; i++) {
		ssize_t took = h2_take(s, v[i].iov_base, v[i].iov_len);

		if (took < 0) {
			log_debug("h2.answer.bad", "client=%s stream=%d", s->client.ip, s->id);
			errno = EPIPE;
			return -1;
		}
		total += took;
		if ((size_t)took < v[i].iov_len)
			break;
	}
	h2_flush_soon(s->h2);
	if (total)
		return total;
	errno = s->closed ? EPIPE : EAGAIN;
	return -1;
}

/* A tunnel's end of our side. */
static int stream_shut(struct conn *c)
{
	struct h2_stream *s = container_of(c, struct h2_stream, client.conn);

	s->state = OUT_OVER;
	if (s->deferred) {
		s->deferred = false;
		nghttp2_session_resume_data(s->h2->ng, s->id);
	}
	h2_flush_soon(s->h2);
	return 0;
}

static void stream_close(struct conn *c, bool hard UNUSED)
{
	struct h2_stream *s = container_of(c, struct h2_stream, client.conn);

	while (s->body)
		pop(s);
	buffer_put(c->t, &s->trailer);
	buffer_put(c->t, &s->out);
	buffer_put(c->t, &s->out_trailer);
}

static const struct conn_layer layer = {
	.recv = stream_recv, .send = stream_send, .shut = stream_shut, .close = stream_close};

/* --- its life --- */

/* Its last bytes were not taken in time; or those of its request are not wanted (RFC 9113, 8.1). */
static void on_stream_time(struct loop_timer *timer)
{
	struct h2_stream *s = container_of(timer, struct h2_stream, client.timer);

	reset(s, s->local_ended ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR);
}

/* A reset that comes with the answer makes some clients throw the answer away (curl 7.88 does); and
 * often only the mark of the request's end is still on its way. */
void h2_stream_linger(struct h2_stream *s)
{
	struct loop *loop = &s->client.conn.t->loop;

	if (!s->remote_ended)
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
	s->client.conn.layer = &layer;
	s->client.is_stream = true;
	memcpy(s->client.addr, h->c->addr, sizeof(s->client.addr));
	memcpy(s->client.ip, h->c->ip, sizeof(s->client.ip));
	s->client.port = h->c->port;
	s->client.https = h->c->https;
	s->h2 = h;
	s->id = id;
	s->window = NGHTTP2_INITIAL_WINDOW_SIZE;
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
		h2_flush_soon(s->h2); /* it may be idle now, or at its end */
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

	if (s->refused) {
		client_refuse(c, s->refused, s->why);
		return;
	}
	if (s->queued && !s->tunnel)
		conn_read(&c->conn);
	client_process(c);
}

void h2_stream_run(struct client *c)
{
	struct h2_stream *s = h2_stream_of(c);

	if (s->closed)
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
	if (s->closed) {
		h2_stream_free(s);
		return;
	}
	h2_stream_dropped(s);
	buffer_put(c->conn.t, &c->conn.in);
	if (s->state != OUT_OVER)
		reset(s, s->tunnel && s->submitted ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
	else if (s->local_ended)
		h2_stream_linger(s);
	else
		loop_timer_set(loop, &c->timer, loop->now_ms + c->conn.t->table->limits.idle_ms);
}
