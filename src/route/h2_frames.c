/* SPDX-License-Identifier: Apache-2.0
 *
 * What nghttp2 calls back while it reads and writes. Nothing here runs an exchange.
 */
#include "route/h2_priv.h"

static struct h2_stream *find(nghttp2_session *ng, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(ng, id) : NULL;
}

/* --- what comes in --- */

static int on_begin_frame(nghttp2_session *ng UNUSED, const nghttp2_frame_hd *hd, void *user)
{
	struct h2 *h = user;

	switch (hd->type) {
	case NGHTTP2_DATA:
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION: /* a bound of so many for one HEADERS is nghttp2's */
		return 0;
	case NGHTTP2_RST_STREAM:
		h2_note(h, FLOOD_RESET);
		return 0;
	case NGHTTP2_SETTINGS:
		h2_note(h, FLOOD_SETTINGS);
		return 0;
	case NGHTTP2_PING:
		h2_note(h, FLOOD_PING);
		return 0;
	case NGHTTP2_WINDOW_UPDATE:
		h2_note(h, FLOOD_WINDOW);
		return 0;
	default:
		h2_note(h, FLOOD_PRIORITY);
		return 0;
	}
}

static uint32_t most(const struct h2 *h)
{
	return MIN(h->c->conn.t->table->limits.header_bytes, BUFFER_MOST - 16);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *h = user;
	struct thread *t = h->c->conn.t;
	bool trailer = f->headers.cat != NGHTTP2_HCAT_REQUEST;
	struct h2_stream *s = trailer ? find(ng, f->hd.stream_id) : h2_stream_new(h, f->hd.stream_id);
	struct buffer **b;

	h->list_bytes = 0;
	h->reading = NULL;
	if (h->wait == H2_HEAD) /* for the one before */
		h2_wait_over(h);
	if (trailer && (!s || s->done || s->trailer))
		return 0;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!trailer)
		nghttp2_session_set_stream_user_data(ng, s->id, s);
	b = trailer ? &s->trailer : &s->client.conn.in;
	*b = buffer_get(t, BUFFER_SMALL);
	if (!*b)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	h2_head_begin(&h->head, (*b)->data, (*b)->cap, trailer ? HTTP1_TRAILER_MAX : most(h), trailer);
	h->reading = s;
	return 0;
}

static struct buffer **text_of(struct h2 *h)
{
	return h->head.trailer ? &h->reading->trailer : &h->reading->client.conn.in;
}

static bool more_room(struct h2 *h)
{
	struct buffer **b = text_of(h), *more = buffer_get(h->c->conn.t, (*b)->cap * 2);

	if (!more) {
		h->head.why = "out of memory";
		return false;
	}
	memcpy(more->data, (*b)->data, h->head.len);
	buffer_put(h->c->conn.t, b);
	*b = more;
	h->head.p = more->data;
	h->head.cap = more->cap;
	return true;
}

static void note_result(struct h2 *h, enum http1_result r)
{
	if (r == HTTP1_DONE || h->reading->refused)
		return;
	h->reading->refused = r == HTTP1_MORE ? HTTP1_LONG_HEAD : r;
	h->reading->why = h->head.why;
}

static int on_header(nghttp2_session *ng UNUSED, const nghttp2_frame *f UNUSED, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags UNUSED,
		     void *user)
{
	struct h2 *h = user;
	struct http1_slice n = {(const char *)name, (uint32_t)name_len},
			   v = {(const char *)value, (uint32_t)value_len};
	enum http1_result r;

	h->list_bytes += name_len + value_len + 32;
	if (h->list_bytes > (uint64_t)H2_BOMB * most(h))
		h2_calm(h);
	if (!h->reading || h->reading->refused)
		return 0;
	do
		r = h2_head_field(&h->head, n, v);
	while (r == HTTP1_MORE && more_room(h));
	note_result(h, r);
	return 0;
}

