/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of HTTP/2, as a connection that speaks HTTP/1.1: it has this layer where others
 * have a socket. Read from it comes text, made of what the session got:
 *
 *	a head, as soon as it is whole    body, in chunks when no length was told    last chunk, trailer
 *
 * and the text that is sent to it is taken apart into frames. That text was made by us, of
 * what was checked: a head comes whole, a trailer section does too, and whatever does not fit
 * is refused whole, to come again.
 *
 *	HEAD ──1xx──> HEAD
 *	  └──> BODY ──length reached──> OVER
 *	         └──last chunk──> TRAILER ──> OVER
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

/* --- fields --- */

static bool is_left_out(const struct http1_head *head, const struct http1_header *f, bool tunnel)
{
	static const char accept[] = "sec-websocket-accept";

	/* RFC 8441, 5: what proves the switch in HTTP/1.1 has no place here. */
	return http1_is_hop(head, f) || (tunnel && http1_is(f->name, accept));
}

/* nghttp2 copies names and values, and makes the names lower case. */
size_t h2_flow_fields(const struct http1_head *head, bool tunnel, nghttp2_nv *ret)
{
	size_t n = 0;

	for (uint32_t i = 0; i < head->header_count; i++) {
		const struct http1_header *f = &head->headers[i];

		if (is_left_out(head, f, tunnel))
			continue;
		ret[n++] = (nghttp2_nv){.name = (uint8_t *)f->name.p, .namelen = f->name.len,
					.value = (uint8_t *)f->value.p, .valuelen = f->value.len};
	}
	return n;
}

static int submit_trailer(struct h2_flow *f)
{
	struct http1_head *head = &f->conn->t->head;
	struct buffer *b = f->out_trailer;
	nghttp2_nv nv[HTTP1_HEADERS_MAX];
	size_t scanned = 0;
	const char *why;

	if (http1_trailer(b->data, b->len, &scanned, head, &why) != HTTP1_DONE)
		return -1;
	return nghttp2_submit_trailer(f->link->ng, f->id, nv, h2_flow_fields(head, f->tunnel, nv));
}

/* --- body --- */

/* The other end made us cut small what could have been more: cheap for it, not for us. */
static void note_tiny(struct h2_flow *f, size_t length)
{
	if (length < H2_TINY && length < f->out->len)
		h2_note(f->link, FLOOD_TINY);
}

