/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of HTTP/2, as a connection that speaks HTTP/1.1: it has this layer where others
 * have a socket. Read from it comes text, made of what the session got:
 *
 *	a head, as soon as it is whole    body, in chunks when no length was told    last chunk, trailer
 *
 * and the text that is sent to it is taken apart into frames (h2_flow_out.c).
 *
 * Window is given back as the exchange reads: what the other end may send ahead is bounded by
 * the windows, and no buffer is held while there are no bytes.
 */
#include "route/h2_priv.h"

/* --- what is read --- */

bool h2_flow_data(struct h2_flow *f, const uint8_t *p, size_t len)
{
	struct thread *t = f->conn->t;

	while (len) {
		struct buffer *b = f->body_last;
		uint32_t n;

		if (!b || b->at + b->len == b->cap) {
			b = buffer_get(t, f->queued || len > BUFFER_SMALL ? BUFFER_LARGE : BUFFER_SMALL);
			if (!b)
				return false;
			b->next = NULL;
			if (f->body)
				f->body_last->next = b;
			else
				f->body = b;
			f->body_last = b;
		}
		n = (uint32_t)MIN(len, b->cap - b->at - b->len);
		memcpy(b->data + b->at + b->len, p, n);
		b->len += n;
		f->queued += n;
		p += n;
		len -= n;
	}
	h2_flow_readable(f);
	return true;
}

void h2_flow_readable(struct h2_flow *f)
{
	f->conn->readable = true;
	f->link->role->wake(f);
}

void h2_flow_head(struct h2_flow *f, struct buffer *text)
{
	struct buffer **last = &f->heads;

	while (*last)
		last = &(*last)->next;
	text->next = NULL;
	*last = text;
	f->head_count++;
	h2_flow_readable(f);
}

static void pop(struct h2_flow *f)
{
	struct buffer *b = f->body;

	f->body = b->next;
	buffer_put(f->conn->t, &b);
	if (!f->body)
		f->body_last = NULL;
}

void h2_flow_dropped(struct h2_flow *f)
{
	while (f->body)
		pop(f);
	if (f->queued && !f->link->ahead) {
		nghttp2_session_consume_connection(f->link->ng, f->queued);
		h2_flush_soon(f->link);
	}
	f->queued = f->piece = 0;
}

/* What comes next, when no piece is in hand: framing, or nothing. */
static bool next_piece(struct h2_flow *f)
{
	if (f->queued) {
		f->piece = f->queued;
		f->frame = f->line;
		if (f->chunked)
			f->frame_len = (uint32_t)snprintf(f->line, sizeof(f->line), "%x\r\n", f->piece);
		return true;
	}
	if (!f->remote_ended || f->end_read)
		return false;
	f->end_read = true;
	if (!f->chunked)
		return false;
	f->frame = f->trailer ? f->trailer->data : "0\r\n\r\n";
	f->frame_len = f->trailer ? f->trailer->len : 5;
	return true;
}

static uint32_t read_head(struct h2_flow *f, char *p, uint32_t room)
{
	struct buffer *b = f->heads;
	uint32_t n = MIN(room, b->len);

	memcpy(p, b->data + b->at, n);
	b->at += n;
	b->len -= n;
	if (b->len)
		return n;
	f->heads = b->next;
	f->head_count--;
	buffer_put(f->conn->t, &b);
	return n;
}

static uint32_t read_frame(struct h2_flow *f, char *p, uint32_t room)
{
	uint32_t n = MIN(room, f->frame_len);

	memcpy(p, f->frame, n);
	f->frame += n;
	f->frame_len -= n;
	return n;
}

static uint32_t read_body(struct h2_flow *f, char *p, uint32_t room)
{
	struct buffer *b = f->body;
	uint32_t n = MIN(MIN(room, f->piece), b->len);

	memcpy(p, b->data + b->at, n);
	b->at += n;
	b->len -= n;
	if (!b->len)
		pop(f);
	f->queued -= n;
	f->piece -= n;
	if (!f->piece && f->chunked) {
		f->frame = "\r\n";
		f->frame_len = 2;
	}
	return n;
}

/* On a long way, a window is what one round trip brings. Whose reader has taken a whole one, and waits, may
 * send twice as much ahead; whose reader is slow may not, so that the window of the connection stays for others. */
static void grow_window(struct h2_flow *f, uint32_t took)
{
	f->taken += took;
	if (f->queued || f->taken < f->window || f->window >= H2_STREAM_MOST)
		return;
	f->taken = 0;
	f->window = MIN(2 * f->window, H2_STREAM_MOST);
	nghttp2_session_set_local_window_size(f->link->ng, NGHTTP2_FLAG_NONE, f->id, (int32_t)f->window);
}

static ssize_t flow_recv(struct conn *c, void *p, size_t room)
{
	struct h2_flow *f = c->layer_state;
	uint32_t got = 0, before = f->queued, most = (uint32_t)MIN(room, BUFFER_MOST);

	while (got < most) {
		if (f->heads)
			got += read_head(f, (char *)p + got, most - got);
		else if (f->frame_len)
			got += read_frame(f, (char *)p + got, most - got);
		else if (f->piece)
			got += read_body(f, (char *)p + got, most - got);
		else if (!next_piece(f))
			break;
	}
	if (before != f->queued && !f->closed) {
		nghttp2_session_consume_stream(f->link->ng, f->id, before - f->queued);
		if (!f->link->ahead)
			nghttp2_session_consume_connection(f->link->ng, before - f->queued);
		grow_window(f, before - f->queued);
		h2_flush_soon(f->link);
	}
	if (got || f->end_read || (f->closed && !f->error))
		return (ssize_t)got;
	errno = f->closed ? f->error : EAGAIN;
	return -1;
}

/* --- what is sent --- */

static ssize_t flow_send(struct conn *c, const struct iovec *v, size_t n)
{
	struct h2_flow *f = c->layer_state;
	ssize_t total = 0;

	for (size_t i = 0; i < n && !f->closed; i++) {
		ssize_t took = h2_flow_take(f, v[i].iov_base, v[i].iov_len);

		if (took < 0) {
			log_debug("h2.text.bad", "stream=%d", f->id);
			errno = EPIPE;
			return -1;
		}
		total += took;
		if ((size_t)took < v[i].iov_len)
			break;
	}
	if (!f->closed)
		h2_flush_soon(f->link);
	if (total)
		return total;
	errno = f->closed ? EPIPE : EAGAIN;
	return -1;
}

/* A tunnel's end of our side. */
static int flow_shut(struct conn *c)
{
	struct h2_flow *f = c->layer_state;

	f->state = OUT_OVER;
	h2_flow_resume(f);
	h2_flush_soon(f->link);
	return 0;
}

/* --- its life --- */

static void flow_close(struct conn *c, bool hard UNUSED)
{
	struct h2_flow *f = c->layer_state;

	while (f->body)
		pop(f);
	for (struct buffer *b; (b = f->heads);) {
		f->heads = b->next;
		buffer_put(c->t, &b);
	}
	buffer_put(c->t, &f->trailer);
	buffer_put(c->t, &f->out);
	buffer_put(c->t, &f->out_trailer);
}

const struct conn_layer h2_flow_layer = {
	.recv = flow_recv, .send = flow_send, .shut = flow_shut, .close = flow_close};

void h2_flow_init(struct h2_flow *f, struct h2_link *l, struct conn *c)
{
	f->link = l;
	f->conn = c;
	f->error = ECONNRESET;
	f->window = H2_STREAM_FIRST;
	c->layer = &h2_flow_layer;
	c->layer_state = f;
}
