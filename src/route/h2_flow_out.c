/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of HTTP/1.1 that is sent to a flow (h2_flow.c) becomes frames. It was made by us, of what was
 * checked: a head comes whole, a trailer section does too, and whatever does not fit is refused whole, to
 * come again.
 *
 *	HEAD ──1xx──> HEAD
 *	  └──> BODY ──length reached──> OVER
 *	         └──last chunk──> TRAILER ──> OVER
 */
#include "route/h2_priv.h"

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

void h2_flow_resume(struct h2_flow *f)
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
	h2_flow_resume(f);
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
	h2_flow_resume(f);
	return (ssize_t)t->head.head_len;
}

ssize_t h2_flow_take(struct h2_flow *f, const char *p, size_t len)
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