static ssize_t on_read(nghttp2_session *ng UNUSED, int32_t id UNUSED, uint8_t *p UNUSED, size_t length,
		       uint32_t *flags, nghttp2_data_source *source, void *user UNUSED)
{
	struct h2_flow *f = source->ptr;
	const struct buffer *out = f->conn->t->h2_out;
	uint32_t len = f->out ? f->out->len : 0;

	if (!len && f->state != OUT_OVER) {
		f->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (out->cap - out->len < MIN(len, length) + 9) {
		f->link->full = true;
		return NGHTTP2_ERR_PAUSE;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (len > length) {
		note_tiny(f, length);
		return (ssize_t)length;
	}
	if (f->state == OUT_OVER) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (f->out_trailer && submit_trailer(f) == 0)
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	}
	return (ssize_t)len;
}

nghttp2_data_provider h2_flow_body(struct h2_flow *f)
{
	return (nghttp2_data_provider){.source.ptr = f, .read_callback = on_read};
}

int h2_flow_send_data(nghttp2_session *ng UNUSED, nghttp2_frame *frame, const uint8_t *head, size_t len,
		      nghttp2_data_source *source, void *user)
{
	struct h2_link *l = user;
	struct h2_flow *f = source->ptr;
	struct thread *t = l->conn->t;
	struct buffer *to = t->h2_out;

	ensure(to->cap - to->len >= len + 9 && frame->data.padlen == 0);
	memcpy(to->data + to->len, head, 9);
	to->len += 9;
	if (len) {
		memcpy(to->data + to->len, f->out->data + f->out->at, len);
		to->len += (uint32_t)len;
		f->out->at += (uint32_t)len;
		f->out->len -= (uint32_t)len;
		if (!f->out->len)
			buffer_put(t, &f->out);
	}
	flood_credit(&l->flood, FLOOD_WINDOW, 2);
	flood_credit(&l->flood, FLOOD_PING, 1); /* some measure the way by it */
	if (!f->conn->writable) {
		f->conn->writable = true;
		l->role->wake(f);
	}
	return 0;
}

static void resume(struct h2_flow *f)
{
	if (!f->deferred)
		return;
	f->deferred = false;
	nghttp2_session_resume_data(f->link->ng, f->id);
}

/* Room at the end of what waits to be sent; 0: none. */
static uint32_t out_room(struct h2_flow *f, size_t len)
{
	struct buffer *b = f->out;

	if (!b)
		b = f->out = buffer_get(f->conn->t, len <= BUFFER_SMALL ? BUFFER_SMALL : BUFFER_LARGE);
	if (!b)
		return 0;
	if (b->at && b->at + b->len == b->cap) {
		memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
	}
	return b->cap - b->at - b->len;
}

static ssize_t take_body(struct h2_flow *f, const char *p, size_t len)
{
	uint32_t n = (uint32_t)MIN(out_room(f, len), len);
	char *to;
	size_t data, used;
	const char *why;
	enum http1_result r = HTTP1_MORE;

	if (!n)
		return f->out ? 0 : -1;
	if (f->framing == HTTP1_BODY_LENGTH)
		n = (uint32_t)MIN(n, f->left);
	to = f->out->data + f->out->at + f->out->len;
	memcpy(to, p, n);
	data = used = n;
	if (f->framing == HTTP1_BODY_CHUNKED)
		r = http1_dechunk(&f->dechunk, to, &data, &used, &why);
	if (r == HTTP1_BAD)
		return -1;
	f->out->len += (uint32_t)data;
	f->left -= f->framing == HTTP1_BODY_LENGTH ? n : 0;
	if (r == HTTP1_DONE)
		f->state = OUT_TRAILER;
	else if (f->framing == HTTP1_BODY_LENGTH && !f->left)
		f->state = OUT_OVER;
	if (!f->out->len)
		buffer_put(f->conn->t, &f->out);
	resume(f);
	return (ssize_t)used;
}

static ssize_t take_trailer(struct h2_flow *f, const char *p, size_t len)
{
	struct thread *t = f->conn->t;
	size_t scanned = 0;
	const char *why;

	if (http1_trailer(p, len, &scanned, &t->head, &why) != HTTP1_DONE)
		return -1;
	if (t->head.header_count) {
		f->out_trailer = buffer_get(t, t->head.head_len);
		if (!f->out_trailer)
			return -1;
		memcpy(f->out_trailer->data, p, t->head.head_len);
		f->out_trailer->len = t->head.head_len;
	}
	f->state = OUT_OVER;
	resume(f);
	return (ssize_t)t->head.head_len;
}

/* How much of the text was taken; -1: it is wrong, which is ours or its maker's fault. */
static ssize_t take(struct h2_flow *f, const char *p, size_t len)
{
	size_t took = 0;

	while (took < len) {
		ssize_t n = 0;

		switch (f->state) {
		case OUT_HEAD:
			n = f->link->role->take_head(f, p + took, len - took);
			break;
		case OUT_BODY:
			n = take_body(f, p + took, len - took);
			break;
		case OUT_TRAILER:
			n = take_trailer(f, p + took, len - took);
			break;
		case OUT_OVER: /* of an error page to HEAD, say */
			return (ssize_t)len;
		}
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		took += (size_t)n;
	}
	return (ssize_t)took;
}

static ssize_t flow_send(struct conn *c, const struct iovec *v, size_t n)
{
	struct h2_flow *f = c->layer_state;
	ssize_t total = 0;

	for (size_t i = 0; i < n && !f->closed; i++) {
		ssize_t took = take(f, v[i].iov_base, v[i].iov_len);

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
	resume(f);
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
	c->layer = &h2_flow_layer;
	c->layer_state = f;
}