/* nghttp2 would leave the field out and go on; others may not. */
static int on_invalid_header(nghttp2_session *ng UNUSED, const nghttp2_frame *f UNUSED,
			     const uint8_t *name UNUSED, size_t name_len UNUSED,
			     const uint8_t *value UNUSED, size_t value_len UNUSED,
			     uint8_t flags UNUSED, void *user UNUSED)
{
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* Random enough: the answer to it proves to the client only that its question was read. */
static void make_key(struct thread *t, char ret[H2_KEY_LEN])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (int i = 0; i < 21; i++)
		ret[i] = digits[thread_random(t) & 63];
	memcpy(ret + 21, "A==", 3); /* 16 bytes */
}

/* Of a trailer section that nobody should get to see. */
static void refuse_trailer(struct h2_stream *s)
{
	buffer_put(s->client.conn.t, &s->trailer);
	nghttp2_submit_rst_stream(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_PROTOCOL_ERROR);
}

static void request_complete(struct h2_stream *s, const struct h2_head *head, bool ended)
{
	const struct h2_span *method = &head->pseudo[H2_METHOD];

	s->remote_ended = ended;
	s->tunnel = h2_head_is_tunnel(head);
	s->chunked = !s->tunnel && !ended && !head->length;
	s->is_head = method->len == 4 && memcmp(head->p + method->at, "HEAD", 4) == 0;
	client_again(&s->client);
}

static void headers_complete(struct h2 *h, bool ended)
{
	struct h2_stream *s = h->reading;
	struct h2_head *head = &h->head;
	char key[H2_KEY_LEN];
	enum http1_result r;
	struct buffer *b;

	if (h2_head_is_tunnel(head))
		make_key(h->c->conn.t, key);
	do
		r = s->refused ? HTTP1_DONE : h2_head_end(head, ended, key);
	while (r == HTTP1_MORE && more_room(h));
	note_result(h, r);
	b = *text_of(h);
	b->at = head->start;
	b->len = head->len - head->start;
	h->reading = NULL;
	if (!head->trailer) {
		request_complete(s, head, ended);
	} else if (s->refused) {
		refuse_trailer(s);
	} else {
		s->remote_ended = ended;
		h2_stream_readable(s);
	}
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *h = user;
	bool ended = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct h2_stream *s;

	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		if (h->reading && h->reading->id == f->hd.stream_id) {
			headers_complete(h, ended);
			return 0;
		}
		break;
	case NGHTTP2_DATA:
		if (!ended && f->hd.length == f->data.padlen)
			h2_note(h, FLOOD_EMPTY);
		break;
	case NGHTTP2_PING:
		if (f->hd.flags & NGHTTP2_FLAG_ACK)
			h2_say_last(h);
		return 0;
	default:
		return 0;
	}
	s = ended ? find(ng, f->hd.stream_id) : NULL;
	if (s) {
		s->remote_ended = true;
		h2_stream_readable(s);
	}
	return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags UNUSED, int32_t id, const uint8_t *p, size_t len,
		   void *user)
{
	struct h2 *h = user;
	struct h2_stream *s = find(ng, id);

	if (s && !s->done) {
		if (h2_stream_data(s, p, len))
			return 0;
		s->cut = true;
		nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
	}
	/* Nobody reads it. The stream gets no more window, the others need theirs. */
	nghttp2_session_consume_connection(ng, len);
	h2_flush_soon(h);
	return 0;
}

/* --- what goes out --- */

