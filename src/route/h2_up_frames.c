/* SPDX-License-Identifier: Apache-2.0
 *
 * What nghttp2 calls back while it reads from a target and writes to it. Nothing here runs an exchange.
 */
#include "route/h2_priv.h"

static struct h2_ask *find(nghttp2_session *ng, int32_t id)
{
	return h2_ask_of_flow(id ? nghttp2_session_get_stream_user_data(ng, id) : NULL);
}

/* --- what comes in --- */

static int on_begin_frame(nghttp2_session *ng UNUSED, const nghttp2_frame_hd *hd, void *user)
{
	struct h2_link *l = user;

	switch (hd->type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION: /* a bound of so many for one HEADERS is nghttp2's */
	case NGHTTP2_RST_STREAM:   /* one for each that we began */
		return 0;
	case NGHTTP2_DATA: /* some measure the way by it */
		flood_credit(&l->flood, FLOOD_PING, 1);
		return 0;
	default:
		h2_note_control(l, hd->type);
		return 0;
	}
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2_link *l = user;
	struct h2_ask *a = find(ng, f->hd.stream_id);
	bool begun;

	l->list_bytes = 0;
	l->reading = NULL;
	if (!a || a->done || a->flow.trailer || a->text)
		return 0;
	begun = a->final ? h2_link_begin(l, &a->flow, &a->flow.trailer, HTTP1_TRAILER_MAX, H2_HEAD_TRAILER)
			 : h2_link_begin(l, &a->flow, &a->text, H2_UP_HEAD, H2_HEAD_ANSWER);
	l->head.to_head = a->flow.is_head;
	return begun ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void answer_complete(struct h2_ask *a, const struct h2_head *head, bool ended)
{
	struct buffer *text = a->text;

	a->text = NULL;
	if (a->flow.head_count > INTERIM_MAX) { /* more than will be read */
		buffer_put(a->up.conn.t, &text);
		h2_ask_reset(a, EPROTO, NGHTTP2_ENHANCE_YOUR_CALM);
		return;
	}
	a->final = head->status >= 200;
	a->flow.chunked = head->chunked;
	a->flow.remote_ended = ended;
	h2_flow_head(&a->flow, text);
}

static void headers_complete(struct h2_link *l, bool ended)
{
	struct h2_ask *a = h2_ask_of_flow(l->reading);

	h2_link_end(l, ended, NULL);
	if (a->flow.refused) {
		log_debug("h2.answer.bad", "target=%s reason=\"%s\"", a->up.target->name, a->flow.why);
		buffer_put(a->up.conn.t, &a->text);
		buffer_put(a->up.conn.t, &a->flow.trailer);
		h2_ask_reset(a, EPROTO, NGHTTP2_PROTOCOL_ERROR);
	} else if (l->head.kind == H2_HEAD_ANSWER) {
		answer_complete(a, &l->head, ended);
	} else {
		a->flow.remote_ended = ended;
		h2_flow_readable(&a->flow);
	}
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2_link *l = user;
	bool ended = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct h2_ask *a;

	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		if (l->reading && l->reading->id == f->hd.stream_id) {
			headers_complete(l, ended);
			return 0;
		}
		break;
	case NGHTTP2_DATA:
		if (!ended && f->hd.length == f->data.padlen)
			h2_note(l, FLOOD_EMPTY);
		break;
	case NGHTTP2_GOAWAY: /* nghttp2 closes the streams above its last one */
		h2_up_of(l)->closing = true;
		h2_flush_soon(l);
		return 0;
	default:
		return 0;
	}
	a = ended ? find(ng, f->hd.stream_id) : NULL;
	if (a && !a->done) {
		a->flow.remote_ended = true;
		h2_flow_readable(&a->flow);
	}
	return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags UNUSED, int32_t id, const uint8_t *p, size_t len,
		   void *user)
{
	struct h2_ask *a = find(ng, id);

	nghttp2_session_consume_connection(ng, len);
	h2_flush_soon(user);
	if (a && !a->done && !h2_flow_data(&a->flow, p, len))
		h2_ask_reset(a, ENOMEM, NGHTTP2_INTERNAL_ERROR);
	return 0;
}

/* --- what goes out --- */

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2_ask *a = find(ng, f->hd.stream_id);

	if (!a || (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA))
		return 0;
	if (!a->head_made)
		a->made_at = ((struct h2_link *)user)->writes;
	a->head_made = true;
	a->flow.local_ended |= (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user UNUSED)
{
	struct h2_ask *a = find(ng, id);

	if (!a)
		return 0;
	/* RFC 9113, 8.7: it does not work on it. Nor on what it never got. */
	a->up.unread = !a->final && (code == NGHTTP2_REFUSED_STREAM || !a->head_made);
	a->up.reused = false; /* it is not the connection that has ended */
	h2_ask_over(a);
	return 0;
}

void h2_up_frames_set(nghttp2_session_callbacks *cb)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
}
