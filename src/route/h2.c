/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's connection that speaks HTTP/2 (RFC 9113): one nghttp2 session over it,
 * and for each stream a client of its own (h2_stream.c), which everything behind it
 * takes for one that speaks HTTP/1.1. So routing, waiting, retrying and counting stay one.
 *
 *	socket ──read──> nghttp2 ──text of requests──> struct client, one a stream ──> exchanges
 *	socket <─write── flush, once a turn <── nghttp2 <──text of answers───────────┘
 *
 * The end in order is told in two steps (RFC 9113, 6.8): GOAWAY for no stream yet, and
 * when the echo of a PING says that what was on its way is here, the one with the last.
 */
#include "route/h2_priv.h"

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
	if (h->link.reading)
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
	nghttp2_session_terminate_session(h->link.ng, code);
	wait_for(h, H2_ENDING, H2_END_MS);
	h2_flush_soon(&h->link);
}

void h2_calm(struct h2_link *l)
{
	struct h2 *h = h2_of(l);

	if (h->wait == H2_ENDING)
		return;
	shm_add(&l->conn->t->n->h2_calmed, 1);
	end_session(h, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* --- the end --- */

/* Of the session, not of the connection. */
static void fini(struct h2 *h)
{
	struct client *c = h->c;
	struct h2_stream *s;

	LIST_EACH(s, &h->streams, in_h2)
		s->flow.closed = s->client.conn.broken = true;
	while (!list_empty(&h->streams))
		h2_stream_gone(container_of(h->streams.next, struct h2_stream, in_h2));
	list_del(&h->in_thread);
	h2_link_fini(&h->link);
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
	nghttp2_submit_shutdown_notice(h->link.ng);
	h2_flush_soon(&h->link);
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
	nghttp2_submit_goaway(h->link.ng, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(h->link.ng), NGHTTP2_NO_ERROR, NULL, 0);
	h2_wait_over(h);
	h2_flush_soon(&h->link);
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
static bool feed(struct h2 *h)
{
	ssize_t n = h2_link_feed(&h->link);

	if (n >= 0)
		return true;
	log_debug("h2.ended", "client=%s reason=\"%s\"", h->c->ip, nghttp2_strerror((int)n));
	lost(h);
	return false;
}

void h2_run(struct client *c)
{
	struct h2 *h = c->h2;

	for (int round = 0; nghttp2_session_want_read(h->link.ng) && h->wait != H2_ENDING; round++) {
		int n;

		if (c->conn.in && c->conn.in->len && !feed(h))
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
	h2_flush_soon(&h->link);
}

static void flushed(struct h2_link *l, int result)
{
	struct h2 *h = h2_of(l);
	struct client *c = h->c;

	if (result < 0) {
		lost(h);
		return;
	}
	if (result > 0 && ((!nghttp2_session_want_read(l->ng) && !nghttp2_session_want_write(l->ng)) ||
			   (h->last_said && !h->stream_count))) {
		fini(h);
		client_linger(c);
		return;
	}
	h2_wait(h);
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

	return nghttp2_submit_settings(h->link.ng, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
	       nghttp2_session_set_local_window_size(h->link.ng, NGHTTP2_FLAG_NONE, 0, H2_WINDOW) == 0;
}

void h2_open(struct client *c)
{
	static const struct h2_role role = {flushed, h2_calm, h2_stream_wake, h2_answer_head};
	struct thread *t = c->conn.t;
	struct h2 *h = calloc(1, sizeof(*h));

	t->h2_streams.size = sizeof(struct h2_stream);
	if (h) {
		h->link.role = &role;
		h->link.conn = &c->conn;
		h->c = c;
		h->wait = H2_BUSY;
		list_init(&h->streams);
	}
	if (!h || !h2_link_open(&h->link, true, h2_frames_set) || !submit_beginning(h)) {
		shm_add(&t->n->no_memory, 1);
		if (h)
			h2_link_fini(&h->link);
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
