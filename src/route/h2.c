/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's connection that speaks HTTP/2 (RFC 9113): one nghttp2 session over it,
 * and for each stream a client of its own (h2_stream.c), which everything behind it
 * takes for one that speaks HTTP/1.1. So routing, waiting, retrying and counting stay one.
 *
 *	socket ──read──> nghttp2 ──text of requests──> struct client, one a stream ──> exchanges
 *	socket <─write── flush, once a turn <── nghttp2 <──text of answers───────────┘
 *
 * Frames of all streams that a turn made are sent in one write. What the socket does not
 * take waits here, bounded; then nothing more is asked of nghttp2, streams fill up, and
 * their exchanges wait.
 *
 * The end in order is told in two steps (RFC 9113, 6.8): GOAWAY for no stream yet, and
 * when the echo of a PING says that what was on its way is here, the one with the last.
 */
#include "route/h2_priv.h"

void h2_flush_soon(struct h2 *h)
{
	if (!list_linked(&h->in_flush))
		list_add_tail(&h->c->conn.t->h2_flush, &h->in_flush);
}

static void wait_for(struct h2 *h, enum h2_wait what, uint32_t ms)
{
	struct loop *loop = &h->c->conn.t->loop;

	if (h->wait == what)
		return;
	h->wait = what;
	if (ms)
		loop_timer_set(loop, &h->c->timer, loop->now_ms + ms);
	else
		loop_timer_stop(loop, &h->c->timer);
}

void h2_wait(struct h2 *h)
{
	const struct table_limits *l = &h->c->conn.t->table->limits;

	if (h->wait == H2_ENDING || h->wait == H2_DRAINING)
		return;
	if (h->reading)
		wait_for(h, H2_HEAD, l->header_ms);
	else if (h->stream_count)
		wait_for(h, H2_BUSY, 0);
	else
		wait_for(h, H2_IDLE, l->idle_ms);
}

/* What it waited for has come. */
void h2_wait_over(struct h2 *h)
{
	wait_for(h, H2_BUSY, 0);
	h2_wait(h);
}

static void end_session(struct h2 *h, uint32_t code)
{
	nghttp2_session_terminate_session(h->ng, code);
	wait_for(h, H2_ENDING, H2_END_MS);
	h2_flush_soon(h);
}

void h2_calm(struct h2 *h)
{
	if (h->wait == H2_ENDING)
		return;
	shm_add(&h->c->conn.t->n->h2_calmed, 1);
	end_session(h, NGHTTP2_ENHANCE_YOUR_CALM);
}

void h2_note(struct h2 *h, enum flood_kind kind)
{
	if (!flood_note(&h->flood, kind, h->c->conn.t->loop.now_ms))
		h2_calm(h);
}

/* --- the end --- */

/* Of the session, not of the connection. */
static void fini(struct h2 *h)
{
	struct client *c = h->c;
	struct h2_stream *s;

	LIST_EACH(s, &h->streams, in_h2)
		s->closed = s->client.conn.broken = true;
	while (!list_empty(&h->streams))
		h2_stream_gone(container_of(h->streams.next, struct h2_stream, in_h2));
	list_del(&h->in_flush);
	list_del(&h->in_thread);
	nghttp2_session_del(h->ng);
	buffer_put(c->conn.t, &h->left);
	c->h2 = NULL;
	free(h);
}

static void lost(struct h2 *h)
{
	struct client *c = h->c;

	fini(h);
	client_close(c);
}

void h2_drain(struct client *c)
{
	struct h2 *h = c->h2;

	if (h->draining || h->wait == H2_ENDING)
		return;
	h->draining = true;
	wait_for(h, H2_DRAINING, H2_DRAIN_MS);
	nghttp2_submit_shutdown_notice(h->ng);
	h2_flush_soon(h);
}

void h2_drain_all(struct thread *t)
{
	struct h2 *h;

	LIST_EACH(h, &t->h2_sessions, in_thread)
		h2_drain(h->c);
}

void h2_say_last(struct h2 *h)
{
	if (!h->draining || h->last_said)
		return;
	h->last_said = true;
	nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(h->ng), NGHTTP2_NO_ERROR, NULL, 0);
	h2_wait_over(h);
	h2_flush_soon(h);
}

void h2_time(struct client *c)
{
	struct h2 *h = c->h2;
	enum h2_wait what = h->wait;

	h->wait = H2_BUSY; /* the timer is over */
	switch (what) {
	case H2_IDLE:
		h2_drain(c);
		return;
	case H2_HEAD:
		end_session(h, NGHTTP2_ENHANCE_YOUR_CALM);
		return;
	case H2_DRAINING:
		h2_say_last(h);
		return;
	case H2_ENDING:
		lost(h);
		return;
	case H2_BUSY:
		return;
	}
}

/* --- reading --- */