static int on_send_data(nghttp2_session *ng UNUSED, nghttp2_frame *f, const uint8_t *head, size_t len,
			nghttp2_data_source *source, void *user)
{
	struct h2 *h = user;
	struct h2_stream *s = source->ptr;
	struct thread *t = h->c->conn.t;
	struct buffer *to = t->h2_out;

	ensure(to->cap - to->len >= len + 9 && f->data.padlen == 0);
	memcpy(to->data + to->len, head, 9);
	to->len += 9;
	if (len) {
		memcpy(to->data + to->len, s->out->data + s->out->at, len);
		to->len += (uint32_t)len;
		s->out->at += (uint32_t)len;
		s->out->len -= (uint32_t)len;
		if (!s->out->len)
			buffer_put(t, &s->out);
	}
	flood_credit(&h->flood, FLOOD_WINDOW, 2);
	flood_credit(&h->flood, FLOOD_PING, 1); /* some measure the way by it */
	if (!s->client.conn.writable) {
		s->client.conn.writable = true;
		if (s->client.x)
			client_again(&s->client);
	}
	return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *h = user;
	struct h2_stream *s = find(ng, f->hd.stream_id);

	if (f->hd.type == NGHTTP2_RST_STREAM) {
		/* What makes us reset costs as much as a reset. */
		if (f->rst_stream.error_code != NGHTTP2_NO_ERROR && !(s && s->cut))
			h2_note(h, FLOOD_RESET);
		return 0;
	}
	/* Only now: a PING overtakes what waits to be sent. */
	if (f->hd.type == NGHTTP2_GOAWAY && h->draining && !h->last_said)
		nghttp2_submit_ping(ng, NGHTTP2_FLAG_NONE, NULL);
	if (!s || !(f->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
	    (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA))
		return 0;
	s->local_ended = true;
	flood_credit(&h->flood, FLOOD_RESET, 1);
	if (s->done)
		h2_stream_linger(s);
	return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code UNUSED, void *user)
{
	struct h2 *h = user;
	struct h2_stream *s = find(ng, id);

	if (!s)
		return 0;
	if (h->reading == s)
		h->reading = NULL;
	s->closed = true;
	s->client.conn.broken = true;
	h2_stream_dropped(s);
	if (s->client.x)
		client_again(&s->client);
	else
		h2_stream_free(s);
	return 0;
}

/* --- memory ---
 *
 * A session holds a buffer of 16 KiB in which a frame is made, from one call of
 * nghttp2_session_mem_send() to the next. No frame of ours is left in there (what a call returns is
 * copied at once; of DATA, only its head is made there, and only when there is room for the whole:
 * on_read() pauses else), so all sessions of a thread share one: it is most of what an idle
 * connection would take. */

static bool is_shared(const struct h2 *h, const void *p)
{
	return p && p == h->c->conn.t->h2_frame;
}

static void *mem_realloc(void *p, size_t n, void *user)
{
	struct h2 *h = user;
	struct thread *t = h->c->conn.t;
	void *more;

	if (!p && h->making && n >= H2_FRAME_MIN && n <= H2_FRAME) {
		h->making = false; /* one for each session; a frame in several pieces has more */
		if (!t->h2_frame)
			t->h2_frame = malloc(H2_FRAME);
		return t->h2_frame;
	}
	if (!is_shared(h, p))
		return realloc(p, n);
	if (n <= H2_FRAME)
		return p;
	more = malloc(n);
	return more ? memcpy(more, p, H2_FRAME) : NULL;
}

static void *mem_malloc(size_t n, void *user)
{
	return mem_realloc(NULL, n, user);
}

static void *mem_calloc(size_t n, size_t size, void *user UNUSED)
{
	return calloc(n, size);
}

static void mem_free(void *p, void *user)
{
	if (!is_shared(user, p))
		free(p);
}

nghttp2_session *h2_session_new(struct h2 *h)
{
	nghttp2_mem mem = {h, mem_malloc, mem_free, mem_calloc, mem_realloc};

	nghttp2_session_callbacks *cb = NULL;
	nghttp2_option *o = NULL;
	nghttp2_session *ng = NULL;

	if (nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&o) == 0) {
		nghttp2_option_set_no_auto_window_update(o, 1);
		nghttp2_option_set_no_closed_streams(o, 1);
		nghttp2_option_set_max_deflate_dynamic_table_size(o, H2_TABLE_OUT);
		nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
		nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
		nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
		nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
		nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
		nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
		h->making = true;
		if (nghttp2_session_server_new3(&ng, cb, h, o, &mem) != 0)
			ng = NULL;
		h->making = false;
	}
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(o);
	return ng;
}
