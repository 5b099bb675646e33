/* SPDX-License-Identifier: Apache-2.0
 *
 * What nghttp2 calls back while it reads and writes. Nothing here runs an exchange.
 */
#include "route/h2_priv.h"

static struct h2_stream *find(nghttp2_session *ng, int32_t id)
{
	return h2_stream_of_flow(id ? nghttp2_session_get_stream_user_data(ng, id) : NULL);
}

/* --- what comes in --- */

static int on_begin_frame(nghttp2_session *ng UNUSED, const nghttp2_frame_hd *hd, void *user)
{
	struct h2_link *l = user;

	switch (hd->type) {
	case NGHTTP2_DATA:
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION: /* a bound of so many for one HEADERS is nghttp2's */
		return 0;
	case NGHTTP2_RST_STREAM:
		h2_note(l, FLOOD_RESET);
		return 0;
	default:
		h2_note_control(l, hd->type);
		return 0;
	}
}

static uint32_t most(const struct h2 *h)
{
	return MIN(h->c->conn.t->table->limits.header_bytes, BUFFER_MOST - 16);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *h = h2_of(user);
	bool trailer = f->headers.cat != NGHTTP2_HCAT_REQUEST;
	struct h2_stream *s = trailer ? find(ng, f->hd.stream_id) : h2_stream_new(h, f->hd.stream_id);
	bool begun;

	h->link.list_bytes = 0;
	h->link.most = most(h);
	h->link.reading = NULL;
	if (h->wait == H2_HEAD) /* for the one before */
		h2_wait_over(h);
	if (trailer && (!s || s->done || s->flow.trailer))
		return 0;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!trailer)
		nghttp2_session_set_stream_user_data(ng, s->flow.id, &s->flow);
	begun = trailer ? h2_link_begin(&h->link, &s->flow, &s->flow.trailer, HTTP1_TRAILER_MAX, H2_HEAD_TRAILER)
			: h2_link_begin(&h->link, &s->flow, &s->client.conn.in, most(h), H2_HEAD_REQUEST);
	return begun ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
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
	buffer_put(s->client.conn.t, &s->flow.trailer);
	nghttp2_submit_rst_stream(s->h2->link.ng, NGHTTP2_FLAG_NONE, s->flow.id, NGHTTP2_PROTOCOL_ERROR);
}

static void request_complete(struct h2_stream *s, const struct h2_head *head, bool ended)
{
	const struct h2_span *method = &head->pseudo[H2_METHOD];
	struct h2_flow *f = &s->flow;

	f->remote_ended = ended;
	f->tunnel = h2_head_is_tunnel(head);
	f->chunked = !f->tunnel && !ended && !head->length;
	f->is_head = method->len == 4 && memcmp(head->p + method->at, "HEAD", 4) == 0;
	client_again(&s->client);
}

static void headers_complete(struct h2 *h, bool ended)
{
	struct h2_stream *s = h2_stream_of_flow(h->link.reading);
	struct h2_head *head = &h->link.head;
	char key[H2_KEY_LEN];

	if (h2_head_is_tunnel(head))
		make_key(h->c->conn.t, key);
	h2_link_end(&h->link, ended, key);
	if (head->kind == H2_HEAD_REQUEST) {
		request_complete(s, head, ended);
	} else if (s->flow.refused) {
		refuse_trailer(s);
	} else {
		s->flow.remote_ended = ended;
		h2_flow_readable(&s->flow);
	}
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *h = h2_of(user);
	bool ended = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct h2_stream *s;

	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		if (h->link.reading && h->link.reading->id == f->hd.stream_id) {
			headers_complete(h, ended);
			return 0;
		}
		break;
	case NGHTTP2_DATA:
		if (!ended && f->hd.length == f->data.padlen)
			h2_note(&h->link, FLOOD_EMPTY);
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
		s->flow.remote_ended = true;
		h2_flow_readable(&s->flow);
	}
	return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags UNUSED, int32_t id, const uint8_t *p, size_t len,
		   void *user)
{
	struct h2_stream *s = find(ng, id);

	if (s && !s->done) {
		if (h2_flow_data(&s->flow, p, len))
			return 0;
		s->cut = true;
		nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
	}
	/* Nobody reads it. The stream gets no more window, the others need theirs. */
	nghttp2_session_consume_connection(ng, len);
	h2_flush_soon(user);
	return 0;
}

/* --- what goes out --- */

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *h = h2_of(user);
	struct h2_stream *s = find(ng, f->hd.stream_id);

	if (f->hd.type == NGHTTP2_RST_STREAM) {
		/* What makes us reset costs as much as a reset. */
		if (f->rst_stream.error_code != NGHTTP2_NO_ERROR && !(s && s->cut))
			h2_note(&h->link, FLOOD_RESET);
		return 0;
	}
	/* Only now: a PING overtakes what waits to be sent. */
	if (f->hd.type == NGHTTP2_GOAWAY && h->draining && !h->last_said)
		nghttp2_submit_ping(ng, NGHTTP2_FLAG_NONE, NULL);
	if (!s || !(f->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
	    (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA))
		return 0;
	s->flow.local_ended = true;
	flood_credit(&h->link.flood, FLOOD_RESET, 1);
	if (s->done)
		h2_stream_linger(s);
	return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code UNUSED, void *user)
{
	struct h2_link *l = user;
	struct h2_stream *s = find(ng, id);

	if (!s)
		return 0;
	if (l->reading == &s->flow)
		l->reading = NULL;
	s->flow.closed = true;
	s->client.conn.broken = true;
	h2_flow_dropped(&s->flow);
	if (s->client.x)
		client_again(&s->client);
	else
		h2_stream_free(s);
	return 0;
}

void h2_frames_set(nghttp2_session_callbacks *cb)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
}