/* False: the session is gone. */
static bool feed(struct h2 *h, struct buffer *b)
{
	ssize_t n = nghttp2_session_mem_recv(h->ng, (const uint8_t *)b->data + b->at, b->len);

	b->len = 0;
	if (n >= 0)
		return true;
	if (n == NGHTTP2_ERR_FLOODED)
		shm_add(&h->c->conn.t->n->h2_calmed, 1);
	log_debug("h2.ended", "client=%s reason=\"%s\"", h->c->ip, nghttp2_strerror((int)n));
	lost(h);
	return false;
}

void h2_run(struct client *c)
{
	struct h2 *h = c->h2;

	for (int round = 0; nghttp2_session_want_read(h->ng) && h->wait != H2_ENDING; round++) {
		int n;

		if (c->conn.in && c->conn.in->len && !feed(h, c->conn.in))
			return;
		if (!c->conn.readable)
			break;
		if (round == PUMP_ROUNDS) {
			client_again(c);
			break;
		}
		n = conn_read(&c->conn);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			lost(h);
			return;
		}
	}
	buffer_put(c->conn.t, &c->conn.in);
	h2_wait(h);
	h2_flush_soon(h);
}

/* --- writing --- */

/* Sends b; what is left stays in it. 1: all out; 0: the socket takes no more; -1: broken. */
static int send_buffer(struct h2 *h, struct buffer *b)
{
	struct out o = {0};
	uint64_t sent = 0;
	uint32_t writes = 0;
	int n;

	if (!b->len)
		return 1;
	out_set_head(&o, b->data + b->at, b->len);
	n = conn_send(&h->c->conn, &o, &sent, &writes);
	b->at += (uint32_t)sent;
	b->len -= (uint32_t)sent;
	return n < 0 ? -1 : n;
}

static int send_left(struct h2 *h)
{
	int n = h->left ? send_buffer(h, h->left) : 1;

	if (n == 1)
		buffer_put(h->c->conn.t, &h->left);
	return n;
}

static int keep_left(struct h2 *h, const struct buffer *b)
{
	h->left = buffer_get(h->c->conn.t, b->len);
	if (!h->left)
		return -1;
	memcpy(h->left->data, b->data + b->at, b->len);
	h->left->len = b->len;
	return 0;
}

/* Takes frames out of nghttp2, as many as fit. 1: there may be more; 0: that was all; -1: broken. */
static int collect(struct h2 *h, struct buffer *b)
{
	b->at = b->len = 0;
	while (b->cap - b->len >= H2_FRAME) {
		const uint8_t *p;
		ssize_t n;

		h->full = false;
		n = nghttp2_session_mem_send(h->ng, &p);
		if (n <= 0)
			return n < 0 ? -1 : h->full;
		ensure((size_t)n <= b->cap - b->len);
		memcpy(b->data + b->len, p, (size_t)n);
		b->len += (uint32_t)n;
	}
	return 1;
}

/* 1: all out; 0: wait; -1: broken. */
static int send_all(struct h2 *h)
{
	struct buffer *b = h->c->conn.t->h2_out;

	for (;;) {
		int n = send_left(h), more;

		if (n <= 0)
			return n;
		more = collect(h, b);
		if (more < 0)
			return -1;
		n = send_buffer(h, b);
		if (n == 0)
			n = keep_left(h, b);
		if (n <= 0 || !more)
			return n;
	}
}

static void flush(struct h2 *h)
{
	struct client *c = h->c;
	int n = send_all(h);

	if (n < 0) {
		lost(h);
		return;
	}
	if (n > 0 && ((!nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng)) ||
		      (h->last_said && !h->stream_count))) {
		fini(h);
		client_linger(c);
		return;
	}
	h2_wait(h);
}

void h2_flush(struct thread *t)
{
	while (!list_empty(&t->h2_flush)) {
		struct h2 *h = container_of(t->h2_flush.next, struct h2, in_flush);

		list_del(&h->in_flush);
		flush(h);
	}
}

/* --- the beginning --- */

static bool submit_beginning(struct h2 *h)
{
	const struct table_limits *l = &h->c->conn.t->table->limits;
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->streams},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, l->header_bytes},
		{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, H2_TABLE_IN},
		{NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};

	return nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
	       nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, H2_WINDOW) == 0;
}

void h2_open(struct client *c)
{
	struct thread *t = c->conn.t;
	struct h2 *h = calloc(1, sizeof(*h));

	if (!t->h2_out) { /* the first of this thread */
		t->h2_out = buffer_get(t, H2_OUT);
		t->h2_streams.size = sizeof(struct h2_stream);
	}
	if (h) {
		h->c = c;
		h->wait = H2_BUSY;
		list_init(&h->streams);
		h->ng = h2_session_new(h);
	}
	if (!t->h2_out || !h || !h->ng || !submit_beginning(h)) {
		shm_add(&t->n->no_memory, 1);
		if (h)
			nghttp2_session_del(h->ng);
		free(h);
		client_close(c);
		return;
	}
	shm_add(&t->n->h2_connections, 1);
	list_add_tail(&t->h2_sessions, &h->in_thread);
	c->h2 = h;
	c->state = CLIENT_H2;
	h2_run(c);
}
